"""Text of generators whose tokens are characters, and an end token K − 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InvalidInput
from .stops import Stop
from .token_bytes import Pieces, encoded


class Characters:
    """The methods of ``Generator`` that are about text.

    Args:
        letters: what the generator can write; ``known_as`` says of what they are, in errors.
    """

    def __init__(self, letters: Iterable[str], known_as: str) -> None:
        self.characters = "".join(sorted(set(letters)))
        self._ids = {character: i for i, character in enumerate(self.characters)}
        self._pieces = Pieces((*map(encoded, self.characters), b""))
        self._known_as = known_as

    @property
    def vocab_size(self) -> int:
        return len(self.characters) + 1

    @property
    def end_token(self) -> int:
        """K − 1."""
        return len(self.characters)

    def encode(self, text: str) -> tuple[int, ...]:
        """One token per character.

        Raises:
            InvalidInput: a character that is not known.
        """
        for position, character in enumerate(text):
            if character not in self._ids:
                raise InvalidInput(
                    f"character {character!r} at position {position} of {text[:40]!r} does not "
                    f"occur in {self._known_as}"
                )
        return tuple(self._ids[character] for character in text)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.characters[t] for t in tokens if t != self.end_token)

    def stops(self, texts: Sequence[str]) -> Stop:
        """The end token, and the character with which one of ``texts`` is there."""
        return Stop.of(self._pieces, texts, {self.end_token})
