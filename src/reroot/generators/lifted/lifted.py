"""``Lifted``: a generator that serves a stronger interface by asking one behind a weaker interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256

import numpy as np

from ...contract import Contract
from ...errors import InvalidInput
from ...randomness import keyed_rng, stream_key
from ...types import PAD, FloatArray, IntArray, Physical, Prefix, Reply, read_only
from ..base import Capabilities, Generator, Request, check_prefix
from ..stops import Stop
from .alternatives import replaced
from .by_draws import law_by_biased_counts, law_by_collecting, law_by_counts
from .by_lists import (
    law_anchored,
    law_fewest,
    law_from_ids,
    law_from_image,
    law_from_masks,
    law_from_scores,
    law_raw,
    longer_list,
)
from .by_prefix import ByPrefix
from .by_root import draw_output, law_by_constant_bias, law_by_lifting, log_bound
from .narrowed import Used
from .place import MOST, Held, Place
from .pricing import InterfacePrice, Never, interface_price
from .rows import greedy, laws_of, whole
from .sizes import Sizes
from .tempering import draw_kept, draw_retempered, retempered
from .together import law_from_ids_together
from .told import Told, told_by, told_of

_ALREADY = {"coarsen", "waiting", "passing", "redrawing", "walking", "forcing"}  # done by ``Place``
_OF_DRAWS = {"retempered draws", "kept draws", "rejected outputs", "bans"}
_AT_HELD = {
    "scores",
    "collecting",
    "counts",
}  # the law as it is sampled; other rows give that at T = 1


class Lifted(ByPrefix):
    """Serves ``to`` out of ``generator`` by the reductions of ``interface_price``; laws are asked for once per prefix.

    Draws of a reconstructed law follow from a request's uniforms as everywhere; draws made of draws (another
    temperature, or the held reports at prefixes that are built) follow from its key.

    Args:
        generator: what is held, at the interface that it ``serves`` (``Narrowed``, ``LogitServer``) or can.
        to: the contract to serve.
        epsilon: ε: total variation of laws from counts, nats of gaps by bisection and of biased counts.
        gap: R, for bisection: at least the largest log-odds; by default the bound of the bias.
        by: the reduction to use in place of the one that makes laws by a bias: ``fewest`` calls where that is not
            the stable one, ``masks``, ``image``, ``bans`` for longer lists, or ``together``: b tokens bisected at once.
        image: (K, d), W where logits are W·h; with it ``by`` is ``image``.
        log_bound: for outputs by rejection: log of a bound on the ratio of the wanted probability of an output
            to the held one, nats; by default the one that holds for all laws, which there is not
            where a cooler law is held.
        seed: of the draws that reductions make.
        most: questions after which one wait is given up.

    Raises:
        InvalidInput: ``to`` cannot be served; the message shows the pair of generators that look alike.
    """

    def __init__(
        self,
        generator: Generator,
        to: Contract | str,
        *,
        epsilon: float = 0.05,
        gap: float | None = None,
        by: str | None = None,
        image: FloatArray | None = None,
        log_bound: float | None = None,
        seed: int = 0,
        most: int = MOST,
    ) -> None:
        super().__init__()
        self._held = Held(generator, seed, most)
        bias = self._held.interface.bias
        self._gap = gap if gap is not None else (bias.bound if bias else 64.0)
        self._epsilon, self._image, self._bound = epsilon, image, log_bound
        self._by = by if image is None else by or "image"
        if (self._by == "image") != (image is not None):
            raise InvalidInput(f"by='image' comes with an image, and no other one does, got {by!r}")
        sizes = Sizes(generator.vocab_size, 0, epsilon=epsilon, gap=self._gap)
        found = interface_price(self._held.interface, to, sizes)
        if isinstance(found, Never):
            raise InvalidInput(f"this cannot be lifted: {found}")
        if self._by is not None:
            width = 0 if image is None else image.shape[1]
            found = replaced(found, self._by, sizes, width)
        self._price = found
        self._serves = found.wants.contract
        self._before = generator.physical()
        self._known: dict[int, FloatArray] = {}
        self._lists: dict[
            tuple[tuple[int, ...], tuple[int, ...]], tuple[list[int], FloatArray]
        ] = {}
        self._law = self._law_route()

    @property
    def price(self) -> InterfacePrice:
        """Which reductions serve it, and at what price for one answer at a prefix of no length."""
        return self._price

    @property
    def serves(self) -> Contract:
        """The contract it serves."""
        return self._serves

    @property
    def used(self) -> Used:
        """What was asked of the held generator since construction."""
        return self._held.used

    @property
    def vocab_size(self) -> int:
        return self._held.generator.vocab_size

    @property
    def capabilities(self) -> Capabilities:
        free = self._law is not None and whole(self._held.sampling)
        return Capabilities(self._serves.control, self._serves.report, free, self._law is not None)

    @property
    def end_token(self) -> int | None:
        return self._held.generator.end_token

    def encode(self, text: str) -> tuple[int, ...]:
        return self._held.generator.encode(text)

    def encode_continuation(self, text: str) -> tuple[int, ...]:
        return self._held.generator.encode_continuation(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._held.generator.decode(tokens)

    def stops(self, texts: Sequence[str]) -> Stop:
        return self._held.generator.stops(texts)

    def max_length(self) -> int | None:
        return self._held.generator.max_length()

    def physical(self) -> Physical:
        """Work that the held generator did for this one."""
        return self._held.generator.physical() - self._before

    def describe(self) -> Mapping[str, object]:
        return {
            "family": "lifted",
            "to": str(self._serves),
            "rows": [step.row for step in self._price.paid],
            "epsilon": self._epsilon,
            "gap": self._gap,
            "by": self._by,
            "image": None if self._image is None else sha256(self._image.tobytes()).hexdigest(),
            "log_bound": self._bound,
            "seed": self._held.key((), (), 0, (0, 0))[0],
            "of": dict(self._held.generator.describe()),
        }

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Serve requests at the contract's report and sampling law.

        Raises:
            InvalidInput: a request for another sampling law or a stronger report.
            BackendError: a reduction failed: a bias too small, a prefix or token never met.
        """
        for request in requests:
            self._check(request)
            if not request.report <= self._serves.report:
                raise InvalidInput(f"it reports up to {self._serves.report}, not {request.report}")
            if request.sampling != laws_of(self._price.wants) and not self.capabilities.sampling:
                raise InvalidInput(f"it draws at {self._serves.sampling}, not {request.sampling}")
        if self._law is not None:
            return super().answer(requests)
        return [self._by_draws(request) for request in requests]

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        """The reconstructed laws, which are asked for (``InvalidInput`` where none is)."""
        if self._law is None:
            raise InvalidInput(f"{self._price} makes no law: there is none to show")
        return super().log_laws(prompt, prefixes)

    # ---- laws ----------------------------------------------------------------------------------------

    def _law_route(self) -> Callable[[Place], FloatArray] | None:
        """What gives the law at a place: (K,) nats at temperature 1; ``None`` for draws of draws."""
        rows = [step.row for step in self._price.paid if step.row not in _ALREADY]
        tau = self._held.sampling.temperature or 1.0
        if "lifting" in rows:  # it counts for itself where nothing but draws is held
            return partial(self._asked, row="lifting", tau=1.0)
        for row in rows:
            if row in _OF_DRAWS:
                return None
            if row != "retempered law":
                return partial(self._asked, row=row, tau=tau if row in _AT_HELD else 1.0)
        shown = rows or not self._held.report.draws or self._held.report.has_law
        return partial(self._shown, tau=tau) if shown or greedy(self._held.sampling) else None

    def _asked(self, place: Place, row: str, tau: float) -> FloatArray:
        """The law by a reduction, normalized."""
        size, epsilon = self.vocab_size, self._epsilon
        counts = int(np.ceil((size - 1) / (2 * np.pi * epsilon**2)))
        per_token = int(np.ceil(16 / epsilon**2))
        laws: dict[str, Callable[[], FloatArray]] = {
            "anchored": lambda: law_anchored(place),
            "fewest": lambda: law_fewest(place),
            "raw": lambda: law_raw(place),
            "bisection": lambda: law_from_ids(place, self._gap, epsilon),
            "scores": lambda: law_from_scores(place),
            "collecting": lambda: law_by_collecting(place),
            "counts": lambda: law_by_counts(place, counts),
            "biased counts": lambda: law_by_biased_counts(place, per_token),
            "together": lambda: law_from_ids_together(place, self._gap, epsilon),
            "masks": lambda: law_from_masks(place),
            "constant bias": lambda: law_by_constant_bias(place, self._along(place)),
            "lifting": lambda: law_by_lifting(place, self._gap, epsilon),
        }
        if self._image is not None:
            image = self._image
            laws["image"] = lambda: law_from_image(place, image)
        return retempered(laws[row](), tau)

    def _along(self, place: Place) -> FloatArray:
        """(|u|, K) nats, the laws at the prefixes of a place, each made by the one before."""
        u = place.prefix
        before = [self.log_laws(place.prompt, [u[:t]])[0] for t in range(len(u))]
        return np.array(before).reshape(len(u), self.vocab_size)

    def _shown(self, place: Place, tau: float) -> FloatArray:
        """The law that one answer shows: in full, by a list as long as what is kept, or by a mode."""
        reply = place.ask()
        if reply.laws is not None:
            return retempered(reply.laws[0, 0], tau)
        law = np.full(self.vocab_size, -np.inf)
        if reply.top_tokens is None or reply.top_logprobs is None:
            law[reply.tokens[0, 0]] = 0.0
            return law
        law[reply.top_tokens[0, 0]] = reply.top_logprobs[0, 0]
        rest = np.flatnonzero(law == -np.inf)
        if len(rest) == 1:  # one token is not listed: it has what is left
            law[rest] = np.log(max(1e-300, 1.0 - float(np.exp(law).sum())))
        return retempered(law, tau)

    def _laws(self, states: IntArray) -> FloatArray:
        assert self._law is not None
        for state in states.tolist():
            if state not in self._known:
                self._known[state] = self._law(self._held.at(*self._places[state]))
        return np.stack([self._known[state] for state in states.tolist()])

    # ---- draws of draws ------------------------------------------------------------------------------

    def _by_draws(self, request: Request) -> Reply:
        """Token by token, each at a prefix of its own, or output by output."""
        if request.forced is not None:
            raise InvalidInput(f"{self._price} scores no tokens")
        check_prefix(request.prompt + request.prefix, self.vocab_size, self.max_length())
        rejects = "rejected outputs" in {step.row for step in self._price.paid}
        make = self._output if rejects else self._walk
        words = [word >> 1 for word in request.key]
        outputs = [make(request, (*words, request.first + i)) for i in range(request.n)]
        cut = max(len(told) for told in outputs)
        k = min(request.report.top, self.vocab_size)
        tokens = np.full((request.n, cut), PAD, dtype=np.int64)
        logprobs, ids = np.zeros((request.n, cut)), np.full((request.n, cut, k), PAD, np.int64)
        values = np.zeros((request.n, cut, k))
        laws = np.zeros((request.n, cut, self.vocab_size if request.report.has_law else 0))
        for i, output in enumerate(outputs):
            for t, told in enumerate(output):
                tokens[i, t], logprobs[i, t] = told.token, told.logprob
                ids[i, t], values[i, t] = told.ids[:k], told.values[:k]
                if request.report.has_law:
                    laws[i, t] = told.law
        return Reply(
            Prefix(request.prefix),
            read_only(tokens),
            read_only(np.array([len(output) for output in outputs])),
            read_only(logprobs) if request.report.has_logprob else None,
            read_only(ids) if k else None,
            read_only(values) if k else None,
            laws=read_only(laws) if request.report.has_law else None,
        )

    def _walk(self, request: Request, words: tuple[int, ...]) -> list[Told]:
        """One continuation, token by token."""
        prefix, output = request.prefix, list[Told]()
        for t in range(request.length):
            key = stream_key(0, "", "lifted draw", (*words, t))
            told = self._token(self._held.at(request.prompt, prefix, key))
            if not request.report.draws:  # the mode, whatever was drawn
                told = told._replace(token=told.ids[0])
            output.append(told)
            prefix = (*prefix, told.token)
            if request.stop.ends(prefix):
                break
        return output

    def _token(self, place: Place) -> Told:
        """One token at a place, with the held report where it is passed on."""
        wanted, held = laws_of(self._price.wants), self._held.sampling
        rows = {step.row for step in self._price.paid}
        if "kept draws" in rows:
            reply = place.ask()
            assert reply.top_tokens is not None
            return Told(draw_kept(place, reply.top_tokens[0, 0, : wanted.top_k].tolist()))
        if "retempered draws" in rows:
            rng = keyed_rng(self._held.key(place.prompt, place.prefix, 0, place.stream))
            return Told(draw_retempered(place, held.temperature / wanted.temperature, rng))
        told = told_by(place.ask())
        if "bans" in rows:
            where = (place.prompt, place.prefix)
            if where not in self._lists:
                self._lists[where] = longer_list(place, self._serves.report.top)
            ids, values = self._lists[where]
            return told._replace(ids=ids, values=values.tolist())
        return told

    def _output(self, request: Request, words: tuple[int, ...]) -> list[Told]:
        """One whole output by rejection, cut where the request ends."""
        if request.prefix:
            raise InvalidInput(
                f"{self._price} makes outputs from the root, not from {request.prefix}"
            )
        room = self.max_length()
        if room is None:
            raise InvalidInput("outputs by rejection need a generator with a largest length")
        wanted, key = laws_of(self._price.wants), stream_key(0, "", "lifted output", words)
        length = room - len(request.prompt)
        bound = self._bound
        if bound is None:
            bound = log_bound(self._held.sampling, wanted, self.vocab_size, length)
        if bound == np.inf:
            raise InvalidInput(f"outputs at {wanted} out of {self._held.sampling} need a log_bound")
        made = draw_output(self._held, request.prompt, wanted, bound, keyed_rng(key), key)
        return told_of(made, request)
