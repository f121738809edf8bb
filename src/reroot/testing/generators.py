"""Checks that every generator must pass, compared with each other or with ``log_laws`` alone."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ..contract import Report, Sampling
from ..generators.base import Generator
from ..generators.law import cumulative, most_likely, sampling_laws
from ..generators.stops import Stop
from ..generators.wide import WIDE, draw_wide
from ..randomness import Uniforms, keyed_rng
from ..types import PAD, FloatArray, IntArray, Physical, Prefix
from .base import check_all, check_shapes, close, expect, fits, refuses, same
from .concurrency import ConcurrentConformance
from .subject import Subject, Tokens, scoring, stream


class GeneratorConformance(ConcurrentConformance, ABC):
    """What a generator must honour, ``submit`` included where it has one.

    Attributes to override:
        prompts: prompts to ask with, as tokens or text; the shorter, the faster.
        tolerance: nats by which equal log-probabilities may differ: 1e-12 for exact generators,
            1e-3 for language models in float32.
        length: tokens per rollout, at most (fewer where the generator holds fewer).
        draws: draws of the frequency check, whose error rate is 1e-6 per law tested.
    """

    prompts: ClassVar[Sequence[Tokens | str]] = ((),)
    tolerance: ClassVar[float] = 1e-12
    length: ClassVar[int] = 6
    draws: ClassVar[int] = 4000

    samplings: ClassVar[Sequence[Sampling]] = (
        Sampling(temperature=0.5),
        Sampling(temperature=2.0, top_k=2),
        Sampling(top_p=0.6),
        Sampling(temperature=0.0),
    )

    @abstractmethod
    def make(self) -> Generator:
        """A new generator, or one whose caches are empty; always the same law."""

    # ---- laws ------------------------------------------------------------------------------

    def test_01_laws_are_normalized(self) -> None:
        for s in self._subjects():
            laws = s.laws(s.probes)
            shape = (len(s.probes), s.generator.vocab_size)
            expect(laws.shape == shape, f"log_laws has shape {laws.shape}, not {shape}")
            mass = np.exp(laws).sum(axis=1)
            worst = int(np.abs(mass - 1).argmax())
            expect(
                bool((np.abs(mass - 1) <= self.tolerance).all() and (laws <= self.tolerance).all()),
                f"the law at {s.probes[worst]} sums to {mass[worst]!r}",
            )

    def test_02_laws_ignore_what_was_asked_before(self) -> None:
        for s in self._subjects():
            known = self.make().log_laws(s.prompt, s.probes)
            pairs = list(zip(s.probes, known, strict=True))
            for order, how in ((pairs, "alone"), (pairs[::-1], "alone, in reversed order")):
                generator = self.make()
                for u, law in order:
                    seen = generator.log_laws(s.prompt, [u])[0]
                    close(seen, law, self.tolerance, f"law at {u} asked {how}")

    def test_03_decoded_laws_equal_log_laws(self) -> None:
        for s in self._subjects():
            alone = [s.request(u, report=Report.FULL) for u in s.probes]
            for reply in self.make().answer([s.rollouts(4, Report.FULL), *alone]):
                assert reply.laws is not None
                for i, tokens, laws in s.along(reply):
                    seen = reply.laws[i, : len(tokens)]
                    path = (*reply.prefix, *tokens[:-1])
                    close(seen, laws, self.tolerance, f"laws along {path}")

    # ---- draws -----------------------------------------------------------------------------

    def test_04_batches_change_nothing(self) -> None:
        for s in self._subjects():
            requests = s.mixture(self.samplings)
            order = keyed_rng(stream("order")).permutation(len(requests)).tolist()
            together = self.make().answer(requests)
            shuffled = self.make().answer([requests[i] for i in order])
            alone, warm = self.make(), self.make()
            warm.answer(requests)
            for i, request in enumerate(requests):
                for how, reply in (
                    ("asked alone", alone.answer([request])[0]),
                    ("in shuffled order", shuffled[order.index(i)]),
                    ("asked again", warm.answer([request])[0]),
                ):
                    same(together[i], reply, self.tolerance, f"{request} {how}")

    def test_05_keys_decide_draws(self) -> None:
        for s in self._subjects():
            first = s.request(n=64)
            law = np.exp(s.laws([()])[0])
            replies = s.answer(first, first, replace(first, key=stream("another")))
            tokens = [reply.first_tokens().tolist() for reply in replies]
            expect(tokens[0] == tokens[1], "two requests with one key drew different tokens")
            if (law**2).sum() ** 64 < 1e-12:  # the chance that all 64 draws coincide
                expect(tokens[0] != tokens[2], "another key drew the same tokens: key ignored")

    def test_06_first_continues_the_stream(self) -> None:
        for s in self._subjects():
            whole = s.request(n=10, length=min(2, s.room))
            parts = [replace(whole, n=n, first=first) for first, n in ((0, 5), (5, 2), (7, 3))]
            replies = s.answer(whole, *parts)
            joined = [reply.continuation(i) for reply in replies[1:] for i in range(reply.n)]
            known = [replies[0].continuation(i) for i in range(10)]
            expect(joined == known, f"draws 0–4, 5–6, 7–9 are {joined}, draws 0–9 {known}")

    def test_07_draws_follow_from_laws_and_uniforms(self) -> None:
        """By inverse transform; in large vocabularies also by the race of ``wide.draw_wide``."""
        for s in self._subjects():
            if s.generator.vocab_size < WIDE or not _races(s):
                self._check_inversion(s)

    def _check_inversion(self, s: Subject) -> None:
        for u, rows, laws, tokens in _steps(s):
            cum = np.concatenate([np.zeros((len(rows), 1)), cumulative(laws)], axis=1)
            for row, i in enumerate(rows):
                token = int(tokens[row])
                low, high = cum[row, token] - self.tolerance, cum[row, token + 1]
                expect(
                    bool(low <= u[row] < high + self.tolerance),
                    f"continuation {i} drew {token}, which owns [{low}, {high}), for the uniform "
                    f"{u[row]}",
                )

    def test_08_frequencies_follow_the_law(self) -> None:
        for s in self._subjects():
            replies = s.answer(*(s.request(u, self.draws) for u in s.probes))
            for u, law, reply in zip(s.probes, s.laws(s.probes), replies, strict=True):
                fits(reply.first_tokens(), law, f"tokens drawn at {u}")

    # ---- reports ---------------------------------------------------------------------------

    def test_09_logprobs_equal_teacher_forcing(self) -> None:
        for s in self._subjects():
            request = s.rollouts(6, Report.LOGPROB)
            (reply,) = self.make().answer([request])
            assert reply.logprobs is not None
            for i, tokens, laws in s.along(reply):
                drawn = reply.logprobs[i, : len(tokens)]
                known = laws[np.arange(len(tokens)), tokens]
                close(drawn, known, self.tolerance, f"log-probabilities along {tokens}")
                if reply.base_logprobs is not None:
                    base = reply.base_logprobs[i, : len(tokens)]
                    close(base, known, self.tolerance, f"base log-probabilities along {tokens}")
                if s.generator.capabilities.forced:
                    (scored,) = self.make().answer([scoring(request, tokens)])
                    assert scored.logprobs is not None
                    expect(scored.continuation(0) == tokens, f"scoring {tokens} changed them")
                    close(scored.logprobs[0], drawn, self.tolerance, f"scoring {tokens}")

    def test_10_weaker_reports_coarsen_stronger_ones(self) -> None:
        for s in self._subjects():
            k = min(3, s.generator.vocab_size)
            full = s.rollouts(5, Report.FULL)
            reports = [Report.FULL, Report.TOPK(k), Report.TOPK(1), Report.LOGPROB, Report.SAMPLE]
            strong, *weak = s.answer(*(replace(full, report=r) for r in reports))
            assert strong.laws is not None
            for report, reply in zip(reports[1:], weak, strict=True):
                same(strong, reply, self.tolerance, f"{report} against full", only=report)
                if report.top:
                    assert reply.top_logprobs is not None
                    for i, t in np.argwhere(reply.tokens != PAD).tolist():
                        known = np.sort(strong.laws[i, t])[::-1][: report.top]
                        seen = reply.top_logprobs[i, t]
                        close(seen, known, self.tolerance, f"{report} at {i, t}")
            (greedy,) = s.answer(s.rollouts(1, Report.ARGMAX(k)))
            assert greedy.top_tokens is not None
            expect(
                greedy.tokens.tolist() == greedy.top_tokens[:, :, 0].tolist(),
                "the tokens of an ARGMAX reply are not the most likely ones",
            )

    def test_11_ties_go_to_the_smaller_token(self) -> None:
        for s in self._subjects():
            vocab, laws = s.generator.vocab_size, s.laws(s.probes)
            for k, make in itertools.product(
                sorted({1, 2, min(4, vocab), min(50, vocab)}), (Report.TOPK, Report.ARGMAX)
            ):
                replies = s.answer(*(s.request(u, report=make(k)) for u in s.probes))
                for u, law, reply in zip(s.probes, laws, replies, strict=True):
                    assert reply.top_tokens is not None
                    shown, known = reply.top_tokens[0, 0], most_likely(law[None], k)[0]
                    wrong = np.abs(law[shown] - law[known]) > self.tolerance
                    wrong |= (law[shown] == law[known]) & (shown != known)
                    expect(
                        len(set(shown.tolist())) == k and not wrong.any(),
                        f"{make(k)} at {u} shows {shown}, expected {known}",
                    )

    def test_12_stop_tokens_end_outputs(self) -> None:
        for s in self._subjects():
            own = s.own
            ranked = most_likely(s.laws([()]), len(own) + 1)[0].tolist()
            free = s.rollouts(64, Report.LOGPROB)
            stops = own | {next(t for t in ranked if t not in own)}
            stopped = replace(free, stop=Stop(stops))
            reply, cut = s.answer(free)[0], s.answer(stopped)[0]
            for i in range(reply.n):
                tokens = reply.continuation(i)
                early = [t for t in tokens[:-1] if t in own]
                expect(not early, f"{tokens} goes on after the stop token {early[:1]}")
                ended = len(tokens) == s.room or tokens[-1] in own
                expect(ended, f"{tokens} ends before {s.room} tokens without a stop token")
                at = next((t for t, a in enumerate(tokens) if a in stops), s.room)
                expect(
                    cut.continuation(i) == tokens[: at + 1],
                    f"with stop tokens {sorted(stops)} the output is {cut.continuation(i)}, "
                    f"expected {tokens[: at + 1]}",
                )

    def test_13_replies_have_their_shapes(self) -> None:
        for s in self._subjects():
            requests = s.mixture(self.samplings)
            for request, reply in zip(requests, s.answer(*requests), strict=True):
                check_shapes(request, reply, s.generator.vocab_size)

    def test_14_draws_follow_the_sampling_law(self) -> None:
        for s in self._subjects():
            if not s.generator.capabilities.sampling:
                continue
            for sampling in self.samplings:
                request = replace(s.rollouts(8, Report.FULL), sampling=sampling)
                (reply,) = s.answer(request)
                assert reply.laws is not None
                assert reply.logprobs is not None
                for i, tokens, laws in s.along(reply):
                    known = sampling_laws(laws, sampling)
                    what = f"at {sampling} along {tokens}"
                    seen = reply.laws[i, : len(tokens)]
                    close(np.exp(seen), np.exp(known), self.tolerance, f"laws {what}")
                    drawn = known[np.arange(len(tokens)), tokens]
                    seen = reply.logprobs[i, : len(tokens)]
                    close(seen, drawn, self.tolerance, f"log-probabilities {what}")
                    expect(bool((drawn > -np.inf).all()), f"an impossible token was drawn {what}")

    # ---- the boundary ----------------------------------------------------------------------

    def test_15_bad_tokens_are_refused(self) -> None:
        for s in self._subjects():
            good, limit = s.request(), s.generator.max_length()
            for bad in (-1, s.generator.vocab_size):
                refuses(f"log_laws at the prefix ({bad},)", s.laws, [(bad,)])
                refuses(f"a prefix ({bad},)", s.answer, replace(good, prefix=(bad,)))
                if s.generator.capabilities.forced:
                    refuses(f"a forced token {bad}", s.answer, scoring(good, (bad,)))
            if limit is not None:
                long = limit - len(s.prompt) + 1
                refuses(f"an output of {long} tokens", s.answer, replace(good, length=long))

    def test_16_physical_counters_never_decrease(self) -> None:
        for s in self._subjects():
            before = Physical()
            for request in s.mixture(self.samplings):
                s.answer(request)
                s.laws([request.prefix])
                after = s.generator.physical()
                expect(
                    all(amount >= 0 for amount in (after - before).to_dict().values()),
                    f"physical counters went from {before} to {after}",
                )
                before = after

    def test_17_identity_and_text(self) -> None:
        generator = self.make()
        known = json.dumps(dict(generator.describe()), sort_keys=True)
        again = json.dumps(dict(self.make().describe()), sort_keys=True)
        expect(known == again, f"describe() changes from {known} to {again}")
        own, end = generator.stops(()).tokens, generator.end_token
        expect(all(0 <= t < generator.vocab_size for t in own), f"stop tokens {sorted(own)}")
        expect(end is None or end in own, f"end token {end} is not among {sorted(own)}")
        for s in self._subjects():
            tokens = s.answer(s.request())[0].continuation(0)
            text = generator.decode(tokens)
            expect(isinstance(text, str), f"decode({tokens}) is {text!r}, not text")
            if end is not None and tokens[-1] not in own:
                expect(generator.decode((*tokens, end)) == text, "decode shows the end token")

    def test_18_stop_texts_end_outputs(self) -> None:
        """At the token that completes the text of two drawn tokens, from the root and from the first."""
        for s in self._subjects():
            free = s.rollouts(64)
            found = _text_of_two(s, s.answer(free)[0].outputs())
            if found is None:
                continue
            tokens, text = found
            rule = s.generator.stops((text,))
            expect(rule.first_end(tokens) is not None, f"{text!r} does not end {tokens}")
            for request in (free, s.request(tokens[:-1], 64, s.room - len(tokens) + 1)):
                if rule.first_end(request.prefix) is not None:
                    continue
                replies = s.answer(request, replace(request, stop=rule))
                for whole, cut in zip(*(reply.outputs() for reply in replies), strict=True):
                    end = rule.first_end(whole)
                    known = whole if end is None else whole[: end + 1]
                    expect(cut == known, f"with {text!r} as stop {cut} is drawn, expected {known}")
                    said = s.generator.decode(known.tokens)
                    holds = end is None or known[-1] in s.own or text.strip() in said
                    expect(holds, f"{known} says {said!r}, and ended as if it held {text!r}")

    def _subjects(self) -> list[Subject]:
        """One subject per prompt, all of one new generator."""
        generator = self.make()
        limit = generator.max_length()
        subjects: list[Subject] = []
        for prompt in self.prompts:
            tokens = generator.encode(prompt) if isinstance(prompt, str) else tuple(prompt)
            room = self.length if limit is None else min(self.length, limit - len(tokens))
            subjects.append(Subject(generator, tokens, room))
        return subjects


def _text_of_two(s: Subject, outputs: Sequence[Prefix]) -> tuple[Tokens, str] | None:
    """(three drawn tokens, or two, and the text of the last two), where they have one of their own."""
    for output in outputs:
        tokens = output.tokens[: min(3, s.room)]
        whole, before = (s.generator.decode(part) for part in (tokens, tokens[:-2]))
        text = whole.removeprefix(before)
        spoken = "\ufffd" not in whole and s.generator.decode(tokens[:-1]) not in (before, whole)
        if len(tokens) > 1 and spoken and not s.own & {*tokens}:
            return tokens, text
    return None


def _steps(s: Subject) -> Iterator[tuple[FloatArray, list[int], FloatArray, IntArray]]:
    """(uniforms, continuations, laws, tokens) of each step of 16 rollouts."""
    request = s.rollouts(16)
    (reply,) = s.answer(request)
    for t in range(int(reply.lengths.max())):
        u = Uniforms().column(request.key, request.first, request.n, t)
        rows = np.flatnonzero(reply.lengths > t).tolist()
        laws = s.laws([reply.continuation(i)[:t] for i in rows])
        yield u[rows], rows, laws, reply.tokens[rows, t]


def _races(s: Subject) -> bool:
    """Whether draws are those of ``draw_wide``; laws differ by rounding, which moves one in a while."""
    moved = [
        draw_wide(laws, np.arange(len(rows)), u) != tokens for u, rows, laws, tokens in _steps(s)
    ]
    return bool(np.concatenate(moved).mean() <= 0.02)


def check_generator(
    make: Callable[[], Generator],
    *,
    prompts: Sequence[Tokens | str] = ((),),
    tolerance: float = 1e-12,
    length: int = 6,
    draws: int = 4000,
    patience: float = 60.0,
) -> None:
    """Run every check of ``GeneratorConformance``; the arguments are its attributes.

    Args:
        make: builds the generator, with empty caches, as often as a check needs a fresh one.

    Raises:
        AssertionError: names every check that failed, with its reason.
    """
    settings = {"prompts": prompts, "tolerance": tolerance, "length": length, "draws": draws}
    check_all(GeneratorConformance, make, patience=patience, **settings)
