"""What a language model is compared on before it is served: its own laws, by plain passes.

An engine that is wrong is wrong from some length on (windows, scales by position), on branches, or where
it reads what another pass left behind. So one path goes past every length that the configuration names,
is left at two places, and is asked in parts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import BackendError, InvalidInput
from ..randomness import keyed_rng, stream_key
from .causal_model import arithmetic, positions

String = tuple[int, ...]
Law = npt.NDArray[np.float32]

_LEAST = 64  # tokens of the path, where the model has positions for them
_MOST = 8400  # past the usual 8,192
_WORK = {"cpu": 1 << 37}  # most parameters x tokens, about 10 s; elsewhere 64 times as much
_ENTRIES = 1 << 27  # most logits of a pass, or attention weights where a layer writes them out
_TOLERANCE = 2e-4  # of how much laws differ; rounding in float32 moves them by about 3e-6
_WINDOW = 24  # tokens of a window that is made short
WINDOWS = ("sliding_window", "attention_chunk_size")
"""Names of the lengths that layers of a model attend to."""
_HALF = 0.2  # total variation, in half precision

_LENGTHS = re.compile(
    "window|chunk|scale|position|context|ctx|length|span|block|local|sliding|mem|seq|distance"
)
_WIDTHS = re.compile("layer|head|expert|hidden|dim|group|token_id|vocab|theta")
_TABLES = ("default", "linear", "yarn", "llama3", "proportional")  # rotations are one table


class Probe:
    """A path of tokens, branches of it, and the laws of plain passes there.

    Args:
        model: a causal language model of the ``transformers`` library, in evaluation mode.
        config: its text configuration.

    Attributes:
        known: token string → (K,) nats.
        ends: a few of the strings, where each costs a pass of its own; the longest is last.
        unreached: the shortest length named by the configuration that costs too much to pass, if any.

    Raises:
        InvalidInput: the law after some tokens depends on what follows them.
    """

    def __init__(self, model: Any, config: Any) -> None:
        self._model, self._kind = model, config.model_type
        self._named = named_lengths(config)
        size = self._size(config)
        self.unreached = min((n for n in self._named.values() if n >= size), default=None)
        half = max(1, size // 2)
        rng = keyed_rng(stream_key(0, "engine", "probe"))
        path = tuple(rng.integers(config.vocab_size, size=size).tolist())
        turn = tuple((token + 1) % config.vocab_size for token in path[-2:])
        fork, early, late = (path[: max(n - 2, 0)] + turn for n in (min(3, size), half, size))
        marks = {1, 5, half, size - 1, size}.union(
            n + i for n in [*self._named.values(), half] for i in range(3)
        )
        lengths = sorted(n for n in marks if 0 < n <= size)
        along, aside = self._plain([path, late], lengths)
        self.known = {path[:n]: law for n, law in zip(lengths, along, strict=True)} | {
            late: aside[-1]
        }
        self.ends = list(dict.fromkeys((fork, path[: min(5, half)], path[:half], early, late)))
        for alone in self.ends[:-1]:
            law = self._plain([alone], [len(alone)])[0, 0]
            if alone in self.known and self._differs(law[None], self.known[alone][None])[0]:
                off = float(nats_between(law, self.known[alone]))
                raise InvalidInput(
                    f"a {self._kind} model cannot be served: its law after {len(alone)} tokens moves by "
                    f"{off:.3g} nats when others follow{self._suspect(size)}, so it is no causal model"
                )
            self.known[alone] = law
        rest = [string for string in self.known if string not in (fork, late, path)]
        self._parts = (
            [string for string in rest if len(string) <= half],
            [string for string in rest if len(string) > half],
            list(dict.fromkeys((path, late, fork))),  # far and near in one pass
        )
        self._runs = list(_runs(path, early, lengths))

    def _size(self, config: Any) -> int:
        """Tokens of the path."""
        wanted = max([_LEAST, *(n + 16 for n in self._named.values())])
        most = _affordable(self._model, config)
        return max(1, min(wanted, most, (positions(config) or _MOST) - 1))

    @torch.inference_mode()
    def _plain(self, strings: Sequence[String], lengths: Sequence[int]) -> Law:
        """(n, len(lengths), K) nats: the laws along strings of one length, without any cache."""
        ids = torch.tensor(strings, device=self._model.device)
        try:
            logits = self._model(input_ids=ids, use_cache=False).logits[:, [n - 1 for n in lengths]]
        except Exception as error:
            raise BackendError(
                f"a {self._kind} model fails on {len(strings[0])} tokens: {type(error).__name__}: {error}"
            ) from error
        return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()

    def check(
        self,
        laws: Callable[[Sequence[String]], npt.NDArray[np.floating[Any]]],
        strings: Sequence[String] = (),
    ) -> None:
        """Compare ``laws``, (m) strings → (m, K) nats, with the plain ones, at ``strings`` or all.

        Raises:
            BackendError: they differ; says where, by how much, and which length may be the reason.
        """
        for part in filter(None, [list(strings)] if strings else self._parts):
            self._compare(part, np.array(laws(part)))

    def check_steps(
        self, laws: Callable[[Sequence[String]], npt.NDArray[np.floating[Any]]]
    ) -> None:
        """Compare laws that are asked token after token, past every length and over a branch that is left.

        Raises:
            BackendError: as ``check``.
        """
        for run in self._runs:
            for strings in run:
                found = np.array(laws(strings))
                here = [string in self.known for string in strings]
                if any(here):
                    self._compare([s for s in strings if s in self.known], found[here])

    def _compare(self, part: Sequence[String], found: npt.NDArray[np.floating[Any]]) -> None:
        plain = np.array([self.known[string] for string in part])
        if (wrong := self._differs(found, plain)).any():
            off, longest = float(nats_between(found, plain).max()), max(map(len, part))
            raise BackendError(
                f"after {len(part[int(wrong.argmax())])} tokens its laws are up to {off:.3g} nats off "
                f"a plain pass{self._suspect(longest)}"
            )

    def _differs(self, found: npt.NDArray[np.floating[Any]], plain: Law) -> npt.NDArray[np.bool_]:
        """(m,) whether laws differ by more than rounding."""
        if arithmetic(self._model) != torch.float32:
            return ~(np.abs(np.exp(found) - np.exp(plain)).sum(axis=-1) / 2 <= _HALF)
        laws = np.array(list(self.known.values()))
        spread = nats_between(laws, laws[0]).max()
        return ~(nats_between(found, plain) <= 1e-5 + _TOLERANCE * spread)

    def _suspect(self, tokens: int) -> str:
        """The lengths that the configuration names below ``tokens``, in words."""
        named = ", ".join(f"{name} = {n}" for name, n in self._named.items() if n < tokens)
        return f" (its configuration has {named})" if named else ""


def _affordable(model: Any, config: Any) -> int:
    """Most tokens of the path."""
    weights = sum(weight.numel() for weight in model.parameters())
    work = _WORK.get(model.device.type, _WORK["cpu"] << 6)
    most = min(_MOST, work // max(1, weights), _ENTRIES // config.vocab_size)
    if config._attn_implementation == "eager":
        most = min(most, int((_ENTRIES / config.num_attention_heads) ** 0.5))
    return max(_LEAST, most)


@contextlib.contextmanager
def short_windows(model: Any, config: Any) -> Iterator[None]:
    """Within, windows that cost too much to pass are short ones: models read them at every pass, and what
    attends rightly within a short window does within a long one."""
    most = _affordable(model, config)
    lengths = {name: getattr(config, name, None) for name in WINDOWS}
    long = {name: n for name, n in lengths.items() if isinstance(n, int) and n + 16 > most}
    for name in long:
        setattr(config, name, _WINDOW)
    try:
        yield
    finally:
        for name, length in long.items():
            setattr(config, name, length)


def _runs(path: String, branch: String, lengths: Sequence[int]) -> Iterator[list[list[String]]]:
    """Rounds of strings, each round's strings children of the last one's."""
    half = len(branch)
    forked = [[path[:n], branch[:n]] for n in (half - 1, half)]
    if half > 2:
        after = [[path[:n]] for n in range(half + 1, min(half + 3, len(path) + 1))]
        yield [[path[: half - 2]], *forked, *after]
    there = set(lengths)
    for n in lengths:
        if n - 1 not in there:
            run = takewhile(there.__contains__, count(n))
            yield [[path[:m]] for m in run]


def nats_between(laws: npt.NDArray[np.floating[Any]], others: Law) -> npt.NDArray[np.floating[Any]]:
    """(…) largest difference of log-probabilities over the tokens; impossible in both is no difference."""
    with np.errstate(invalid="ignore"):
        return np.where(laws == others, 0.0, np.abs(laws - others)).max(axis=-1)


def named_lengths(config: Any) -> dict[str, int]:
    """Name → number of tokens: what the configuration may change the law at, below its last position."""

    def walk(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
        for name, value in settings.items():
            if isinstance(value, Mapping):
                tables = value.get("rope_type", value.get("type")) in _TABLES
                if not (
                    str(name).startswith("rope") and tables and "llama_4_scaling_beta" not in value
                ):
                    yield from walk(value)
            elif isinstance(name, str) and _LENGTHS.search(name) and not _WIDTHS.search(name):
                for one in value if isinstance(value, (list, tuple)) else (value,):
                    if isinstance(one, int) and not isinstance(one, bool):
                        yield name, one

    last = (positions(config) or 1 << 62) - 1
    return {name: n for name, n in walk(config.to_dict()) if 1 < n < last}
