"""The shared decoding loop against enumeration on explicit trees."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from reroot import BackendError, InvalidInput, Report, Sampling
from reroot.families import HiddenPath
from reroot.generators.base import Capabilities, Request
from reroot.generators.law import sampling_laws
from reroot.generators.stepping import BatchCapacity
from reroot.generators.stops import Stop
from reroot.generators.tabular import Tabular
from reroot.randomness import Uniforms, stream_key

Tokens = tuple[int, ...]


def outputs_of(tree: Tabular, sampling: Sampling, prefix: Tokens = ()) -> dict[Tokens, float]:
    """Every continuation of ``prefix`` with its probability, by recursion over the laws."""
    if len(prefix) == tree.horizon or (prefix and prefix[-1] in tree.stops(()).tokens):
        return {(): 1.0}
    law = np.exp(sampling_laws(tree.log_laws((), [prefix]), sampling)[0])
    return {
        (a, *rest): p * q
        for a, p in enumerate(law.tolist())
        if p > 0
        for rest, q in outputs_of(tree, sampling, (*prefix, a)).items()
    }


def p_value(counts: Counter[Tokens], law: dict[Tokens, float]) -> float:
    """Chi-square goodness of fit; outputs expected fewer than 5 times are pooled."""
    n = sum(counts.values())
    assert set(counts) <= set(law)
    seen, expected, rare = [], [], [0, 0.0]
    for y, p in law.items():
        if n * p >= 5:
            seen.append(counts[y])
            expected.append(n * p)
        else:
            rare[0] += counts[y]
            rare[1] += n * p
    seen, expected = [*seen, rare[0]], [*expected, rare[1]]
    if rare[1] < 5:
        seen, expected = seen[:-1], expected[:-1]
    statistic = sum((s - e) ** 2 / e for s, e in zip(seen, expected, strict=True))
    return float(chi2.sf(statistic, len(seen) - 1))


# Fourteen chi-square tests at level 1e-5 with fixed keys: error rate 1.4e-4 in all.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prefix", [(), (1,)])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6, 0.95, 2)], ids=str)
def test_rollouts_have_the_enumerated_law(seed: int, prefix: Tokens, sampling: Sampling):
    tree = Tabular.random(3, 4, seed=seed, end=(2,))
    request = Request(
        (),
        prefix,
        20_000,
        4 - len(prefix),
        sampling=sampling,
        stop=tree.stops(()),
        key=(seed, 5),
    )
    (reply,) = tree.answer([request])
    counts = Counter(reply.continuation(i) for i in range(reply.n))
    law = outputs_of(tree, sampling, prefix)
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
    assert p_value(counts, law) > 1e-5


def test_rollouts_of_different_keys_and_firsts_are_independent_samples():
    # the pairs (first token of continuation i of one stream, of another) have the product law
    tree = Tabular.random(3, 1, seed=8)
    law = np.exp(tree.log_laws((), [()])[0])
    pairs = {(a, b): law[a] * law[b] for a in range(3) for b in range(3)}
    one = Request((), n=20_000, key=stream_key(0, "a", "draws"))
    for other in (replace(one, key=stream_key(0, "b", "draws")), replace(one, first=20_001)):
        x, y = (reply.first_tokens().tolist() for reply in tree.answer([one, other]))
        assert p_value(Counter(zip(x, y, strict=True)), pairs) > 1e-5


def test_draws_follow_the_protocol():
    # also behind the rows that have ended, whose uniforms are left unused
    tree = Tabular.random(5, 6, seed=2)
    stop = frozenset({0, 3})
    request = Request((), (4,), 12, 5, stop=Stop(stop), key=(3, 4), first=7)
    (reply,) = tree.answer([request])
    assert len(set(reply.lengths.tolist())) > 1
    for i in range(12):
        known: Tokens = ()
        while len(known) < 5 and not stop & {*known}:
            law = np.exp(tree.log_laws((), [(4, *known)])[0])
            u = Uniforms().column((3, 4), 7 + i, 1, len(known))[0]
            known = (*known, int((np.cumsum(law) <= u).sum()))
        assert reply.continuation(i) == known


def mixed_requests(tree: Tabular) -> list[Request]:
    """Every report, sampling law, stop set, length and prefix in one batch."""
    end = tree.stops(()).tokens
    reports = [Report.SAMPLE, Report.LOGPROB, Report.TOPK(2), Report.FULL, Report.ARGMAX(3)]
    samplings = [Sampling(), Sampling(0.5), Sampling(top_k=2), Sampling(0.0)]
    stops = [Stop(end), Stop(end | {0}), Stop(end | {0, 1})]
    requests = []
    for i, (report, sampling, stop) in enumerate(itertools.product(reports, samplings, stops)):
        prefix = ((), (1,), (0, 1))[i % 3]
        n = 1 + i % 4 if report.draws else 1
        length = 1 + i % (tree.horizon - len(prefix))
        requests.append(Request((), prefix, n, length, report, sampling, stop, (i % 5, 1), i % 7))
    scored = [(0, 1, 0), (1,), (2,), (1, 1, 1, 2)]
    for sampling, known in itertools.product(samplings[:2], scored):
        requests.append(
            Request(
                (), (), 1, len(known), Report.FULL, sampling, frozenset({0, 1, 2}), forced=known
            )
        )
    return requests


def test_a_mixed_batch_equals_single_answers_bit_for_bit():
    tree = Tabular.random(3, 5, seed=4, end=(2,))
    requests = mixed_requests(tree)
    for request, reply in zip(requests, tree.answer(requests), strict=True):
        (alone,) = tree.answer([request])
        for name in ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws"):
            mine, other = getattr(reply, name), getattr(alone, name)
            assert (mine is None) == (other is None)
            if mine is not None:
                np.testing.assert_array_equal(mine, other, strict=True)


def test_given_tokens_pass_over_stop_tokens_and_report_the_law():
    tree = Tabular.random(3, 4, seed=4)
    given = (1, 2, 0, 0)
    (reply,) = tree.answer(
        [Request((), length=4, report=Report.FULL, stop=Stop(frozenset({0, 1, 2})), forced=given)]
    )
    assert reply.continuation(0) == given
    known = tree.log_laws((), [given[:t] for t in range(4)])
    np.testing.assert_array_equal(reply.laws, known[None])
    assert reply.total_logprobs()[0] == pytest.approx(dict(tree.enumerate_outputs())[given])


def test_argmax_reports_follow_the_mode():
    tree = Tabular.random(4, 5, seed=6)
    (reply,) = tree.answer([Request((), length=5, report=Report.ARGMAX(2))])
    prefix: Tokens = ()
    for t in range(5):
        law = tree.log_laws((), [prefix])[0]
        assert reply.top_tokens is not None
        assert reply.top_tokens[0, t].tolist() == np.argsort(-law)[:2].tolist()
        prefix = (*prefix, int(law.argmax()))
    assert reply.continuation(0) == prefix
    assert reply.logprobs is None


def test_lists_longer_than_the_vocabulary_are_cut():
    (reply,) = HiddenPath(3, 2, 0.5).answer([Request((), report=Report.TOPK(10))])
    assert reply.top_tokens is not None
    assert reply.top_tokens.shape == (1, 1, 3)


def test_one_prefix_costs_one_evaluation_whatever_n():
    g = HiddenPath(4, 8, 0.5)
    g.answer([Request((), n=1000), Request((), n=10, key=(1, 1))])
    assert g.physical().to_dict() == {
        "forwards": 1,
        "computed": 1,
        "cached": 0,
        "recomputed": 0,
        "peak_bytes": 0,
    }
    g.answer([Request((), n=1000, length=8)])  # per step: on the path, and off it
    assert g.physical().forwards == 9
    assert g.physical().computed == 1 + 1 + 7 * 2


def test_nothing_asked():
    g = HiddenPath(4, 8, 0.5)
    assert g.answer([]) == []
    assert g.log_laws((), []).shape == (0, 4)
    assert g.physical().forwards == 0


def test_replies_are_read_only_and_share_one_law():
    (reply,) = HiddenPath(4, 8, 0.5).answer([Request((), n=50, report=Report.FULL)])
    assert reply.laws is not None
    assert reply.laws.shape == (50, 1, 4)
    assert reply.laws.strides[0] == 0
    for array in (reply.tokens, reply.lengths, reply.logprobs, reply.laws):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"n": 0}, "n = 0"),
        ({"length": 0}, "length = 0"),
        ({"first": -1}, "first = -1"),
        ({"report": Report.NONE}, "needs a report"),
        ({"n": 2, "report": Report.ARGMAX(1)}, "takes n = 1, got n = 2"),
        ({"n": 2, "report": Report.FULL, "forced": (1,)}, "takes n = 1, got n = 2"),
        ({"forced": (1,)}, "log-probabilities, got length = 1 and sample"),
        ({"report": Report.LOGPROB, "forced": (1, 1)}, "2 forced tokens need that length"),
    ],
)
def test_malformed_requests(fields: dict[str, object], why: str):
    with pytest.raises(InvalidInput, match=why):
        Request((), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"prefix": (4,)}, "token 4 is outside the vocabulary 0…3"),
        ({"prompt": (-1,)}, "token -1"),
        ({"prefix": (0,) * 8}, "pass the generator's 8 positions"),
        ({"length": 9}, "9 tokens after 0 prompt and prefix tokens pass the generator's 8"),
        ({"report": Report.LOGPROB, "forced": (9,)}, "token 9"),
        ({"report": Report.LOGPROB, "forced": (-1,)}, "token -1"),
    ],
)
def test_requests_that_do_not_fit_the_generator(fields: dict[str, object], why: str):
    with pytest.raises(InvalidInput, match=why):
        HiddenPath(4, 8, 0.5).answer([replace(Request(()), **fields)])  # type: ignore[arg-type]


def test_a_broken_law_is_not_drawn_from():
    class Broken(HiddenPath):
        def _laws(self, states):
            return super()._laws(states) + np.nan

    with pytest.raises(BackendError, match="sums to nan"):
        Broken(4, 8, 0.5).answer([Request(())])


def test_capabilities_are_everything_by_default():
    assert HiddenPath(4, 8, 0.5).capabilities == Capabilities()


@pytest.mark.slow
def test_ten_thousand_tokens():
    g = HiddenPath(4, 10_000, 0.9999)
    (reply,) = g.answer([Request((), n=3, length=10_000, report=Report.LOGPROB, key=(1, 2))])
    assert reply.tokens.shape == (3, 10_000)
    path = np.array(g.path)
    assert reply.logprobs is not None
    for tokens, logprobs in zip(reply.tokens, reply.logprobs, strict=True):
        same = tokens == path
        on = int(same.argmin()) if not same.all() else 10_000
        np.testing.assert_allclose(np.exp(logprobs[:on]), 0.9999)
        np.testing.assert_allclose(np.exp(logprobs[on + 1 :]), 0.25)
    (scored,) = g.answer([Request((), length=10_000, report=Report.LOGPROB, forced=g.path)])
    assert scored.total_logprobs()[0] == pytest.approx(10_000 * np.log(0.9999), rel=1e-9)


def test_memory_of_a_rollout_is_what_the_reply_holds():
    g = HiddenPath(4, 1000, 0.99)
    request = Request((), n=100, length=1000)
    g.answer([replace(request, n=1)])
    tracemalloc.start()
    (reply,) = g.answer([request])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.tokens.nbytes == 800_000
    assert peak < 1_200_000


def test_a_hundred_thousand_tokens_to_choose_from():
    g = HiddenPath(100_000, 5, 0.5, seed=3)
    (reply,) = g.answer([Request((), n=2000, length=5, report=Report.LOGPROB, key=(1, 2))])
    on = (reply.tokens == np.array(g.path)).cumprod(axis=1).sum(axis=0)
    # Binomial(2000, 2^-t) within 5 standard deviations at each of five depths: error rate 3e-6
    for t, count in enumerate(on.tolist(), start=1):
        p = 0.5**t
        assert abs(count - 2000 * p) < 5 * np.sqrt(2000 * p * (1 - p))
    (wide,) = g.answer([Request((), g.path[:2], report=Report.TOPK(3))])
    rest = [t for t in range(4) if t != g.path[2]]
    assert wide.top_tokens is not None
    assert wide.top_tokens[0, 0].tolist() == [g.path[2], *rest[:2]]


# ---- rows that wait ------------------------------------------------------------------------


class Cramped(Tabular):
    """A tree with room for a few rows; it counts steps and notes the widest."""

    laws, places = 2, 10_000

    def _capacity(self) -> BatchCapacity:
        return BatchCapacity(self.laws, self.places)

    def _evaluate(self, states: np.ndarray) -> np.ndarray:
        self.widths = [*getattr(self, "widths", []), len(states)]
        return super()._evaluate(states)


def cramped(**room: int) -> Cramped:
    tree = Cramped.random(3, 8, seed=5, end=[2])
    for name, value in room.items():
        setattr(tree, name, value)
    return tree


@pytest.mark.slow(1)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=8),
    laws=st.integers(1, 5),
    places=st.integers(1, 40),
)
@settings(max_examples=60)
def test_replies_do_not_depend_on_the_room(
    sizes: list[tuple[int, int]], laws: int, places: int
) -> None:
    reports = (Report.SAMPLE, Report.LOGPROB, Report.TOPK(2), Report.FULL)
    requests = [
        Request(
            (),
            (0,) * (8 - length),
            n,
            length,
            reports[i % 4],
            stop=Stop(frozenset({2})),
            key=(1, i),
        )
        for i, (n, length) in enumerate(sizes)
    ]
    small, large = cramped(laws=laws, places=places), Tabular.random(3, 8, seed=5, end=[2])
    for mine, other in zip(small.answer(requests), large.answer(requests), strict=True):
        for name in ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws"):
            a, b = getattr(mine, name), getattr(other, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a, b)
    assert max(small.widths) <= max(laws, 1)


def test_a_row_that_ends_makes_room_at_once() -> None:
    """One row of 8 tokens beside eight of one: eight steps, where waiting for the longest takes 15."""
    tree = cramped()
    long = Request((), forced=(0, 1, 0, 1, 0, 0, 0, 0), length=8, report=Report.LOGPROB)
    short = [Request((), (1,), forced=(a % 2,), report=Report.LOGPROB) for a in range(8)]
    tree.answer([long, *short])
    assert len(tree.widths) == 8
    assert max(tree.widths) == 2


def test_draws_at_one_prefix_take_one_place() -> None:
    tree = cramped(laws=1)
    tree.answer([Request((), n=1000)])
    assert tree.widths == [1]


def test_the_base_law_is_told_beside_the_one_sampled_from() -> None:
    tree = Tabular.random(3, 4, seed=1)
    sampling = Sampling(0.5, top_k=2)
    for request in (
        Request((), n=6, length=4, report=Report.LOGPROB, sampling=sampling, key=(1, 2)),
        Request((), forced=(0, 1, 2, 0), length=4, report=Report.LOGPROB),
    ):
        (reply,) = tree.answer([request])
        assert reply.logprobs is not None
        assert reply.base_logprobs is not None
        for i in range(reply.n):
            tokens = reply.continuation(i)
            base = tree.log_laws((), [tokens[:t] for t in range(4)])
            drawn = sampling_laws(base, request.sampling)
            at = (np.arange(4), tokens)
            np.testing.assert_array_equal(reply.base_logprobs[i], base[at])
            np.testing.assert_array_equal(reply.logprobs[i], drawn[at])
    (reply,) = tree.answer([Request((), n=6, length=4, sampling=sampling)])
    assert reply.base_logprobs is None
