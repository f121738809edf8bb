"""What a probe is about: the connection, what the server tells of itself, and tokens to ask with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import BackendError, InvalidInput
from ..generators.remote import found
from ..generators.remote.dialects import WHOLE, Dialect
from ..generators.remote.endpoint import Endpoint, checked
from ..generators.remote.limits import Pace
from ..generators.remote.replies import Ranked
from ..generators.remote.text import ServedText, Speech, from_folder
from ..generators.remote.wire import Fault, Patience, Wire
from ..types import IntArray
from .asking import PAUSE, TRIES, Asker, NotAsked
from .drawn import Drawn

_T = TypeVar("_T")
LEVEL = 0.01
"""Probability that an honest server is accused by any of the statistical claims together."""
TESTS = 6
"""Claims in which chance is involved: each has ``LEVEL / TESTS``."""
EACH = LEVEL / TESTS
AGREE = 5e-3
"""Nats by which one log-probability may differ in two answers: engines compute in parallel, in short floats."""


@dataclass(frozen=True, slots=True)
class Worded:
    """A list by text, most likely first: what a text server states at a prompt."""

    prompt: str
    names: tuple[str, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A prompt to draw at, the longest list that is stated there, and its share of draws (they need not sum to 1)."""

    prompt: tuple[int, ...]
    law: Ranked
    share: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tokens that a bias leaves alone, at a prompt; ``odds``: what was written, as 0 and 1 → nats by which the first is
    more likely than the second."""

    prompt: tuple[int, ...]
    tokens: tuple[int, int]
    odds: dict[tuple[int, ...], float]


@dataclass(slots=True)
class Site:
    """One server under probe; claims write down here what later ones build on.

    Attributes:
        speech: its tokenizer, where it is known.
        vocab: K; 0: unknown.
        rng: of tokens to ask with.
        longest: length of the longest list that may be relied on; K: the whole law.
        places: prompts to draw at, the roughest first.
        choices: continuations per call that are asked for here.
        most_choices: what a ``Remote`` must keep to; ``None``: nothing was found that limits it.
        draws: tokens drawn at ``rough`` as a ``Remote`` draws.
        pair: two tokens that a bias leaves alone; ``None``: none were asked for.
        worded: the list that a server states which speaks in texts.
        lists: (prompt, list) of what was asked on the way, to compare with a reference.
    """

    name: str
    asker: Asker
    about: found.About
    speech: Speech | None
    vocab: int
    seed: int
    rng: np.random.Generator
    longest: int = 0
    places: list[Place] = field(default_factory=list[Place])
    choices: int = 1
    most_choices: int | None = None
    pair: Pair | None = None
    worded: Worded | None = None
    lists: list[tuple[tuple[int, ...], Ranked]] = field(
        default_factory=list[tuple[tuple[int, ...], Ranked]]
    )

    @property
    def table(self) -> Dialect:
        return self.asker.table

    @property
    def rough(self) -> tuple[int, ...]:
        """A prompt of high entropy; () before one was found."""
        return self.places[0].prompt if self.places else ()

    @property
    def law(self) -> Ranked | None:
        """The longest list that is stated at the rough prompt."""
        return self.places[0].law if self.places else None

    @property
    def top(self) -> int:
        """Length of lists that are cheap."""
        return min(self.longest, 100)

    @property
    def whole(self) -> int:
        """How the longest list is asked for."""
        return WHOLE if self.longest and self.longest == self.vocab else self.longest

    def tokens(self, n: int, rng: np.random.Generator | None = None) -> tuple[int, ...]:
        """Some tokens: from the middle of the vocabulary, as special ones are at its ends."""
        k = max(self.vocab, 100)
        return tuple(int(t) for t in (rng or self.rng).integers(k // 8, k - k // 8, n))

    def drawn(
        self,
        law: Ranked,
        tokens: Sequence[int] | IntArray,
        prefix: tuple[int, ...],
        generated: int = 0,
    ) -> Drawn:
        """Draws beside a list: what rounding has put above 0 is 0; a vocabulary that nobody tells is that of all
        tokens seen."""
        drawn = np.asarray(tokens, dtype=np.int64)
        vocab = self.vocab or 1 + int(max([*drawn.tolist(), law[0].max()]))
        return Drawn(law[0], np.minimum(law[1], 0.0), drawn, prefix, vocab, generated)

    def need_lists(self) -> None:
        """Refuse claims about laws where none may be relied on."""
        if not self.longest:
            raise NotAsked("no list of log-probabilities may be relied on")


def connect(
    name: str, tokenizer: str | Path | None, budget: int, seed: int, patience: Patience
) -> Site:
    """Reach a server (arguments as of ``probe``).

    Raises:
        InvalidInput: no such name, credentials in it, or no tokenizer in the folder.
        BackendError: nothing that is known answers there.
        MissingDependency: httpx2 or tokenizers is not installed.
    """
    endpoint = Endpoint.parse(name)
    key = os.environ.get(endpoint.key_variable)
    wire = Wire(checked(endpoint.url), key, "/health", Pace(1, None, None), patience)
    try:
        about = wire.wait(found.about(wire, endpoint))
        wire.health, table = about.table.health, about.table
        wire.pace.most = about.slots or table.window
        wire.pace.window = float(wire.pace.most)
        asker = Asker(wire, table, about.model, budget)
        site = Site(name, asker, about, None, 0, seed, np.random.default_rng(seed))
        _speak(site, tokenizer)
        return site
    except BaseException:
        wire.close()
        raise


def _speak(site: Site, tokenizer: str | Path | None) -> None:
    """Its vocabulary and tokenizer, as far as they are known."""
    about, asker = site.about, site.asker
    folder = tokenizer or about.folder
    vocab = about.vocab
    if folder is not None:
        site.speech, site.vocab = from_folder(folder, vocab if about.table.ids else None, False)
    elif about.table.name == "llamacpp":
        pieces = _patiently(asker, lambda: asker.wire.wait(found.pieces(asker.wire)), 2)
        ask = asking(asker)
        site.speech = ServedText.of(ask, pieces, about.end, False)
        site.vocab = len(pieces)
    elif about.table.ids:
        site.vocab = vocab or _counted(asker)


def _counted(asker: Asker) -> int:
    """K, by the length of a whole law; 0: it is not shown."""
    try:
        return len(asker.law((65, 40, 99, 71, 87, 52), WHOLE)[0])
    except Fault:
        raise
    except (BackendError, InvalidInput):
        return 0


def asking(asker: Asker) -> Callable[[str, Mapping[str, Any]], Any]:
    """(path, body) → JSON, for what costs no tokens."""
    wire = asker.wire
    return lambda path, body: _patiently(asker, lambda: wire.wait(wire.post(path, body, 0)), 0)


def _patiently(asker: Asker, ask: Callable[[], _T], tokens: int) -> _T:
    """``ask()``, again where the server fails; each try is paid for."""
    for tried in range(1, TRIES + 1):
        asker.spent += tokens
        try:
            return ask()
        except Fault as error:
            asker.faults.append(str(error))
            if tried == TRIES:
                raise
            time.sleep(PAUSE * 2**tried)
    raise AssertionError("unreachable")


def entropy(law: Ranked) -> float:
    """Nats; of a list, what is left out counts as one token."""
    p = np.exp(law[1])
    rest = max(0.0, 1.0 - float(p.sum()))
    own = -(p * np.where(p > 0, law[1], 0.0)).sum()
    return float(own - (rest * np.log(rest) if rest > 0 else 0.0))
