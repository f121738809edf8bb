"""``Lifted``: a generator like any other where a law is made, and draws in law where none is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reroot import InvalidInput, Report, Sampling
from reroot.generators import Request, Tabular
from reroot.generators.lifted import Bias, Exactness, Held, Lifted, LogitServer, Narrowed, Never
from reroot.generators.lifted.by_root import draw_output
from reroot.generators.lifted.pricing import interface_price
from reroot.generators.lifted.tempering import biased_law, draw_biased
from reroot.randomness import stream_key
from reroot.testing import check_generator

TREE = Tabular.random(4, 2, seed=7, concentration=2.0)
PREFIXES = [(), (0,), (2,)]


@pytest.mark.slow(4)
@pytest.mark.parametrize(
    ("serves", "raw"),
    [("visited/topk(2)", False), ("reset/logprob", None), ("chosen/topk(2)", True)],
)
def test_a_law_made_of_weaker_answers_is_a_generator(serves: str, raw: bool | None) -> None:
    def make() -> Lifted:
        if raw is None:
            return Lifted(Narrowed(TREE, serves), "chosen/full")
        return Lifted(LogitServer(TREE, serves, Bias(4, 40.0, raw=raw)), "chosen/full")

    check_generator(make, tolerance=1e-9, draws=300, length=2)


@pytest.mark.parametrize(
    ("serves", "bias", "to", "rows", "calls"),
    [
        ("chosen/topk(2)", Bias(4, 30.0), "chosen/full", ["anchored"], 3),
        ("chosen/topk(2)", Bias(4, 40.0, raw=True), "chosen/full", ["raw"], None),
        ("chosen/argmax(1)", Bias(1, 8.0), "chosen/full", ["fewest"], 3),
        ("visited/sample@T=0", Bias(1, 16.0), "chosen/full", ["bisection", "forcing"], None),
        ("reset/logprob", None, "chosen/full", ["walking", "scores"], 3),
        ("visited/logprob", None, "visited/full", ["collecting"], None),
        ("visited/full@T=2", None, "chosen/full", ["redrawing", "retempered law"], None),
        ("chosen/argmax(3)", None, "chosen/full", [], 1),
        ("root/full", None, "chosen/full", ["waiting"], None),
        ("episode/full@T=2", None, "chosen/full", ["passing", "retempered law"], None),
        ("episode/topk(2)", Bias(4, 30.0), "chosen/full", ["anchored", "forcing"], None),
    ],
)
def test_laws_are_right_at_their_price(
    serves: str, bias: Bias | None, to: str, rows: list[str], calls: int | None
) -> None:
    held = Narrowed(TREE, serves) if bias is None else LogitServer(TREE, serves, bias)
    lifted = Lifted(held, to, epsilon=0.01)
    assert sorted(step.row for step in lifted.price.paid) == sorted(rows)
    p, q = np.exp(TREE.log_laws((), PREFIXES)), np.exp(lifted.log_laws((), PREFIXES))
    error = 0.5 * np.abs(p - q).sum(axis=1).max()
    assert error <= (math.tanh(0.005) if "bisection" in rows else 1e-12)
    if calls is not None:  # two prefixes of one token are walked to
        walked = 2 if "walking" in rows else 0
        assert lifted.used.calls == calls * len(PREFIXES) + walked
    assert lifted.physical().forwards >= len(PREFIXES)
    before = lifted.used.calls
    lifted.log_laws((), PREFIXES)
    assert lifted.used.calls == before  # a law is asked for once


@pytest.mark.parametrize(
    ("serves", "to", "row"),
    [
        ("visited/sample@T=2", "chosen/sample", "retempered draws"),
        ("chosen/sample@T=0.5", "chosen/sample", "retempered draws"),
        ("chosen/topk(2)", "chosen/sample@T=1,top_k=2", "retempered law"),
        ("visited/sample", "chosen/sample", "redrawing"),
        ("episode/sample@T=2", "chosen/sample", "retempered draws"),
    ],
)
def test_draws_follow_the_wanted_law(serves: str, to: str, row: str) -> None:
    """Chi-squared at error 1e-4, seeds fixed."""
    lifted = Lifted(Narrowed(TREE, serves), to)
    assert row in [step.row for step in lifted.price.paid]
    sampling = lifted.serves.sampling
    assert sampling is not None
    request = Request((), (0,), 100, 1, sampling=sampling, key=stream_key(1, "", "draws"))
    (reply,) = lifted.answer([request])
    (known,) = TREE.answer([Request((), (0,), 1, 1, Report.FULL, sampling)])
    assert known.laws is not None
    p = np.exp(known.laws[0, 0])
    counts = np.bincount(reply.first_tokens(), minlength=4)
    assert (counts[p == 0] == 0).all()
    assert stats.chisquare(counts[p > 0], 100 * p[p > 0]).pvalue > 1e-4
    (again,) = lifted.answer([request])
    assert (again.tokens == reply.tokens).all()


def test_rollouts_of_draws_have_the_reports_that_are_held() -> None:
    lifted = Lifted(Narrowed(TREE, "visited/topk(2)"), "chosen/topk(1)")
    (reply,) = lifted.answer([Request((), (1,), 3, 1, Report.TOPK(1))])
    law = TREE.log_laws((), [(1,)])[0]
    assert reply.logprobs is not None
    assert reply.top_tokens is not None
    assert reply.logprobs[:, 0] == pytest.approx(law[reply.tokens[:, 0]])
    assert (reply.top_tokens[:, 0, 0] == law.argmax()).all()


@pytest.mark.parametrize(
    ("serves", "to"),
    [
        ("chosen/argmax(2)", "chosen/sample"),
        ("chosen/argmax(1)", "root/argmax(2)@T=1"),
        ("chosen/full@T=1,top_k=2", "chosen/sample"),
        ("chosen/full@T=1,top_p=0.9", "chosen/sample@T=1,top_p=0.5"),
        ("chosen/sample@T=0", "root/sample"),
        ("root/argmax(2)", "chosen/argmax(1)"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_pair(serves: str, to: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be lifted: .*never; \("):
        Lifted(Narrowed(TREE, serves), to)
    assert isinstance(interface_price(serves, to), Never)


def test_outputs_by_rejection_by_enumeration() -> None:
    """P_τ(y)·min(1, ratio/bound) is P(y)/bound at every y, and the price is the bound."""
    sampling = Sampling(2.0)
    hot = [TREE.answer([Request((), u, 1, 1, Report.FULL, sampling)])[0] for u in PREFIXES]
    assert all(reply.laws is not None for reply in hot)
    law = dict(TREE.enumerate_outputs())
    warm: dict[tuple[int, ...], float] = {}
    for y in itertools.product(range(4), repeat=2):
        x = [
            TREE.answer([Request((), y[:t], 1, 1, Report.FULL, sampling)])[0].laws for t in range(2)
        ]
        warm[y] = sum(float(one[0, 0, y[t]]) for t, one in enumerate(x))  # type: ignore[index]
    bound = max(law[y] - warm[y] for y in law)
    accepted = {y: math.exp(warm[y]) * math.exp(law[y] - warm[y] - bound) for y in law}
    total = sum(accepted.values())
    assert 1 / total == pytest.approx(math.exp(bound))
    assert max(abs(accepted[y] / total - math.exp(law[y])) for y in law) <= 1e-12
    held = Held(Narrowed(TREE, "root/full@T=2"))
    rng = np.random.default_rng(0)
    drawn = [draw_output(held, (), Sampling(), bound + 1e-12, rng, (0, i)) for i in range(100)]
    assert abs(held.used.calls / 100 - math.exp(bound)) <= 4.5 * math.exp(bound) / 10
    assert all(y.tokens in law for y in drawn)
    with pytest.raises(InvalidInput, match="above"):
        [draw_output(held, (), Sampling(), 0.01, rng, (1, i)) for i in range(50)]


def test_biased_draws_by_rejection() -> None:
    held = Held(Narrowed(TREE, "chosen/sample"))
    bias = {0: 1.0, 2: -1.0}
    law = np.exp(biased_law(TREE.log_laws((), [()])[0], bias))
    place, rng = held.at(), np.random.default_rng(0)
    tokens = [draw_biased(place, bias, rng) for _ in range(300)]
    assert stats.chisquare(np.bincount(tokens, minlength=4), 300 * law).pvalue > 1e-4
    p = np.exp(TREE.log_laws((), [()])[0])
    each = math.e / float(p @ np.exp([1.0, 0.0, -1.0, 0.0]))
    assert held.used.draws / 300 == pytest.approx(each, rel=0.25)


def test_within_epsilon_is_within_epsilon() -> None:
    lifted = Lifted(Narrowed(TREE, "chosen/sample"), "chosen/full", epsilon=0.02)
    assert lifted.price.exactness == Exactness.WITHIN
    error = np.abs(np.exp(lifted.log_laws((), [()])) - np.exp(TREE.log_laws((), [()]))).sum() / 2
    assert error <= 4 * 0.02  # the mean is 0.02 at most
