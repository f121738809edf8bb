"""Lists on the command line."""

from __future__ import annotations

from ..errors import InvalidInput


def split(text: str) -> list[str]:
    """Comma-separated values; empty ones are refused."""
    values = [value.strip() for value in text.split(",")]
    if not all(values):
        raise InvalidInput(f"an empty value in the list {text!r}")
    return values


def split_specs(text: str, mark: str) -> list[str]:
    """Comma-separated specs; a setting after one that holds ``mark`` belongs to it."""
    specs: list[str] = []
    for value in split(text):
        setting = "=" in value and mark not in value and "/" not in value
        if setting and specs and mark in specs[-1]:
            specs[-1] += f",{value}"
        else:
            specs.append(value)
    return specs


def split_integers(text: str) -> list[int]:
    try:
        return [int(value) for value in split(text)] if text else []
    except ValueError:
        raise InvalidInput(f"expected integers separated by commas, got {text!r}") from None
