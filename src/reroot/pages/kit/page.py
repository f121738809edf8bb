"""Pages from templates: one self-contained file each, the same for equal input, its contents listed."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...contract import Control
from ...errors import visible
from ...runs.folder import write_atomically
from . import cells, contracts, formatting, plots
from .markup import Html, plain

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = Path(__file__).parents[2]
_MODULES = (formatting, cells, contracts, plots)
"""Templates may call every public function of these by its name, and use it as a filter."""


@functools.cache
def environment() -> Environment:
    """Templates of every page, ``suite/page.html`` say, and the kit's: all that is not ``Html`` is escaped, and
    what is undefined is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [Path(__file__).parent / "templates", _PACKAGE / "pages", _PACKAGE]
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    known = (item for module in _MODULES for item in vars(module).items())
    named = {n: f for n, f in known if inspect.isfunction(f) and not n.startswith("_")}
    made.filters.update(named)  # pyright: ignore[reportUnknownMemberType]
    known = {**named, "COLORS": plots.COLORS, "Control": Control}
    made.globals.update(known)  # pyright: ignore[reportUnknownMemberType]
    return made


def fragment(template: str, /, **context: Any) -> Html:
    """A template filled in: part of a page, or of a notebook."""
    return Html(environment().get_template(template).render(context))


def render(title: str, template: str, /, **context: Any) -> str:
    """A page whose body is ``template``; whatever text is in it, no control or bidi character is.

    Headings get anchors, those of the second level a list of contents; a table without a caption has the heading
    before it as one.
    """
    return document(title, fragment(template, **context))


def document(title: str, body: str) -> str:
    """The page around a body of HTML; see ``render``."""
    body, chapters = _anchored(body)
    before, header, rest = body.partition("</header>")
    parts = [Html(before + header), Html(rest)] if header else [Html(), Html(body)]
    page = fragment("base.html", title=title, parts=parts, chapters=chapters)
    return visible(f"{page}\n")


def write_page(path: Path, page: str) -> Path:
    """Write a page, whole or not at all; its path.

    Raises:
        RunFolderError: it cannot be written.
    """
    write_atomically(path, page)
    return path


_PARTS = re.compile(
    r"<(?P<tag>h[1-4])(?P<more>[^>]*)>(?P<said>.*?)</(?P=tag)>"
    r'|(?P<box><div class="wide" role="region" tabindex="0" aria-label=")(?P<name>[^"]*)(?P<table>"><table[^>]*>)'
    r'(?P<caption><caption class="unseen"></caption>)?',
    re.DOTALL,
)


def _anchored(body: str) -> tuple[str, list[tuple[str, str]]]:
    """The body with an id for every heading and a name of its own for every table; (id, text) of its chapters."""
    ids = set(re.findall(r'\bid="([^"]*)"', body))
    chapters, names, before = list[tuple[str, str]](), dict[str, int](), ""

    def own(name: str) -> str:
        names[name] = names.get(name, 0) + 1
        return name if names[name] == 1 else f"{name} ({names[name]})"

    def adapt(found: re.Match[str]) -> str:
        nonlocal before
        if tag := found["tag"]:
            before = " ".join(plain(Html(found["said"])).split())
            known = re.search(r'\bid="([^"]*)"', found["more"])
            at = known[1] if known else _slug(before, ids)
            if tag == "h2":
                chapters.append((at, before.partition(": ")[0]))
            return found[0] if known else f'<{tag} id="{at}"{found["more"]}>{found["said"]}</{tag}>'
        name = own(found["name"] or escape(before))
        caption = f'<caption class="unseen">{name}</caption>' if found["caption"] else ""
        return f"{found['box']}{name}{found['table']}{caption}"

    return _PARTS.sub(adapt, body), chapters


def _slug(text: str, taken: set[str]) -> str:
    """An id out of a heading, not taken yet."""
    short = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-") or "part"
    numbered = (f"{short}-{n}" for n in itertools.count(2))
    found = next(x for x in itertools.chain([short], numbered) if x not in taken)
    taken.add(found)
    return found
