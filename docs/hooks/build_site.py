"""What MkDocs calls: pages that are generated, drawings put in, links that lead out of the docs."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

drawings: Any = importlib.import_module("drawings")
methods: Any = importlib.import_module("methods")

_MADE: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages, and name them in the navigation where it says ``methods/`` and ``api/``."""
    _MADE.update(methods.pages())
    _MADE.update(_api())
    for name, place in (("CONTRIBUTING.md", "contributing.md"), ("CHANGELOG.md", "changelog.md")):
        _MADE[place] = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    config.nav = _filled(config.nav)
    return config


def _filled(item: Any) -> Any:
    if isinstance(item, list):
        return [_filled(x) for x in item]
    if isinstance(item, dict):
        return {key: _filled(x) for key, x in item.items()}
    if isinstance(item, str) and item.endswith("/"):
        return [place for place in _MADE if place.startswith(item)]
    return item


def _api() -> dict[str, str]:
    """A page for the root package and for each public one; mkdocstrings fills them."""
    import reroot

    found = {"api/index.md": _api_page("reroot", [n for n in reroot.__all__ if n[0].isupper()])}
    for name in sorted(reroot._PACKAGES):
        module = importlib.import_module(f"reroot.{name}")
        found[f"api/{name}.md"] = _api_page(f"reroot.{name}", list(module.__all__))
    return found


def _api_page(module: str, names: list[str]) -> str:
    shown = "\n".join(f"      - {name}" for name in sorted(names))
    return f"# {module}\n\n::: {module}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n      members:\n{shown}\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made."""
    for place, text in _MADE.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Drawings, reasons why a block is not run, and links to files that are pages under another name."""
    markdown = re.sub(
        r"^<!-- drawing: ([\w-]+) -->$",
        lambda m: f'<figure class="drawn" tabindex="0">{drawings.svg(m[1])}</figure>',
        markdown,
        flags=re.MULTILINE,
    )
    markdown = re.sub(
        r"^( *)<!-- not run: (.*?) -->$",
        r'\1<p class="not-run">Not run by the tests: \2.</p>' + "\n",
        markdown,
        flags=re.MULTILINE,
    )
    return markdown.replace("](../CONTRIBUTING.md", "](contributing.md")


def on_post_page(output: str, **_: Any) -> str:
    """The search dialog of the theme has no name for screen readers."""
    return output.replace(
        'data-md-component="search" role="dialog"',
        'data-md-component="search" role="dialog" aria-label="Search"',
    )
