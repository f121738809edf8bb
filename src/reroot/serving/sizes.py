"""How large one request is: what it may cost the generator, and how much it may be told, at most.

Both are known before anything is set aside, and bound what one key can take of a round from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..access.charges import cost_of
from ..access.hidden_states import price
from ..access.session import Ask, AskHiddenStates, Consult, Decode, Message
from ..errors import InvalidInput
from ..types import Query
from .keys import Key

MOST_VALUES = 1 << 23
"""Numbers that one answer may hold: tokens, log-probabilities, entries of laws and hidden states."""

MOST_QUESTIONS = 1 << 14
"""Messages, and queries in them, that one turn may have: each takes a tenth of a millisecond by itself."""

MOST_SHOWN = 1 << 18
"""Log-probabilities that OpenAI's clients are shown in one answer, each beside its token's text."""

_JUDGED = 8  # prefixes that are judged in the time of another question
_FEATURE = 1024  # entries of a feature, about: how many there are only the generator knows


class TooLarge(InvalidInput):
    """A request that may cost or hold more than one request may; nothing of it was done."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a request may become.

    Attributes:
        tokens: generated, and submitted: of prompts, prefixes, scored and judged outputs.
        values: numbers that its answer may hold.
        questions: messages, queries in them, and eighths of prefixes that are judged.
    """

    tokens: int = 0
    values: int = 0
    questions: int = 0

    def share(self, key: Key) -> float:
        """Which part it is of the largest request that this key may make."""
        parts = (
            (self.tokens, key.request_tokens),
            (self.values, MOST_VALUES),
            (self.questions, MOST_QUESTIONS),
        )
        return max(min(amount, most) / most for amount, most in parts)

    def check(self, key: Key) -> None:
        """Refuse what is more than a request of this key may be (``TooLarge``)."""
        if self.tokens > key.request_tokens:
            raise TooLarge(
                f"this request may take {_shown(self.tokens)} tokens, generated and submitted, and one "
                f"request of this key at most {key.request_tokens:,} (request_tokens); ask in smaller pieces"
            )
        if self.questions > MOST_QUESTIONS:
            raise TooLarge(
                f"this turn has {self.questions:,} messages and queries, and one turn at most "
                f"{MOST_QUESTIONS:,}; ask in smaller pieces"
            )
        if self.values > MOST_VALUES:
            raise TooLarge(
                f"the answer to this request may hold {_shown(self.values)} numbers, and one answer "
                f"holds at most {MOST_VALUES:,}; ask in smaller pieces"
            )


def size_of(messages: Sequence[Message], prompt: int, horizon: int, vocab_size: int) -> Size:
    """How large a turn may become; what would be refused counts as nothing is refused.

    Args:
        messages: of the turn.
        prompt: tokens of the prompt.
        horizon: most tokens of an output.
        vocab_size: V.
    """
    tokens = values = 0
    questions = len(messages)
    for message in messages:
        if isinstance(message, Ask):
            questions += len(message.queries)
            cells = [max(0, q.n) * _length(q, horizon) for q in message.queries]
            worst = cost_of(message.queries, cells, prompt, horizon)
            tokens += worst.tokens + worst.prefill
            told = zip(message.queries, cells, strict=True)
            values += sum(cell * _values(query, vocab_size) for query, cell in told)
        elif isinstance(message, AskHiddenStates):
            worst = price(message, prompt)
            tokens += worst.tokens + worst.prefill
            each = _FEATURE if message.layers is None else max(0, message.layers) * vocab_size
            values += worst.hidden_states * each
        elif isinstance(message, Consult):
            tokens += sum(prompt + len(prefix) for prefix in message.prefixes)
            questions += len(message.prefixes) // _JUDGED
        elif isinstance(message, Decode):
            tokens += len(message.prefix)
    return Size(tokens, values, questions)


def _length(query: Query, horizon: int) -> int:
    """Tokens of each continuation, at most."""
    if query.forced is not None:
        return len(query.forced)
    room = max(0, horizon - len(query.prefix))
    return room if query.length is None else min(max(0, query.length), room)


def _values(query: Query, vocab_size: int) -> int:
    """Numbers per token that are told."""
    report = query.report
    return vocab_size if report.has_law else 1 + min(report.top, vocab_size)


def _shown(amount: int) -> str:
    """A number; of one without end that it is one (Python writes none of over 4,300 digits)."""
    return f"{amount:,}" if amount < 10**15 else "more than 10^15"
