"""The conformance kit passes every exact generator and catches every generator broken on purpose."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from reroot.families import DecoyPath, HiddenPath, HiddenTrie
from reroot.generators.base import Generator, Request
from reroot.generators.ensemble import Ensemble
from reroot.generators.ngram import CharNgram
from reroot.generators.stops import Stop
from reroot.generators.tabular import Tabular
from reroot.testing import GeneratorConformance, check_generator
from reroot.testing.concurrency import ConcurrentConformance
from reroot.types import PAD, FloatArray, Physical, Prefix, Reply

# Statistical checks inside the kit have an error rate of 1e-6 per law; their keys are fixed.


class TestTabular(GeneratorConformance):
    def make(self) -> Generator:
        return Tabular.random(3, 5, seed=1, end=(2,))


class TestTabularArrays(GeneratorConformance):
    prompts = ((), (1,), "0 1")

    def make(self) -> Generator:
        rng = np.random.default_rng(3)
        return Tabular([rng.dirichlet(np.ones(4), size=(4,) * t) for t in range(4)])


class TestHiddenPath(GeneratorConformance):
    def make(self) -> Generator:
        return HiddenPath(4, 6, 0.55, seed=3)


class TestHiddenPathOfOneToken(GeneratorConformance):
    def make(self) -> Generator:
        return HiddenPath(2, 1, 0.7)


class TestHiddenPathLargeVocabulary(GeneratorConformance):
    length = 3
    tolerance = 1e-11  # 20,000 rounded probabilities are summed

    def make(self) -> Generator:
        return HiddenPath(20_000, 3, 0.5)


class TestDecoyPath(GeneratorConformance):
    def make(self) -> Generator:
        return DecoyPath(7, 5, 2, 0.25, 0.18, seed=5)


class TestHiddenTrie(GeneratorConformance):
    def make(self) -> Generator:
        return HiddenTrie(8, 5, 0.3, 0.15, nodes=9, seed=2)


class TestCharNgram(GeneratorConformance):
    prompts = ("", "the c")

    def make(self) -> Generator:
        return CharNgram("the cat sat\non the mat\nthe hat\n", order=3, smoothing=0.5)


class TestEnsemble(GeneratorConformance):
    prompts = ("0", (2,), (1, 0))

    def make(self) -> Generator:
        return Ensemble([HiddenPath(4, 5, 0.5, seed=seed) for seed in range(3)])


# ---- generators broken on purpose --------------------------------------------------------------


class SuffixCache(Tabular):
    """Its cache is keyed on the last token alone."""

    cache: dict[tuple[int, ...], int]

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        if not hasattr(self, "cache"):
            self.cache = {}
        state = super()._start(prompt, prefix)
        return self.cache.setdefault((len(prefix), *prefix[-1:]), state)


class Unnormalized(Tabular):
    """Its laws sum to exp(1e-6)."""

    def _laws(self, states):
        return super()._laws(states) + 1e-6


class PrefillDiffers(Tabular):
    """Decoding sees other laws than a prefill of the same prefix."""

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        laws = super().log_laws(prompt, prefixes)
        mixed = 0.999 * np.exp(laws) + 0.001 / self.vocab_size
        return np.where([[len(u) > 1] for u in prefixes], np.log(mixed), laws)


class BatchDependent(Tabular):
    """Draws depend on a request's place in the batch."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer(
            [replace(r, key=(r.key[0], r.key[1] ^ i)) for i, r in enumerate(requests)]
        )


class SeedIgnored(Tabular):
    """Every request draws from one stream."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, key=(0, 0)) for r in requests])


class FirstIgnored(Tabular):
    """Every request starts its stream anew."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, first=0) for r in requests])


class OtherUniforms(Tabular):
    """Right laws and frequencies, but not the draws that the protocol prescribes."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, key=r.key[::-1]) for r in requests])


class Sharpened(Tabular):
    """Draws are sharper than the law that is reported."""

    def log_laws(self, prompt: Sequence[int], prefixes: Sequence[Sequence[int]]) -> FloatArray:
        softer = 0.8 * super().log_laws(prompt, prefixes)
        return softer - np.log(np.exp(softer).sum(axis=1, keepdims=True))


class Edited(Tabular):
    """A healthy generator whose replies are edited by ``edit``."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().answer(requests)
        return [self.edit(q, r) for q, r in zip(requests, replies, strict=True)]

    def edit(self, request: Request, reply: Reply) -> Reply:
        raise AssertionError("overridden")


class ShiftedLogprobs(Edited):
    """Log-probabilities are off by one step."""

    def edit(self, request: Request, reply: Reply) -> Reply:
        if reply.logprobs is None or request.forced is not None:
            return reply
        return replace(reply, logprobs=np.roll(reply.logprobs, 1, axis=1))


class ReportChangesDraws(Tabular):
    """Richer reports draw from another stream."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, key=(int(r.report.kind), r.key[1])) for r in requests])


class LargerTies(Edited):
    """Ties in top-k lists go to the larger token."""

    def edit(self, request: Request, reply: Reply) -> Reply:
        if reply.top_tokens is None or reply.top_logprobs is None:
            return reply
        tokens = reply.top_tokens.copy()
        for at in np.ndindex(tokens.shape[:2]):
            order = np.lexsort((-tokens[at], -reply.top_logprobs[at]))
            tokens[at] = tokens[at][order]
        tokens.flags.writeable = False
        return replace(reply, top_tokens=tokens)


class StopIgnored(Tabular):
    """Goes on after stop tokens other than its own."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, stop=self.stops(())) for r in requests])


class StopDropped(Edited):
    """Leaves the stop token out of the output."""

    def edit(self, request: Request, reply: Reply) -> Reply:
        last = reply.tokens[np.arange(reply.n), reply.lengths - 1]
        cut = np.isin(last, list(request.stop.tokens)) & (reply.lengths > 1)
        tokens = reply.tokens.copy()
        tokens[cut, reply.lengths[cut] - 1] = PAD
        return replace(reply, tokens=tokens, lengths=reply.lengths - cut)


class StopTextIgnored(Tabular):
    """Ends at stop tokens alone."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, stop=Stop(r.stop.tokens)) for r in requests])


class StopTextForgotten(Tabular):
    """Forgets what a prefix holds of a stop text."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        known = [
            Request(
                (*r.prompt, *r.prefix),
                (),
                r.n,
                r.length,
                r.report,
                r.sampling,
                r.stop,
                r.key,
                r.first,
                r.forced,
            )
            for r in requests
        ]
        replies = super().answer(known)
        return [replace(a, prefix=Prefix(r.prefix)) for a, r in zip(replies, requests, strict=True)]


class StopTextMissed(Tabular):
    """Has no rule for texts over borders, as if no token could complete one."""

    def stops(self, texts: Sequence[str]) -> Stop:
        return Stop(super().stops(texts).tokens)


class TooLong(Tabular):
    """Generates one token more than asked, where it can."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer(
            [
                replace(r, length=r.length + 1)
                if r.forced is None and len(r.prefix) + r.length < self.horizon
                else r
                for r in requests
            ]
        )


class Writable(Edited):
    """Hands out arrays that a caller may write into."""

    def edit(self, request: Request, reply: Reply) -> Reply:
        return replace(reply, tokens=reply.tokens.copy())


class BaseLogprobs(Tabular):
    """Reports log-probabilities of the base law whatever the sampling law."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().answer(requests)
        return [self._rescored(q, r) for q, r in zip(requests, replies, strict=True)]

    def _rescored(self, request: Request, reply: Reply) -> Reply:
        if reply.logprobs is None or request.forced is not None:
            return reply
        logprobs = np.zeros(reply.logprobs.shape)
        for i in range(reply.n):
            tokens = reply.continuation(i)
            path = [(*request.prefix, *tokens[:t]) for t in range(len(tokens))]
            laws = self.log_laws(request.prompt, path)
            logprobs[i, : len(tokens)] = laws[np.arange(len(tokens)), tokens]
        logprobs.flags.writeable = False
        return replace(reply, logprobs=logprobs)


class TemperatureIgnored(Tabular):
    """Draws and reports the base law at every temperature."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return super().answer([replace(r, sampling=Request(()).sampling) for r in requests])


class Wrapping(Tabular):
    """Takes tokens outside the vocabulary modulo K."""

    def _start(self, prompt: Sequence[int], prefix: Sequence[int]) -> int:
        return super()._start(prompt, [t % self.vocab_size for t in prefix])


class CountersReset(Tabular):
    """Its counters start anew with every call."""

    def physical(self) -> Physical:
        before, self._forwards, self._computed = super().physical(), 0, 0
        return before


class NoIdentity(Tabular):
    """Two equal generators describe themselves differently."""

    numbers = itertools.count()

    def describe(self):
        return {**super().describe(), "number": next(self.numbers)}


BROKEN: list[tuple[type[Tabular], str]] = [
    (Unnormalized, "test_01_laws_are_normalized"),
    (SuffixCache, "test_02_laws_ignore_what_was_asked_before"),
    (PrefillDiffers, "test_03_decoded_laws_equal_log_laws"),
    (BatchDependent, "test_04_batches_change_nothing"),
    (SeedIgnored, "test_05_keys_decide_draws"),
    (FirstIgnored, "test_06_first_continues_the_stream"),
    (OtherUniforms, "test_07_draws_follow_from_laws_and_uniforms"),
    (Sharpened, "test_08_frequencies_follow_the_law"),
    (ShiftedLogprobs, "test_09_logprobs_equal_teacher_forcing"),
    (ReportChangesDraws, "test_10_weaker_reports_coarsen_stronger_ones"),
    (LargerTies, "test_11_ties_go_to_the_smaller_token"),
    (StopIgnored, "test_12_stop_tokens_end_outputs"),
    (StopDropped, "test_12_stop_tokens_end_outputs"),
    (TooLong, "test_13_replies_have_their_shapes"),
    (Writable, "test_13_replies_have_their_shapes"),
    (BaseLogprobs, "test_14_draws_follow_the_sampling_law"),
    (TemperatureIgnored, "test_14_draws_follow_the_sampling_law"),
    (Wrapping, "test_15_bad_tokens_are_refused"),
    (CountersReset, "test_16_physical_counters_never_decrease"),
    (NoIdentity, "test_17_identity_and_text"),
    (StopTextIgnored, "test_18_stop_texts_end_outputs"),
    (StopTextForgotten, "test_18_stop_texts_end_outputs"),
    (StopTextMissed, "test_18_stop_texts_end_outputs"),
]


def _law(prefix: tuple[int, ...]) -> list[float]:
    """Laws that differ from prefix to prefix, with ties at some."""
    weights = [
        1 + (3 * sum(prefix) + 2 * len(prefix) + prefix.count(a)) % (a + 2) for a in range(4)
    ]
    return [w / sum(weights) for w in weights]


@functools.cache
def _check(kind: type[Tabular]) -> dict[str, str | None]:
    class Subject(GeneratorConformance):
        def make(self) -> Generator:
            return kind.from_function(_law, 4, 5, end=(3,))

    return Subject().run()


def test_the_healthy_twin_passes():
    assert set(_check(Tabular).values()) == {None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_broken_generators_are_caught_by_the_named_check(kind: type[Tabular], check: str):
    why = _check(kind)[check]
    assert why is not None
    assert why.startswith("AssertionError: "), why


def test_every_check_has_a_generator_that_fails_it():
    of_submit = set(ConcurrentConformance.checks())  # see test_concurrency_kit.py
    assert {check for _, check in BROKEN} == set(GeneratorConformance.checks()) - of_submit


# what a bug may break besides the check that names it
ALONE = [FirstIgnored, OtherUniforms, LargerTies, Writable, BaseLogprobs, CountersReset, NoIdentity]


@pytest.mark.slow(1)
@pytest.mark.parametrize("kind", ALONE)
def test_narrow_bugs_fail_few_checks(kind: type[Tabular]):
    failed = [check for check, why in _check(kind).items() if why is not None]
    assert 1 <= len(failed) <= 2


def test_check_generator_names_every_failed_check():
    with pytest.raises(AssertionError, match="test_05_keys_decide_draws: ") as caught:
        check_generator(lambda: SeedIgnored.from_function(_law, 4, 5))
    assert str(caught.value).startswith("2 checks failed\n")  # test_07 knows the right draws


def test_check_generator_passes_a_healthy_generator():
    check_generator(lambda: Tabular.random(3, 4, seed=0), prompts=[(), "1"], length=3, draws=500)
