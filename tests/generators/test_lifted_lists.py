"""Laws from lists, ids and scores: exact to rounding, at the stated number of calls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reroot import InvalidInput
from reroot.errors import BackendError
from reroot.generators import Tabular
from reroot.generators.lifted import Bias, Held, LogitServer, Narrowed
from reroot.generators.lifted.by_lists import (
    law_anchored,
    law_fewest,
    law_from_ids,
    law_from_image,
    law_from_masks,
    law_from_scores,
    law_raw,
    longer_list,
)
from reroot.types import FloatArray


def one_law(p: FloatArray) -> Tabular:
    return Tabular([p])


def random_law(K: int, seed: int, scale: float = 2.0) -> FloatArray:
    x = np.exp(np.random.default_rng(seed).normal(0.0, scale, K))
    return x / x.sum()


def tv(first: FloatArray, second: FloatArray) -> float:
    """Of two laws in nats."""
    return 0.5 * float(np.abs(np.exp(first) - np.exp(second)).sum())


def served(p: FloatArray, serves: str, **bias: float | bool) -> Held:
    return Held(LogitServer(one_law(p), serves, Bias(**bias)))  # type: ignore[arg-type]


@pytest.mark.parametrize("K", [5, 24])
@pytest.mark.parametrize("k", [2, 6])
@pytest.mark.parametrize("b", [1, 3, 300])
def test_the_anchored_law_is_exact_at_its_price(K: int, k: int, b: int) -> None:
    if k >= K:
        return
    p = random_law(K, 10 * K + k)
    held = served(p, f"chosen/topk({k})", tokens=b, bound=20.0)
    found = law_anchored(held.at())
    assert tv(found, np.log(p)) <= 1e-12
    r = min(b, k - 1)
    assert held.used.calls == 1 + math.ceil((K - k) / r)
    if b >= k - 1:
        assert held.used.calls == math.ceil((K - 1) / (k - 1))


@pytest.mark.parametrize(
    ("T", "more"), [("0.7", ""), ("2", ""), ("1", ",top_k=3"), ("1.5", ",top_k=3")]
)
def test_the_anchor_undoes_temperature_and_top_k(T: str, more: str) -> None:
    p = random_law(11, 5, 1.0)
    held = served(p, f"chosen/topk(3)@T={T}{more}", bound=20.0)
    assert tv(law_anchored(held.at()), np.log(p)) <= 1e-12
    assert held.used.calls == math.ceil(10 / 2)


def test_an_anchor_with_too_small_a_bias_is_told() -> None:
    p = np.array([0.9, 0.05, 0.04, 0.01])
    with pytest.raises(BackendError, match="does not list token 3"):
        law_anchored(served(p, "chosen/topk(2)", bound=1.0).at())
    with pytest.raises(InvalidInput, match="processed"):
        law_anchored(served(p, "chosen/topk(2)", raw=True).at())


@pytest.mark.parametrize(("K", "k"), [(5, 1), (12, 2), (40, 6), (13, 4)])
def test_the_fewest_calls(K: int, k: int) -> None:
    p = random_law(K, K, 0.7)
    held = served(p, f"chosen/topk({k})", bound=6.0)
    assert tv(law_fewest(held.at()), np.log(p)) <= 1e-12
    assert held.used.calls == math.ceil((K - 1) / k)


@pytest.mark.parametrize(("K", "k"), [(5, 2), (12, 3), (40, 6)])
def test_masks_take_no_bound(K: int, k: int) -> None:
    p = random_law(K, K + 1, 6.0)
    held = served(p, f"chosen/topk({k})", tokens=K, bound=1e-3)
    assert tv(law_from_masks(held.at()), np.log(p)) <= 1e-12
    assert held.used.calls == math.ceil((K - 1) / (k - 1))


def test_bans_make_a_list_longer() -> None:
    p = random_law(60, 3)
    held = served(p, "chosen/topk(5)", tokens=20)
    ids, values = longer_list(held.at(), 25)
    order = np.argsort(-p)[:25]
    assert ids == order.tolist()
    assert np.abs(np.exp(values) - p[order]).max() <= 1e-15
    assert held.used.calls == 5
    with pytest.raises(InvalidInput):
        longer_list(held.at(), 26)


def test_a_known_image_needs_its_dimension_only() -> None:
    rng = np.random.default_rng(0)
    image, h = rng.normal(size=(300, 24)), rng.normal(size=24) * 0.3
    p = np.exp(image @ h)
    held = served(p / p.sum(), "chosen/topk(5)", bound=30.0)
    basis = image @ rng.normal(size=(24, 24))  # known up to a change of basis
    assert tv(law_from_image(held.at(), basis), np.log(p / p.sum())) <= 1e-11
    assert held.used.calls == 24 // 4


@pytest.mark.parametrize("by_sum", [True, False])
def test_raw_reports_need_a_call_per_token(by_sum: bool) -> None:
    K, k = 12, 4
    p = np.sort(random_law(K, 2))[::-1].copy()  # the guess, token K - 1, is not listed
    held = served(p, f"chosen/topk({k})", bound=60.0, raw=True)
    assert tv(law_raw(held.at(), by_sum=by_sum), np.log(p)) <= 1e-12
    assert held.used.calls == K - k - by_sum
    with pytest.raises(InvalidInput, match="raw"):
        law_raw(served(p, f"chosen/topk({k})").at())


def test_raw_reports_with_choices() -> None:
    """n = 20 draws, b = 30: the expected calls are those of a coupon collector, at least the floor."""
    K, k, n, b = 300, 5, 20, 30
    p = np.full(K, 1.0 / K) * np.exp(np.random.default_rng(0).normal(0, 0.01, K))
    p /= p.sum()
    held = served(p, f"chosen/topk({k})", tokens=b, bound=60.0, raw=True)
    assert tv(law_raw(held.at(), n=n), np.log(p)) <= 1e-10
    expected = (K - 1 - k) / (b * (1 - (1 - 1 / b) ** n))
    assert math.ceil((K - 1 - k) / n) <= held.used.calls <= expected + 8


@pytest.mark.parametrize(
    "serves", ["chosen/argmax(1)", "chosen/sample@T=0", "chosen/argmax(1)@T=2"]
)
def test_ids_alone_give_the_law_by_bisection(serves: str) -> None:
    K, R, epsilon = 5, 8.0, 0.01
    p = random_law(K, 4, 1.0)
    held = served(p, serves, tokens=1, bound=8.0)
    found = law_from_ids(held.at(), R, epsilon)
    assert np.abs(found - np.log(p)).max() <= 2 * epsilon
    assert tv(found, np.log(p)) <= math.tanh(epsilon / 2)
    assert held.used.calls == 1 + (K - 1) * math.ceil(math.log2(R / (2 * epsilon)))


def test_the_bound_on_bisected_laws_is_tight() -> None:
    """Two sets of tokens whose gaps to a rare top token move by + ε and - ε."""
    epsilon = 0.01
    share = 1 / (1 + math.exp(epsilon))
    law = np.log([share, 1 - share])
    moved = law + np.array([epsilon, -epsilon])
    assert tv(law, moved - np.logaddexp.reduce(moved)) == pytest.approx(math.tanh(epsilon / 2))


def test_scores_give_the_law() -> None:
    p = random_law(7, 1)
    held = Held(Narrowed(one_law(p), "reset/logprob"))
    assert tv(law_from_scores(held.at()), np.log(p)) <= 1e-12
    assert held.used.calls == 6
