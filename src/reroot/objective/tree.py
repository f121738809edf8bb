"""An autoregressive law written out in full: every prefix, every output, and passes over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..checks import check_int
from ..errors import BackendError, InvalidInput, RerootError
from ..generators.base import Generator, check_prefix
from ..generators.law import UNNORMALIZED, log_normalize
from ..generators.stops import Stop
from ..types import FloatArray, IntArray, Prefix, read_only

Combine = Callable[[slice, FloatArray], FloatArray]
"""(w internal prefixes of one length, (w, K) values behind their tokens) → (w,) their values."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """All n internal prefixes (those with a next token) and all m outputs of a law.

    Nodes are numbered: 0…n − 1 the internal prefixes, breadth-first, the empty one first; from n
    on the outputs. Arrays are read-only.

    Attributes:
        prefixes: the n internal prefixes, as generated tokens (the prompt is not part of them).
        outputs: the m complete outputs, shorter ones first; those of probability 0 are left out.
        laws: (n, K) nats, log π(· | prefix).
        children: (n, K) the node that a token leads to; −1: impossible when the tree was made.
        levels: the internal prefixes of each length, 0, 1, …, as slices.
    """

    prefixes: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    laws: FloatArray
    children: IntArray
    levels: tuple[slice, ...]

    @classmethod
    def of(
        cls,
        generator: Generator,
        prompt: Sequence[int] = (),
        *,
        horizon: int,
        stop: Stop | None = None,
        limit: int = 100_000,
    ) -> Tree:
        """The tree of ``generator`` after ``prompt``; nothing behind probability 0 is asked.

        Args:
            generator: asked for its laws, one batch per length.
            prompt: prompt tokens.
            horizon: H >= 1, most tokens of an output.
            stop: when an output ends; the generator's own end tokens end it too.
            limit: most nodes, internal prefixes and outputs together.

        Raises:
            InvalidInput: an argument is out of range, or the tree has more nodes.
            BackendError: the generator answers something that is no law.
        """
        check_int("horizon", horizon, 1)
        check_int("limit", limit, 1)
        stop = stop or Stop()
        ends = sorted(generator.stops(()).tokens | stop.tokens)
        closing = sorted(stop.closing - set(ends))
        check_prefix([*ends, *closing], generator.vocab_size)
        prefixes: list[tuple[int, ...]] = [()]
        outputs: list[tuple[int, ...]] = []
        laws: list[FloatArray] = []
        inner: list[npt.NDArray[np.bool_]] = []  # tokens that lead to an internal prefix
        levels: list[slice] = []
        while not levels or levels[-1].stop < len(prefixes):
            level = slice(levels[-1].stop if levels else 0, len(prefixes))
            asked = prefixes[level]
            rows = generator.log_laws(tuple(prompt), asked)
            rows = _normalized(rows, asked, generator.vocab_size, BackendError)
            possible = rows > -np.inf
            if len(prefixes) + len(outputs) + np.count_nonzero(possible) > limit:
                raise InvalidInput(f"the tree has more than {limit:,} nodes")
            goes_on = possible & (len(levels) + 1 < horizon)
            goes_on[:, ends] = False
            for u, token in np.argwhere(goes_on[:, closing]) if closing else ():
                goes_on[u, closing[token]] = not stop.ends((*asked[u], closing[token]))
            prefixes += _extended(asked, goes_on)
            outputs += _extended(asked, possible & ~goes_on)
            laws.append(rows)
            inner.append(goes_on)
            levels.append(level)
        table = read_only(np.concatenate(laws))
        children = _children(table > -np.inf, np.concatenate(inner))
        return cls(tuple(prefixes), tuple(outputs), table, children, tuple(levels))

    def with_laws(self, log_laws: npt.ArrayLike) -> Tree:
        """The same prefixes and outputs under other laws: a policy on this support.

        Args:
            log_laws: (n, K) nats; −inf where ``children`` is −1, and anywhere else.

        Raises:
            InvalidInput: the shape is wrong, a row does not sum to 1 (within 1e-3; then it is
                normalized), or a token has probability that leads nowhere in this tree.
        """
        vocab_size = self.laws.shape[1]
        laws = _normalized(log_laws, self.prefixes, vocab_size, InvalidInput)
        outside = np.argwhere((laws > -np.inf) & (self.children < 0))
        if len(outside):
            raise InvalidInput(f"{self.step(*outside[0])} has probability; this tree ends there")
        return replace(self, laws=read_only(laws))

    def step(self, prefix: int, token: int) -> str:
        """How errors name a token at an internal prefix."""
        return f"token {token} at prefix {Prefix(self.prefixes[prefix])}"

    def log_probabilities(self) -> FloatArray:
        """(m,) nats, log π(y) of each output."""
        reached = self._nodes()
        for level in self.levels:
            reached[self.children[level]] = reached[level, None] + self.laws[level]
        return reached[len(self.prefixes) : -1]

    def visits(self, starts: npt.ArrayLike | None = None) -> FloatArray:
        """(n,) probability that a trajectory passes through each internal prefix.

        Args:
            starts: (n,) distribution of the prefix that a trajectory starts at; ``None``: the
                empty prefix, a rollout.

        Raises:
            InvalidInput: ``starts`` has another shape.
        """
        if starts is None:
            starts = np.zeros(len(self.prefixes))
            starts[0] = 1.0
        return self.flow(starts, np.zeros(self.laws.shape))

    def flow(self, starts: npt.ArrayLike, added: FloatArray) -> FloatArray:
        """(n,) the forward pass X(ua) = starts(ua) + π(a|u)·X(u) + added(u, a).

        Args:
            starts: (n,).
            added: (n, K).

        Raises:
            InvalidInput: ``starts`` has another shape.
        """
        n, flow = len(self.prefixes), self._nodes()
        starts = numbers("starts", starts)
        if starts.shape != (n,):
            raise InvalidInput(f"starts must have shape {(n,)}, got {starts.shape}")
        flow[:n] = starts
        for level in self.levels:
            flow[self.children[level]] += flow[level, None] * np.exp(self.laws[level])
            flow[self.children[level]] += added[level]
        return flow[:n]

    def backward(self, leaves: FloatArray | float, combine: Combine) -> FloatArray:
        """(n,) values of the internal prefixes by backward induction, one call per length.

        Args:
            leaves: (m,) values of the outputs.
            combine: values behind the tokens → values; 0 stands behind impossible tokens.
        """
        values = self._nodes()
        values[len(self.prefixes) : -1] = leaves
        for level in reversed(self.levels):
            values[level] = combine(level, values[self.children[level]])
        return values[: len(self.prefixes)]

    def behind(self, values: FloatArray, leaves: FloatArray | float) -> FloatArray:
        """(n, K) value of the node behind each token, given (n,) and (m,); 0 behind impossible."""
        nodes = self._nodes()
        nodes[: len(self.prefixes)] = values
        nodes[len(self.prefixes) : -1] = leaves
        return nodes[self.children]

    def _nodes(self) -> FloatArray:
        """Zeros for all nodes, and one more, which the child −1 of impossible tokens points to."""
        return np.zeros(len(self.prefixes) + len(self.outputs) + 1)


def numbers(name: str, values: npt.ArrayLike, tree: Tree | None = None) -> FloatArray:
    """``values`` as an array of floats, one per output of a tree if one is given, else
    ``InvalidInput``."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be an array of numbers, got {values!r}") from None
    if tree is not None and found.shape != (len(tree.outputs),):
        raise InvalidInput(
            f"{name} must have shape {(len(tree.outputs),)}, one per output, got {found.shape}"
        )
    return found


def _extended(
    prefixes: Sequence[tuple[int, ...]], tokens: npt.NDArray[np.bool_]
) -> list[tuple[int, ...]]:
    """The children u·a where ``tokens[u, a]``, in order."""
    rows, columns = np.nonzero(tokens)
    return [(*prefixes[u], a) for u, a in zip(rows.tolist(), columns.tolist(), strict=True)]


def _children(possible: npt.NDArray[np.bool_], inner: npt.NDArray[np.bool_]) -> IntArray:
    """(n, K) numbers of the nodes behind the tokens, which were listed in this order."""
    children = np.full(possible.shape, -1, dtype=np.int64)
    leaves = possible & ~inner
    children[inner] = 1 + np.arange(np.count_nonzero(inner))
    children[leaves] = len(possible) + np.arange(np.count_nonzero(leaves))
    return read_only(children)


def _normalized(
    log_laws: npt.ArrayLike,
    prefixes: Sequence[tuple[int, ...]],
    vocab_size: int,
    error: type[RerootError],
) -> FloatArray:
    """Rows that sum to 1 to the last bit, or ``error``."""
    laws = numbers("laws", log_laws)
    if laws.shape != (len(prefixes), vocab_size):
        raise error(f"laws must have shape {(len(prefixes), vocab_size)}, got {laws.shape}")
    with np.errstate(over="ignore"):
        sums = np.exp(laws).sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= UNNORMALIZED))  # NaN too
    if len(wrong):
        raise error(
            f"the law at prefix {Prefix(prefixes[wrong[0]])} sums to "
            f"{sums[wrong[0]]:g}, not to 1; laws are natural log-probabilities"
        )
    return log_normalize(laws)
