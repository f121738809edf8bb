"""Strategies: where groups start, by enumeration; and that an update is the gradient it states."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training_step import Case

from reroot import AccessDenied, Contract, InvalidInput, run, specs
from reroot.generators.tabular import Tabular
from reroot.runs.enumerated import EnumeratedRun, enumerate_runs
from reroot.tasks.base import Problem
from reroot.training import KL, strategies
from reroot.training.advantages import token_advantages
from reroot.training.group import Group, group
from reroot.training.strategies import Start, Strategy
from reroot.types import Cost, FloatArray, Prefix

BETA = 0.3
SEEDS = range(3)


def case(horizon: int = 2) -> Case:
    return Case(Tabular.random(2, horizon, seed=4))


def problem(here: Case) -> Problem:
    """Rewards of the case; outputs that begin with 1 are verified; (1, 0, …) is demonstrated."""
    worth = dict(zip(here.tree.outputs, here.rewards.tolist(), strict=True))
    return Problem(
        "p",
        (),
        here.horizon,
        reward=lambda output: worth[output.tokens],
        verifier=lambda output: output.tokens[:1] != (0,),
        demonstration=(1, *[0] * (here.horizon - 1)),
    )


def runs_of(strategy: Strategy, here: Case, size: int, seed: int, **more: Any):
    grants = strategy.requires
    bound = group(strategy=strategy, size=size, **more)
    runs = enumerate_runs(bound, problem(here), here.policy, grants=grants, seed=seed)
    assert math.fsum(r.probability for r in runs) == pytest.approx(1.0, abs=1e-12)
    return runs


def read(run: EnumeratedRun) -> Group:
    assert run.attempt.error is None
    return Group.of_metadata(run.attempt.metadata, (), run.attempt.cost)


def update(here: Case, groups: list[Group], ratios: dict[int, FloatArray], beta: float):
    """(prefixes, K) (1/B)·Σ A_it·∇ log π."""
    found = np.zeros(here.laws.shape)
    total = sum(len(g.rewards) for g in groups)
    for g, values in zip(groups, token_advantages(groups, ratios, beta), strict=True):
        for tokens, row in zip(g.tokens, values, strict=True):
            for t, token in enumerate(tokens):
                at = here.row[(*g.start.prefix, *tokens[:t])]
                found[at] -= row[t] / total * np.exp(here.laws[at])
                found[at, token] += row[t] / total
    return found


def stated(here: Case, starts: dict[tuple[int, ...], float]) -> FloatArray:
    """Σ_u μ(u)·∇E[r | u], from the gradient of the root value of policies that pass through u."""
    whole = here.reward_gradient()
    visits = here.written.visits()
    found = np.zeros(whole.shape)
    for start, weight in starts.items():
        below = np.array([u[: len(start)] == start for u in here.tree.prefixes])
        found[below] += weight * whole[below] / visits[here.row[start]]
    return found


ENUMERABLE = [
    strategies.Root(),
    strategies.Plurality(draws=3, margin=2),
    strategies.Plurality(draws=2, margin=None),
    strategies.Argmax(),
    strategies.SelfReset(),
    strategies.Fork(among=1),
    strategies.Fork(among=2),
    strategies.VineValues(samples=1),
    strategies.VineValues(samples=1, stride=2),
    strategies.Verified(tries=2, quota=1),
    strategies.AdaBack(rootward=0.3),
    strategies.R3(stages=2),
    strategies.R3(stages=2, schedule="staged"),
    strategies.POPE(stages=2),
]


@pytest.mark.slow(1)
@pytest.mark.parametrize("strategy", ENUMERABLE, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_update_is_the_stated_gradient(strategy: Strategy, seed: int) -> None:
    """Over every draw that a group can see, with its random numbers held."""
    here = case()
    starts: dict[tuple[int, ...], float] = {}
    total = np.zeros(here.laws.shape)
    for each in runs_of(strategy, here, 2, seed):
        found = read(each)
        start = found.start.prefix.tokens
        starts[start] = starts.get(start, 0.0) + each.probability
        total += each.probability * update(here, [found], {}, 0.0)
    known = stated(here, starts)
    assert np.abs(known).max() > 1e-3
    assert total == pytest.approx(known, abs=1e-10)


def test_with_the_kl_it_is_the_gradient_of_the_objective() -> None:
    """One root group: ∇J_β. With a prefix group beside it: half its gradient, and the KL whole."""
    here = case()
    root = [(r.probability, read(r)) for r in runs_of(strategies.Root(), here, 2, 0)]
    ratio = {id(g): here.policy.log_ratios(np.array(g.tokens)) for _, g in root}
    alone = sum(p * update(here, [g], {0: ratio[id(g)]}, BETA) for p, g in root)
    assert alone == pytest.approx(here.gradient(BETA), abs=1e-10)
    taught = runs_of(strategies.R3(stages=2), here, 2, 1)
    other = [(r.probability, read(r)) for r in taught]
    assert {len(g.start.prefix) for _, g in other} == {1}
    both = sum(
        p * q * update(here, [g, h], {1: ratio[id(h)]}, BETA)
        for (p, g), (q, h) in itertools.product(other, root)
    )
    kl = here.gradient(1.0 + BETA) - here.gradient(1.0)
    halves = (stated(here, {(1,): 1.0}) + here.reward_gradient()) / 2
    assert both == pytest.approx(halves + kl, abs=1e-10)


def test_the_kl_is_refused_from_a_prefix() -> None:
    found = Group((), Start(Prefix((1,))), [[0], [1]], None, [0.0, 1.0], None, Cost(), Cost())
    with pytest.raises(InvalidInput, match="from the root"):
        token_advantages([found], {0: np.zeros((2, 1))}, 0.1)


def test_equal_rewards_have_no_variance_and_move_nothing() -> None:
    found = Group((), Start(Prefix()), [[0, 1], [1]], None, [0.25, 0.25], None, Cost(), Cost())
    assert found.zero_variance
    assert not token_advantages([found], {}, 0.0)[0].any()


def test_one_reward_alone_has_no_baseline() -> None:
    found = Group((), Start(Prefix()), [[0, 1]], None, [0.25], None, Cost(), Cost())
    with pytest.raises(InvalidInput, match="at least two"):
        token_advantages([found], {}, 0.0)


# ---- starts --------------------------------------------------------------------------------------


def start_law(strategy: Strategy, here: Case, seed: int) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    for each in runs_of(strategy, here, 1, seed):
        start = read(each).start.prefix.tokens
        found[start] = found.get(start, 0.0) + each.probability
    return found


@pytest.mark.parametrize("seed", range(6))
def test_verified_starts_are_verified(seed: int) -> None:
    here = case()
    found = play_group(strategies.Verified(tries=30), problem(here), here, seed)
    assert found.start.prefix.tokens[:1] in ((), (1,))


def test_argmax_follows_the_mode() -> None:
    here = case(3)
    lengths = set()
    for seed in range(12):
        (start,) = start_law(strategies.Argmax(), here, seed)
        lengths.add(len(start))
        for t, token in enumerate(start):
            assert token == here.laws[here.row[start[:t]]].argmax()
    assert lengths == {0, 1, 2}


def test_fork_starts_before_the_most_surprising_token() -> None:
    here = case(3)
    found = start_law(strategies.Fork(among=1), here, 0)
    known: dict[tuple[int, ...], float] = {}
    for y, mass in zip(here.tree.outputs, here.masses.tolist(), strict=True):
        each = [here.laws[here.row[y[:t]], y[t]] for t in range(3)]
        start = y[: int(np.argmin(each))]
        known[start] = known.get(start, 0.0) + mass
    assert found == pytest.approx(known, abs=1e-12)


def test_a_start_is_never_a_complete_output() -> None:
    """Tokens that end an output; walks that end early."""
    here = Case(Tabular.random(3, 3, seed=4, end=(2,)))
    ends = Problem("p", (), 3, reward=lambda output: 1.0, demonstration=(1, 2))
    for strategy in (strategies.Argmax(), strategies.SelfReset(), strategies.R3(stages=1)):
        for seed in range(8):
            found = play_group(strategy, ends, here, seed)
            assert len(found.start.prefix) < 3
            assert 2 not in found.start.prefix
            assert all(found.tokens)


def play_group(strategy: Strategy, what: Problem, here: Case, seed: int) -> Group:
    done = run(
        group(strategy=strategy, size=2), [what], here.policy, grants=strategy.requires, seed=seed
    )
    (attempt,) = done.attempts
    assert attempt.error is None, attempt.error
    return Group.of_metadata(attempt.metadata, (), attempt.cost)


@pytest.mark.parametrize("strategy", [s for s in ENUMERABLE if s.name != "root"], ids=str)
def test_less_than_it_requires_is_refused(strategy: Strategy) -> None:
    root = Contract.parse("root/sample+reward+verifier+demonstration")
    with pytest.raises(AccessDenied):
        run(group(strategy=strategy, size=2), [problem(case())], case().policy, grants=root)


def test_building_is_paid_for() -> None:
    here = case(3)
    found = play_group(strategies.SelfReset(), problem(here), here, 0)
    assert found.building == Cost(rollouts=1, tokens=3, prefill=0)
    suffixes = sum(map(len, found.tokens))
    assert found.spent.tokens == 3 + suffixes
    assert found.spent.rewards == 2


# ---- curricula -----------------------------------------------------------------------------------

PROMPT = (5, 6)


def learnt(strategy: Strategy, share: float, mean: float) -> None:
    start = Start(Prefix((1,)) if share else Prefix(), share)
    strategy.learn(PROMPT, start, [mean, mean])


def test_adaback_follows_its_rule() -> None:
    strategy = strategies.AdaBack(tau=0.5, smoothing=0.5)

    def interval() -> list[float]:
        (found,) = strategy.state()["intervals"].values()
        return found

    learnt(strategy, 0.6, 0.0)
    assert interval() == [0.6, 1.0]
    learnt(strategy, 0.8, 0.5)
    assert interval() == [0.0, 0.8]
    learnt(strategy, 0.0, 0.0)  # the empty prefix fails: nothing is learnt of the interval
    assert interval() == [0.0, 0.8]
    learnt(strategy, 0.0, 1.0)
    assert interval() == [0.0, 0.0]
    assert strategy.state()["mean"] == pytest.approx([0.3 / 8, 0.1 + 0.4 + 0.1], abs=0.5)


def test_adaback_needs_visits_linear_in_the_length() -> None:
    """A policy that masters a suffix after one success from it (AdaBack, arXiv 2506.18110): no 2^L waits."""
    visits = []
    for length in (8, 16, 32):
        rng = np.random.default_rng(0)
        strategy = strategies.AdaBack(tau=0.5, rootward=0.0)
        known, count = length, 0  # tokens from `known` on are right
        while known:
            low, high = strategy.state()["intervals"].get(key(), [0.0, 1.0])
            share = low + (high - low) * rng.random()
            cut = int(share * length)
            mean = 1.0 if cut >= known - 1 else 0.0
            known = min(known, cut) if mean else known
            strategy.learn(PROMPT, Start(Prefix(tuple([1] * cut)), share), [mean, mean])
            count += 1
            assert count < 100 * length
        visits.append(count)
    assert visits[2] < 4 * 4 * visits[0]


def key() -> str:
    from reroot.training.strategies.base import prompt_key

    return prompt_key(PROMPT)


def test_r3_goes_backwards_through_its_stages() -> None:
    strategy = strategies.R3(stages=4, schedule="staged", visits=2)
    seen = []
    for _ in range(10):
        seen.append(strategy.share(None))  # type: ignore[arg-type]
        learnt(strategy, seen[-1], 0.0)
    assert seen == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]


def test_pope_finds_the_shortest_sufficient_prefix() -> None:
    strategy = strategies.POPE(stages=4, guided=1.0)
    cuts = []
    for _ in range(12):
        cut = strategy.state()["cuts"].get(key(), 1)
        cuts.append(cut)
        learnt(strategy, cut / 4, 1.0 if cut >= 2 else 0.0)
    assert set(cuts[2:]) <= {1, 2}
    learnt(strategy, 0.0, 1.0)  # unguided groups say nothing about the cut
    assert strategy.state()["cuts"] == {key(): cuts[-1] % 2 + 1}


@pytest.mark.parametrize("strategy", ENUMERABLE, ids=str)
def test_state_goes_through_json(strategy: Strategy) -> None:
    import json

    fresh = strategies.get_strategy(spec(strategy))
    assert str(fresh) == str(strategy)
    for share, mean in ((0.5, 0.0), (0.75, 1.0), (0.0, 1.0)):
        learnt(fresh, share, mean)
    again = strategies.get_strategy(spec(strategy))
    again.restore(json.loads(json.dumps(fresh.state())))
    assert again.state() == fresh.state()


def spec(strategy: Strategy) -> str:
    settings = ",".join(f"{k}={v}" for k, v in strategy.settings().items())
    return f"{strategy.name}:{settings}" if settings else strategy.name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adabck", "Did you mean 'adaback'"),
        ("adaback:tua=0.5", "Did you mean 'tau'"),
        ("adaback:tau=0", r"tau must lie in \(0, 1\]"),
        ("plurality:draws=0", "draws must be an integer >= 1"),
        ("r3:schedule=late", "'mixed' or 'staged'"),
        ("root:n=3", "has no parameter 'n'"),
        ("adaback:tau=0.5,tau=0.6", "twice"),
        ("adaback:tau", "expected 'key=value'"),
        ("adaback:demonstrations=x", "must map prompts to texts"),
    ],
)
def test_bad_descriptions_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        strategies.get_strategy(text)


def test_no_margin_is_said_in_one_way() -> None:
    found = [strategies.get_strategy(f"plurality:margin={text}") for text in ("none", "None")]
    assert {str(strategy) for strategy in found} == {"plurality(draws=31, margin=None)"}


MINE = """
from reroot.training import strategies

class Halfway(strategies.Root):
    name = "halfway"
    def __init__(self, share=0.5):
        self.share = share

fixed = Halfway(0.25)
number = 3
"""


def test_strategies_of_ones_own_are_found_in_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    found = [
        strategies.get_strategy(f"{file}:{text}")
        for text in ("Halfway:share=0.75", "Halfway", "fixed")
    ]
    assert [str(s) for s in found] == [f"halfway(share={x})" for x in (0.75, 0.5, 0.25)]
    assert strategies.get_strategy(found[0]) is found[0]
    for text, said in (
        ("Halfwy", "Did you mean 'Halfway'"),
        ("number", "must be a Strategy, got 3|takes no settings"),
        ("fixed:share=1", "takes no settings"),
        ("Halfway:shore=1", "Did you mean 'share'"),
    ):
        with pytest.raises(InvalidInput, match=said):
            strategies.get_strategy(f"{file}:{text}")


def test_packages_bring_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    entry = EntryPoint("theirs", "reroot.training.strategies:SelfReset", "reroot.strategies")
    monkeypatch.setattr(specs, "plugins", lambda kind: {"theirs": entry})
    assert isinstance(strategies.get_strategy("theirs"), strategies.SelfReset)
    with pytest.raises(InvalidInput, match="Did you mean 'theirs'"):
        strategies.get_strategy("their")


def test_kl_settings_are_checked() -> None:
    with pytest.raises(InvalidInput, match="beta"):
        KL(beta=-1.0)
    with pytest.raises(InvalidInput, match="k1_reward"):
        KL(beta=0.1, estimator="k1")  # type: ignore[arg-type]
