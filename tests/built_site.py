"""The built site loads nothing from elsewhere, and every picture and table can be read: ``make docs``."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "use": "href",
}
"""Tags whose attribute a browser follows by itself."""


class Loads(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.unlabelled = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        passive = tag == "link" and given.get("rel") in ("canonical", "next", "prev", "alternate")
        if tag in LOADS and not passive:
            self.found.append(given.get(LOADS[tag]) or "")
        if tag == "img" and not given.get("alt"):
            self.unlabelled += 1


def faults(site: Path) -> list[str]:
    """What is wrong with a built site, one sentence each."""
    pages = sorted(site.rglob("*.html"))
    found = [] if pages else [f"{site} has no pages"]
    for page in pages:
        reader = Loads()
        reader.feed(page.read_text(encoding="utf-8"))
        where = page.relative_to(site)
        found += [f"{where} loads {x}" for x in reader.found if re.match(r"(https?:)?//", x)]
        found += [f"{where} has a picture without a text"] * (reader.unlabelled > 0)
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        outside = re.findall(
            r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"](https?:[^'\"]+)", text
        )
        found += [f"{sheet.relative_to(site)} loads {a or b}" for a, b in outside]
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    sys.exit(bool(wrong))
