"""Comparison with a reference: exact, with the kind of difference named, and by samples."""

from __future__ import annotations

import numpy as np
import pytest

from hidden_laws import flat, peaked, shapes
from reroot.errors import InvalidInput
from reroot.probe.sampling_law import same_law, two_samples

VOCAB, LISTED = 400, 50


def renewed(logs: np.ndarray) -> np.ndarray:
    return logs - np.log(np.exp(logs).sum())


def lists(laws: list[np.ndarray], listed: int = LISTED) -> list[tuple[np.ndarray, np.ndarray]]:
    """The most likely tokens of each law."""
    tops = [np.argsort(-law, kind="stable")[:listed] for law in laws]
    return [(top, law[top]) for top, law in zip(tops, laws, strict=True)]


def noisy(laws: list[np.ndarray], size: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [renewed(law + size * rng.standard_normal(len(law))) for law in laws]


def mixed(laws: list[np.ndarray], which: slice, seed: int = 1) -> list[np.ndarray]:
    """Those laws with other tokens in the places."""
    rng, out = np.random.default_rng(seed), list(laws)
    for i in range(len(laws))[which]:
        out[i] = laws[i][rng.permutation(len(laws[i]))]
    return out


REFERENCE = shapes(VOCAB)
CHANGED = {
    "equal within rounding": noisy(REFERENCE, 1e-4),
    "quantized weights": noisy(REFERENCE, 0.15),
    "a temperature of 0.7": [renewed(law / 0.7) for law in REFERENCE],
    "a temperature of 1.5": [renewed(law / 1.5) for law in REFERENCE],
    "other weights": mixed(REFERENCE, slice(None)),
    "other template": mixed(REFERENCE, slice(3, None)),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_the_kind_of_difference_is_named(kind: str) -> None:
    for listed in (LISTED, VOCAB):
        seen = same_law(lists(CHANGED[kind], listed), REFERENCE, 1e-3)
        assert seen.evidence.startswith(kind), seen.evidence
        assert seen.holds == (kind == "equal within rounding") == bool(seen.p_value)


def test_a_temperature_of_quantized_weights_is_still_one() -> None:
    changed = [renewed(law / 0.7) for law in noisy(REFERENCE, 0.03)]
    seen = same_law(lists(changed), REFERENCE, 1e-3)
    assert seen.evidence.startswith("a temperature of 0.7")
    assert "beside differences" in seen.evidence


def test_lists_that_sum_to_1_are_renormalized() -> None:
    changed = [(ids, logs - np.log(np.exp(logs).sum())) for ids, logs in lists(REFERENCE, 20)]
    assert same_law(changed, REFERENCE, 1e-3).evidence.startswith("renormalized")


def test_truncated_entries_do_not_break_it() -> None:
    """Ids that a server has cut off, at −9999 or −∞, are a difference, not an error."""
    ids, logs = lists(REFERENCE[:1])[0]
    for cut in (-9999.0, -np.inf):
        seen = same_law([(ids, np.where(np.arange(len(ids)) < 20, logs, cut))], REFERENCE[:1], 1e-3)
        assert not seen.holds
        assert "nan" not in seen.evidence


def test_the_stated_numbers_are_those_of_a_closed_form() -> None:
    """KL of (1/2, 1/2) and (1/4, 3/4) is ½ log 4/3; the differences are log 2 and log 3/2."""
    stated = [(np.array([0, 1]), np.log([0.5, 0.5]))]
    seen = same_law(stated, [np.log([0.25, 0.75])], 1e-3)
    assert f"at most {np.log(2):.3g} nats" in seen.evidence
    assert f"KL of the listed part {0.5 * np.log(4 / 3):.2g} nats" in seen.evidence


def test_what_cannot_be_compared_is_refused() -> None:
    one = lists(REFERENCE[:1])
    with pytest.raises(InvalidInput, match="one reference law per stated list"):
        same_law(one, REFERENCE[:2], 1e-3)
    with pytest.raises(InvalidInput, match="outside a reference law of 10"):
        same_law(one, [REFERENCE[0][:10]], 1e-3)


# ---- by samples -------------------------------------------------------------------------------------


def rows(law: np.ndarray, n: int, rng: np.random.Generator, length: int = 3) -> list[list[int]]:
    """Chains: what comes next depends on the parity of the last token."""
    p = np.exp(law) / np.exp(law).sum()
    out: list[list[int]] = []
    for _ in range(n):
        row = [int(rng.choice(len(p), p=p))]
        while len(row) < length:
            row.append(int(rng.choice(len(p), p=p if row[-1] % 2 else np.roll(p, 7))))
        out.append(row)
    return out


@pytest.mark.slow(2)
def test_samples_of_one_law_are_taken_for_two_at_most_at_the_level() -> None:
    """100 pairs at level 0.1: at most 20 (a fair test exceeds that with probability 1e-3)."""
    law, rng = flat(40, np.random.default_rng(0)), np.random.default_rng(1)
    found = [two_samples(rows(law, 30, rng, 2), rows(law, 20, rng, 2), 0.1) for _ in range(100)]
    denied = sum(not one.holds for one in found)
    assert 2 <= denied <= 20


@pytest.mark.slow(1)
def test_other_laws_are_seen() -> None:
    rng, law = np.random.default_rng(2), peaked(60, 0.4, np.random.default_rng(0))
    ours = rows(law, 150, rng)
    assert not two_samples(ours, rows(renewed(law / 0.6), 150, rng), 1e-3).holds
    assert two_samples(ours, rows(law, 150, rng), 1e-3).holds


def test_what_differs_after_the_first_token_is_seen() -> None:
    rng, law = np.random.default_rng(3), peaked(8, 0.5, np.random.default_rng(0))
    swapped = [[row[0], row[2], row[1]] for row in rows(law, 200, rng)]
    assert not two_samples(rows(law, 200, rng), swapped, 1e-2).holds


def test_the_same_numbers_again() -> None:
    rng, law = np.random.default_rng(4), flat(20, np.random.default_rng(0))
    both = rows(law, 40, rng), rows(law, 40, rng)
    assert two_samples(*both, 0.01) == two_samples(*both, 0.01)
    with pytest.raises(InvalidInput, match="two rows each"):
        two_samples([[1]], both[0], 0.01)
