"""Prefixes under each control, constant bias, seeds, and what a narrowed generator refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reroot import InvalidInput, Report
from reroot.errors import BackendError
from reroot.families import HiddenPath
from reroot.generators import Generator, Request, Tabular
from reroot.generators.lifted import Bias, Held, LogitServer, Narrowed, formulas
from reroot.generators.lifted.prefixes import (
    best_constant_bias,
    draws_without_replacement,
    replay,
)
from reroot.randomness import stream_key
from reroot.types import FloatArray

TREE = Tabular.random(3, 3, seed=4)
U = (0, 0)


def along(tree: Generator, u: tuple[int, ...]) -> FloatArray:
    """(|u|, K) nats."""
    return tree.log_laws((), [u[:t] for t in range(len(u))])


def token_probabilities(tree: Tabular, u: tuple[int, ...]) -> FloatArray:
    return np.exp(along(tree, u)[np.arange(len(u)), list(u)])


# ---- the price of a prefix ---------------------------------------------------------------------------


@pytest.mark.parametrize("report", ["sample", "full"])
@pytest.mark.parametrize("control", ["root", "episode", "visited", "reset", "chosen"])
def test_a_prefix_is_answered_at_its_price(control: str, report: str) -> None:
    """Calls for m = 2 answers; means in their bands of 4.5 standard errors."""
    p, m = token_probabilities(TREE, U), 2
    price = {
        "root": m / float(p.prod()),
        "episode": m * (1 + 1 / float(p[0])),  # the second token is put in
        "visited": float((1 / p).sum()) + 1,  # one call of m draws behind the walk
        "reset": len(U) + 1,
        "chosen": 1,
    }[control]
    runs = 40 if control in ("root", "episode", "visited") else 1
    used: list[int] = []
    for seed in range(runs):
        held = Held(Narrowed(TREE, f"{control}/{report}"), seed)
        reply = held.at((), U).ask(m)
        assert reply.n == m
        if report == "full":
            assert reply.laws is not None
            assert np.abs(reply.laws[:, 0] - TREE.log_laws((), [U])).max() <= 1e-12
        used.append(held.used.calls)
    assert abs(np.mean(used) - price) <= 4.5 * np.std(used) / math.sqrt(runs)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_expected_calls_of_passes_by_their_chain(length: int) -> None:
    """From each drawn place a call goes on to the next one with P(u_t), else back to the beginning."""
    p = np.array([0.5, 0.3, 0.7, 0.2, 0.9])[:length]
    drawn = p[::2]
    n = len(drawn)
    moves = np.zeros((n, n))
    moves[:, 0] += 1 - drawn
    moves[np.arange(n - 1), np.arange(1, n)] += drawn[:-1]
    calls = np.linalg.solve(np.eye(n) - moves, np.ones(n))[0] + 1
    assert formulas.passed_calls((-np.log(p)).tolist()) == pytest.approx(calls, rel=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_passes_meet_a_long_prefix_and_answer_by_its_law(bias: bool) -> None:
    """Under a contract that enforces it; with a bias every token of the prefix is forced."""
    tree, u = Tabular.random(2, 6, seed=1, concentration=3.0), (1, 0, 1, 1, 0)
    server = LogitServer(tree, "episode/full", Bias(2, 60.0))
    held = Held(server if bias else Narrowed(tree, "episode/full"), seed=1)
    reply = held.at((), u).ask(3)
    assert reply.laws is not None
    np.testing.assert_allclose(
        reply.laws[:, 0], np.repeat(tree.log_laws((), [u]), 3, 0), atol=1e-12
    )
    assert held.used.calls == 18 or not bias


def test_episode_control_is_kept() -> None:
    def at(*prefix: int, n: int = 1, report: Report = Report.SAMPLE) -> Request:
        return Request((), prefix, n, 1, report)

    held = Narrowed(TREE, "episode/topk(1)")
    (first,) = held.answer([at()])
    a = first.continuation(0)[0]
    other = (a + 1) % 3
    for wrong in (
        at(other),  # nothing stands there, and the first token cannot be put in
        at(a, other, n=2),  # one pass stands at a
        at(a, other, report=Report.ARGMAX(1)),  # passes draw
        at(a, 0, 0),
        Request((), (a,), 1, 1, Report.LOGPROB, forced=(0,)),
    ):
        with pytest.raises(InvalidInput, match="episode"):
            held.answer([wrong])
    held.answer([at(a, other)])
    for gone in (at(a), at(a, other)):  # no pass returns, or goes on twice
        with pytest.raises(InvalidInput, match="episode"):
            held.answer([gone])


def test_continuing_rollouts_waste_nothing() -> None:
    p = token_probabilities(TREE, U)
    used: list[int] = []
    for seed in range(80):
        held = Held(Narrowed(TREE, "visited/sample"), seed)
        held.at((), U).build(continuing=True)
        used.append(held.used.calls)
    price = 1 + float((1 / p - 1).sum())
    assert abs(np.mean(used) - price) <= 4.5 * np.std(used) / math.sqrt(len(used))


def test_expected_calls_of_a_redrawn_prefix_by_enumeration() -> None:
    """The chain of positions: from t a call of one token moves on with probability p_t."""
    p = token_probabilities(TREE, (1, 2, 0))
    steps = np.diag(1 - p) + np.diag(p[:-1], 1)
    expected = np.linalg.solve(np.eye(3) - steps, np.ones(3))
    assert expected[0] == pytest.approx(float((1 / p).sum()))


def test_what_is_never_drawn_is_not_waited_for_for_ever() -> None:
    tree = Tabular([[1.0, 0.0], [[0.5, 0.5], [0.5, 0.5]]])
    for control in ("root", "visited"):
        held = Held(Narrowed(tree, f"{control}/sample"), most=30)
        with pytest.raises(BackendError, match=r"in 30 calls"):
            held.at((), (1,)).ask()


@pytest.mark.parametrize(
    ("serves", "request_", "said"),
    [
        ("root/sample", {"prefix": (1,), "length": 2}, "root does not permit"),
        ("root/sample", {"length": 1}, "root does not permit"),
        ("visited/sample", {"prefix": (1,)}, "visited does not permit"),
        ("reset/sample", {"prefix": (1, 1)}, "reset does not permit"),
        ("reset/sample", {"report": Report.LOGPROB}, "reports up to sample"),
        ("visited/logprob", {"report": Report.LOGPROB, "forced": (1,)}, "forces no tokens"),
        ("chosen/full@T=2", {"report": Report.FULL}, "draws at T=2"),
    ],
)
def test_a_narrowed_generator_refuses_what_it_does_not_serve(
    serves: str, request_: dict[str, object], said: str
) -> None:
    one = Narrowed(TREE, serves)
    with pytest.raises(InvalidInput, match=said):
        one.answer([Request((), **request_)])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="does not show the base law"):
        one.log_laws((), [()])


def test_a_server_refuses_biases_that_it_does_not_take() -> None:
    server = LogitServer(TREE, "chosen/sample", Bias(tokens=1, bound=5.0, bans=False))
    request = Request(())
    for bias in ({0: 6.0}, {0: 1.0, 1: 1.0}, {3: 1.0}, {0: -math.inf}):
        with pytest.raises(InvalidInput):
            server.answer_biased(request, bias)


# ---- constant bias -----------------------------------------------------------------------------------


def test_a_constant_bias_serves_one_token_for_nothing_and_a_balanced_path_hardly() -> None:
    """A path of all K tokens alike costs p^-H as before; leaving out one of three tokens helps a little."""
    law = np.log([[0.4, 0.35, 0.25]] * 4)
    assert best_constant_bias(law, (0,) * 4, 60.0).log_rollouts == pytest.approx(0.0, abs=1e-6)
    p, q = 0.5, 0.25
    for u, each in (((0, 1, 2, 0, 1, 2), p), ((0, 1, 0, 1, 0, 1), p / (p + q))):
        path = HiddenPath(3, 6, p, path=u)
        found = best_constant_bias(along(path, u), u, 60.0)
        assert found.log_rollouts == pytest.approx(-6 * math.log(each), abs=1e-6)


@pytest.mark.parametrize("u", [(0, 1, 1), (2, 2, 0)])
def test_the_best_constant_bias_balances_counts(u: tuple[int, ...]) -> None:
    laws = along(TREE, u)
    found = best_constant_bias(laws, u, 4.0)
    shifted = laws + found.beta
    shifted -= np.logaddexp.reduce(shifted, axis=1, keepdims=True)
    reach = float(shifted[np.arange(3), list(u)].sum())
    assert found.log_rollouts == pytest.approx(-reach)
    inner = np.abs(found.beta) < 4.0 - 1e-6
    counts = np.bincount(u, minlength=3)
    assert np.exp(shifted).sum(axis=0)[inner] == pytest.approx(counts[inner], abs=1e-4)
    for beta in np.random.default_rng(0).uniform(-4, 4, (200, 3)):
        other = laws + beta
        other -= np.logaddexp.reduce(other, axis=1, keepdims=True)
        assert -float(other[np.arange(3), list(u)].sum()) >= found.log_rollouts - 1e-7


def test_waiting_under_a_constant_bias_costs_what_it_says() -> None:
    u = (2, 0)
    found = best_constant_bias(along(TREE, u), u, 6.0)
    bias = {token: float(beta) for token, beta in enumerate(found.beta)}
    used: list[int] = []
    for seed in range(40):
        held = Held(LogitServer(TREE, "root/sample", Bias(3, 6.0)), seed)
        held.at((), u).ask(bias=bias)
        used.append(held.used.calls)
    price = math.exp(found.log_rollouts)
    assert price < 1 / token_probabilities(TREE, u).prod()
    assert abs(np.mean(used) - price) <= 4.5 * np.std(used) / math.sqrt(len(used))


# ---- seeds -------------------------------------------------------------------------------------------


def test_a_seed_replays_a_rollout_with_a_stronger_report() -> None:
    server = LogitServer(TREE, "root/full")
    held = Held(server)
    for i in range(5):
        request = Request((), (), 1, 3, Report.SAMPLE, key=stream_key(i, "", "seed"))
        (first,) = server.answer([request])
        again = replay(held, request)
        assert again.continuation(0) == first.continuation(0)
        assert again.laws is not None


def test_a_seed_with_bans_draws_without_replacement() -> None:
    """The Gumbel-max race keeps the prefix, inverse transform does not; order of the second draw by its law."""
    tree = Tabular.random(6, 2, seed=1, concentration=3.0)
    changed = 0
    for i in range(12):
        seed = stream_key(i, "", "seed")
        gumbel = Held(LogitServer(tree, "root/sample", Bias(5, 1.0), "gumbel"))
        u, drawn = draws_without_replacement(gumbel, (), seed, 1, 6)
        assert len(set(drawn)) == len(drawn)
        assert gumbel.used.calls == len(drawn)
        assert len(drawn) == 6 or drawn[-1] in u
        try:
            inverse = Held(LogitServer(tree, "root/sample", Bias(5, 1.0)))
            draws_without_replacement(inverse, (), seed, 1, 4)
        except BackendError:
            changed += 1
    assert changed > 0


def test_second_draws_follow_the_law_of_draws_without_replacement() -> None:
    """At the empty prefix: pairs (a, b) have probability p_a·p_b/(1 - p_a); chi-squared at error 1e-4."""
    from scipy import stats

    p = np.array([0.5, 0.3, 0.2])
    held = Held(LogitServer(Tabular([p]), "root/sample", Bias(2, 1.0), "gumbel"))
    counts = np.zeros((3, 3))
    for i in range(120):
        _, drawn = draws_without_replacement(held, (), stream_key(i, "", "seed"), 0, 2)
        counts[tuple(drawn)] += 1
    law = p[:, None] * p / (1 - p[:, None])
    off = ~np.eye(3, dtype=bool)
    assert stats.chisquare(counts[off], 120 * law[off]).pvalue > 1e-4
