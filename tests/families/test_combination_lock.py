"""The combination lock: its token law by enumeration, its closed forms by dynamic programming."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from reroot import InvalidInput, limits
from reroot.blocks import BlockShape, LockClass
from reroot.families import CombinationLock, parse
from reroot.testing import check_generator
from reroot.types import Output

Tokens = tuple[int, ...]


def law_of(lock: CombinationLock) -> dict[Tokens, float]:
    """Every sequence that can be drawn, with its probability."""
    layer: dict[Tokens, float] = {(): 1.0}
    for _ in range(lock.horizon):
        laws = np.exp(lock.log_laws((), list(layer)))
        layer = {
            (*u, a): mass * law[a]
            for (u, mass), law in zip(layer.items(), laws, strict=True)
            for a in range(lock.vocab_size)
            if law[a] > 0
        }
    return layer


def by_chain(lock: CombinationLock) -> dict[Tokens, float]:
    """The same from the definition: latent states, then noise, then actions."""
    shape, goods = lock.shape, lock.goods
    each = 2.0**-shape.noise

    def seen(h: int, latents: dict[int, float]) -> list[tuple[Tokens, int, float]]:
        return [
            (shape.block(x), int(s), latents.get(int(s), 0.0) * each)
            for x, s in enumerate(lock.labels[h])
            if latents.get(int(s), 0.0)
        ]

    start = dict.fromkeys(range(goods), 1 / goods)
    layer = [(block, s, m) for block, s, m in seen(0, start)]
    for h in range(shape.layers):
        grown: list[tuple[Tokens, int, float]] = []
        for u, s, mass in layer:
            for a in range(shape.actions):
                right = s < goods and a == lock.keys[h, s]
                after = dict.fromkeys(range(goods), (1 - lock.fail) / goods) if right else {}
                after[goods] = lock.fail if right else 1.0
                grown += [
                    ((*u, a, *block), t, mass / shape.actions * m)
                    for block, t, m in seen(h + 1, after)
                ]
        layer = grown
    return {u: mass for u, _, mass in layer}


def test_the_smallest_lock_by_hand() -> None:
    lock = CombinationLock(2, actions=2, goods=2, noise=1, decoders=3)
    law = law_of(lock)
    assert (lock.horizon, lock.vocab_size, len(law)) == (11, 2, 128)
    assert math.isclose(sum(law.values()), 1.0)
    reward = lock.problem().reward
    passed = sum(m * float(reward(Output(u, "", True))) for u, m in law.items())  # type: ignore[arg-type]
    assert math.isclose(passed, 0.25)


@pytest.mark.parametrize(
    "sizes",
    [(1, 3, 2, 1, 0.2, 2), (2, 2, 1, 1, 0.3, 2), (1, 2, 2, 2, 0.0, 5), (2, 3, 2, 0, 0.1, 2)],
)
def test_token_law_is_that_of_the_chain(sizes: Any) -> None:
    for seed in range(3):
        lock = CombinationLock(*sizes, decoders=2, seed=seed)
        law, known = law_of(lock), by_chain(lock)
        assert law.keys() == known.keys()
        assert np.allclose([law[u] for u in known], [*known.values()], rtol=1e-12)
        assert all((lock.latent(u) < lock.goods) == _ends_well(lock, u) for u in known)


def _ends_well(lock: CombinationLock, tokens: Tokens) -> bool:
    length = lock.shape.length
    starts = range(0, len(tokens), length + 1)
    states = [lock.labels[h, lock.shape.code(tokens[i : i + length])] for h, i in enumerate(starts)]
    return bool(states[-1] < lock.goods)


def test_no_teleporting() -> None:
    """A good code that was put in, not drawn, is an observation of the bad state."""
    lock = CombinationLock(2, 3, 2, 2, decoders=2)
    right = lock.problem().demonstration
    assert isinstance(right, tuple)
    length = lock.shape.length
    assert lock.latent(right) < lock.goods
    wrong = (right[length] + 1) % 3
    forged = (*right[:length], wrong, *right[length + 1 :])
    assert lock.latent(forged) == lock.goods
    bad = int(np.flatnonzero(lock.labels[0] == lock.goods)[0])
    assert lock.latent((*lock.shape.block(bad), *right[length:])) == lock.goods
    nothing = (max(lock.shape.base, 2),) * length  # tokens that are no digits
    assert lock.latent((*nothing, *right[length:])) == lock.goods


def test_verifier_is_exact() -> None:
    lock = CombinationLock(1, 2, 1, 1, decoders=3, seed=1)
    law = law_of(lock)
    verify = lock.problem().verifier
    assert verify is not None
    alive = {u[:i] for u in law if lock.latent(u) < lock.goods for i in range(len(u) + 1)}
    every = {u[:i] for u in law for i in range(len(u) + 1)}
    for u in every:
        assert verify(Output(u, "", len(u) == lock.horizon)) == (u in alive)


# ---- closed forms --------------------------------------------------------------------------


def optimum(lock: CombinationLock, layer: int, reward: np.ndarray) -> float:
    """The largest expected reward of a latent state of a layer, by backward induction."""
    value = reward
    for _ in range(layer):
        on = (1 - lock.fail) * value[:-1].mean() + lock.fail * value[-1]
        value = np.array([max(on, value[-1])] * lock.goods + [value[-1]])
    return float(value[:-1].mean())


@pytest.mark.parametrize("fail", [0.0, 0.1, 0.4])
@pytest.mark.parametrize(("H", "A", "G"), [(1, 2, 2), (3, 4, 2), (4, 3, 3)])
def test_closed_forms(H: int, A: int, G: int, fail: float) -> None:
    lock = CombinationLock(H, A, G, 1, fail, decoders=3)
    codes = lock.shape.codes
    uniform = np.full((H, codes, A), 1 / A)
    best = np.zeros((H, codes, A))
    for h, x in itertools.product(range(H), range(codes)):
        s = lock.labels[h, x]
        best[h, x, lock.keys[h, s] if s < G else 0] = 1.0
    good = np.array([1.0] * G + [0.0])
    assert math.isclose(lock.value(best), limits.lock_value(H, fail))
    assert math.isclose(optimum(lock, H, good), limits.lock_value(H, fail))
    assert math.isclose(lock.value(uniform), limits.lock_uniform(H, A, fail))
    blind = [
        np.tile(np.eye(A)[list(a)][:, None], (1, codes, 1))
        for a in itertools.product(range(A), repeat=H)
    ]
    assert math.isclose(max(map(lock.value, blind)), limits.lock_blind(H, G, fail))
    reach = [sum(optimum(lock, h, np.eye(G + 1)[s]) for s in range(G + 1)) for h in range(H)]
    assert np.allclose(reach, [limits.lock_reach(h, fail) for h in range(H)])
    assert math.isclose(A * max(reach), limits.lock_coverability(H, A, fail))
    moves = np.array([[(1 - fail) / G] * G + [fail], [0.0] * G + [1.0]])
    assert math.isclose(float(moves.max(axis=0).sum()), limits.lock_pushforward(fail))


# ---- conformance and specs -------------------------------------------------------------------


@pytest.mark.slow(2)
@pytest.mark.parametrize("sizes", [(1, 4, 1, 2, 0.0, 3), (2, 2, 2, 0, 0.1, 2)])
def test_conformance(sizes: Any) -> None:
    check_generator(lambda: CombinationLock(*sizes, decoders=3))


def test_a_spec_reads_back() -> None:
    spec = parse("combination_lock:H=3,A=3,n=2,q=0.1")
    assert str(parse(str(spec))) == str(spec)
    lock = spec(seed=2)
    assert isinstance(lock, CombinationLock)
    assert lock.shape == BlockShape(3, 3, 3, 2, 2)
    assert lock.label.endswith("seed=2")
    again = parse(lock.label.rpartition(",seed")[0])(seed=2)
    assert again.describe() == lock.describe()
    assert spec(seed=3).describe() != lock.describe()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"actions": 1}, "as many good states as actions"),
        ({"fail": 1.0}, "fail q"),
        ({"noise": 20}, "noise bits"),
        ({"goods": 0}, "latent states"),
        ({"decoders": 0}, "decoders"),
        ({"layers": 2000}, "layers H"),
    ],
)
def test_bad_parameters(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        CombinationLock(**{"layers": 2, **wrong})


def test_the_truth_is_a_member_of_the_public_class() -> None:
    lock = CombinationLock(3, decoders=5, class_seed=7, seed=4)
    public = LockClass(lock.shape, 5, 7)
    values = public.values(0.0)
    for h in range(3):
        assert (public.labels[h, lock.truth[h]] == lock.labels[h]).all()
        best = values[h][lock.truth[h]].max(axis=1)
        assert ((best > 0) == (lock.labels[h] < lock.goods)).all()
