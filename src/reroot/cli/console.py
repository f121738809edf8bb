"""What is printed: text stays text, and nothing in it can move a cursor or turn a line around."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ..errors import visible


class PlainConsole(Console):
    """A console without markup whose every text has gone through ``errors.visible``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(visible(text), **settings)  # before its width is measured

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else visible(segment.text)
            yield Segment(shown, segment.style, segment.control)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a text that the terminal may wrap, but that is one line to a program."""
        self.print(text, style=style, soft_wrap=True)


def print_json(data: object) -> None:
    """Print data as JSON, in ASCII: what is not is escaped, so that it is text to any terminal."""
    sys.stdout.write(f"{json.dumps(data, indent=1)}\n")
