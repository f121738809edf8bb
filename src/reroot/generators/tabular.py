"""Generators whose text is a list of integers, and the explicit tree among them."""

from __future__ import annotations

import hashlib
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..checks import check_between, check_int
from ..errors import InvalidInput
from ..randomness import keyed_rng, stream_key
from ..types import FloatArray, IntArray, Prefix, as_tokens, read_only
from .base import check_prefix
from .stepping import SteppingGenerator
from .stops import Pieces, Stop

Law = Callable[[tuple[int, ...]], npt.ArrayLike]
"""(prefix) → (K,) next-token probabilities."""

MAX_HORIZON = 10_000
MAX_VOCABULARY = 1_000_000
_SUM = 1e-9  # most that given probabilities may miss 1 by


class IntegerGenerator(SteppingGenerator):
    """A generator of strings over 0…K−1 of at most H tokens, written as integers with spaces.

    Prompt tokens are the first tokens of the string: the law after prompt x and prefix u is that
    of the prefix x·u, and prompt and generated tokens share the H positions.

    Args:
        vocab_size: K.
        horizon: H, 1 ≤ H ≤ 10,000.
        end: tokens that end a string.

    Raises:
        InvalidInput: K, H or an end token is out of range.
    """

    def __init__(self, vocab_size: int, horizon: int, end: Iterable[int] = ()) -> None:
        super().__init__()
        self._vocab_size = check_int("vocab_size", vocab_size, 2, MAX_VOCABULARY)
        self._horizon = check_int("horizon", horizon, 1, MAX_HORIZON)
        self._end = frozenset(as_tokens(end))
        check_prefix(tuple(self._end), self._vocab_size)
        self._pieces: Pieces | None = None

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def horizon(self) -> int:
        """H: most tokens of a string."""
        return self._horizon

    @property
    def end_token(self) -> int | None:
        """The smallest end token, if there is one."""
        return min(self._end, default=None)

    def max_length(self) -> int:
        return self._horizon

    def stops(self, texts: Sequence[str]) -> Stop:
        """The end tokens, and each of ``texts``: a string of tokens, as integers."""
        strings = [self.encode(text) for text in texts]
        if () in strings:
            text = texts[strings.index(())]
            raise InvalidInput(f"a stop text must be tokens as integers, got {text!r}")
        tokens = self._end.union(string[0] for string in strings if len(string) == 1)
        closing = frozenset(string[-1] for string in strings) - tokens
        if closing and self._pieces is None:
            every = (b"" if t in self._end else b"%d " % t for t in range(self._vocab_size))
            self._pieces = Pieces(tuple(every))
        wanted = tuple(b" %s " % " ".join(map(str, string)).encode() for string in strings)
        return Stop(tokens, wanted, closing, self._pieces if closing else None, gap=b" ")

    def encode(self, text: str) -> tuple[int, ...]:
        """``"3 1 4"`` → (3, 1, 4)."""
        try:
            tokens = tuple(int(word) for word in text.split())
        except ValueError:
            raise InvalidInput(f"expected integers separated by spaces, got {text!r}") from None
        check_prefix(tokens, self._vocab_size)
        return tokens

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """(3, 1, 4) → ``"3 1 4"``; end tokens are left out."""
        shown = [t for t in tokens if t not in self._end] if self._end else tokens
        return " ".join(map(str, shown))

    @abstractmethod
    def describe(self) -> Mapping[str, object]: ...

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.describe().items() if k != "family")
        return f"{type(self).__name__}({shown})"


class Tabular(IntegerGenerator):
    """An explicit tree of next-token laws. The law of a prefix is read once and then kept.

    Args:
        levels: ``levels[t]`` has shape (K,)·(t + 1): entry (u_1, …, u_t, a) is P(a | u). A learner
            may ask at any prefix, so laws behind a token of probability 0 count too; only
            entries behind an end token are ignored.
        end: tokens that end an output before the horizon H = len(levels).

    Raises:
        InvalidInput: a shape is wrong, or a law is not a probability vector (within 1e-9).
    """

    def __init__(self, levels: Sequence[npt.ArrayLike], end: Iterable[int] = ()) -> None:
        if not len(levels):
            raise InvalidInput("a tabular generator needs at least one level")
        tables = [np.array(level, dtype=np.float64) for level in levels]
        vocab_size = tables[0].shape[0] if tables[0].ndim else 0
        for t, table in enumerate(tables):
            if table.shape != (vocab_size,) * (t + 1):
                raise InvalidInput(
                    f"level {t} must have shape {(vocab_size,) * (t + 1)}, got {table.shape}"
                )
        digest = hashlib.blake2b(b"".join(t.tobytes() for t in tables), digest_size=8).hexdigest()
        self._setup(lambda u: tables[len(u)][u], vocab_size, len(tables), end, {"digest": digest})
        self._visit_all()

    def _setup(
        self,
        law: Law,
        vocab_size: int,
        horizon: int,
        end: Iterable[int],
        identity: dict[str, object],
    ) -> None:
        super().__init__(vocab_size, horizon, end)
        self._law = law
        self._identity = identity
        self._number: dict[tuple[int, ...], int] = {}  # prefix → state, an index into ...
        self._prefixes: list[tuple[int, ...]] = []
        self._rows: list[FloatArray | None] = []  # ... its law in nats, once read

    @classmethod
    def from_function(
        cls,
        law: Law,
        vocab_size: int,
        horizon: int,
        end: Iterable[int] = (),
        name: str | None = None,
    ) -> Tabular:
        """The tree with P(· | u) = ``law(u)``, read when first needed.

        Args:
            law: prefix (a tuple of tokens) → (K,) probabilities; must be deterministic.
            vocab_size: K.
            horizon: H.
            end: tokens that end an output.
            name: identifies ``law`` in run configurations; by default its qualified name.

        Raises:
            InvalidInput: here if K or H is out of range; on use if a law is not a probability
                vector (the message names the prefix and the sum).
        """
        tree = cls.__new__(cls)
        name = name or f"{law.__module__}.{getattr(law, '__qualname__', type(law).__qualname__)}"
        tree._setup(law, vocab_size, horizon, end, {"law": name})
        return tree

    @classmethod
    def random(
        cls,
        vocab_size: int,
        horizon: int,
        seed: int,
        concentration: float = 1.0,
        end: Iterable[int] = (),
    ) -> Tabular:
        """Independent Dirichlet(concentration, …) laws at every prefix, keyed by (seed, prefix)."""
        alpha = np.full(
            check_int("vocab_size", vocab_size, 2, MAX_VOCABULARY),
            check_between("concentration", concentration, 0.0, float("inf")),
        )

        def law(prefix: tuple[int, ...]) -> FloatArray:
            return keyed_rng(stream_key(seed, "tabular", "dirichlet", prefix)).dirichlet(alpha)

        return cls.from_function(
            law, vocab_size, horizon, end, f"dirichlet({concentration}), seed {seed}"
        )

    def enumerate_outputs(self, limit: int = 1_000_000) -> list[tuple[tuple[int, ...], float]]:
        """Every complete output of positive probability with its log-probability in nats.

        In depth-first order: outputs are sorted as tuples.

        Raises:
            InvalidInput: there are more than ``limit``.
        """
        outputs: list[tuple[tuple[int, ...], float]] = []
        stack: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        while stack:
            prefix, logprob = stack.pop()
            if len(prefix) == self.horizon or (prefix and prefix[-1] in self._end):
                outputs.append((prefix, logprob))
                if len(outputs) > limit:
                    raise InvalidInput(f"the tree has more than {limit:,} outputs")
                continue
            row = self._row(self._state(prefix))
            for token in np.flatnonzero(row > -np.inf)[::-1].tolist():
                stack.append(((*prefix, token), logprob + float(row[token])))
        return outputs

    def describe(self) -> Mapping[str, object]:
        return {
            "family": "tabular",
            "vocab_size": self.vocab_size,
            "horizon": self.horizon,
            "end": sorted(self._end),
            **self._identity,
        }

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        tokens = (*prompt, *prefix)
        if tokens not in self._number:
            check_prefix(tokens, self.vocab_size, self.horizon)
            for token in self._end.intersection(tokens):
                raise InvalidInput(f"{Prefix(tokens)} goes on after its end token {token}")
        return self._state(tokens)

    def _advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        pairs, back = np.unique(states * self.vocab_size + tokens, return_inverse=True)
        children = [self._child(*divmod(pair, self.vocab_size)) for pair in pairs.tolist()]
        return np.array(children, dtype=np.int64)[back]

    def _laws(self, states: IntArray) -> FloatArray:
        return np.stack([self._row(state) for state in states.tolist()])

    def _child(self, state: int, token: int) -> int:
        if token in self._end:
            raise InvalidInput(
                f"{Prefix(self._prefixes[state])} was asked past its end token {token}; "
                f"stop there, as stops(()) says"
            )
        return self._state((*self._prefixes[state], token))

    def _state(self, prefix: tuple[int, ...]) -> int:
        number = self._number.setdefault(prefix, len(self._prefixes))
        if number == len(self._prefixes):
            self._prefixes.append(prefix)
            self._rows.append(None)
        return number

    def _row(self, state: int) -> FloatArray:
        row = self._rows[state]
        if row is None:
            row = _checked(self._law(self._prefixes[state]), self.vocab_size, self._prefixes[state])
            self._rows[state] = row
        return row

    def _visit_all(self) -> None:
        """Read, and so check, every law."""
        inner = [token for token in range(self.vocab_size) if token not in self._end]
        for length in range(self.horizon):
            for prefix in itertools.product(inner, repeat=length):
                self._row(self._state(prefix))


def _checked(law: npt.ArrayLike, vocab_size: int, prefix: tuple[int, ...]) -> FloatArray:
    """Probabilities as nats, renormalized to the last bit."""
    try:
        p = np.asarray(law, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"the law at {Prefix(prefix)} is not numeric: {law!r}") from None
    if p.shape != (vocab_size,):
        raise InvalidInput(
            f"the law at {Prefix(prefix)} has shape {p.shape}; expected ({vocab_size},)"
        )
    total = float(p.sum())
    if not (np.isfinite(p).all() and (p >= 0).all() and abs(total - 1.0) <= _SUM):
        raise InvalidInput(
            f"the law at {Prefix(prefix)} must be finite, non-negative and sum to 1; "
            f"its least entry is {p.min()} and its sum {total!r}"
        )
    with np.errstate(divide="ignore"):
        return read_only(np.log(p / total))
