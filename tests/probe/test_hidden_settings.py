"""Hidden settings: found, named and bounded; nothing is said that draws do not show."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hidden_laws import DEFAULTS, drawn, everywhere, flat, penalized, sampled, shapes
from reroot.errors import InvalidInput
from reroot.probe.penalties import Penalty, applied
from reroot.probe.sampling_law import Drawn, Setting, estimate, log_partition, plan
from reroot.probe.tempering import ranked, temperature
from reroot.probe.truncation import roundest

VOCAB = 400
COUNTS = (700, 500, 200, 200, 200, 200)
NEUTRAL = {"temperature": 1.0, "top_k": math.inf, "top_p": 1.0, "min_p": 0.0}


def found(draws: Drawn | list[Drawn]) -> dict[str, Setting]:
    return {setting.name: setting for setting in estimate(draws)}


def covers(settings: dict[str, Setting], truth: dict[str, object]) -> list[str]:
    """Names of the settings whose interval misses the truth."""
    true = {name: float(truth.get(name, neutral)) for name, neutral in NEUTRAL.items()}  # type: ignore[arg-type]
    return [
        name
        for name, one in settings.items()
        if not one.low - 1e-9 <= true.get(name, math.nan) <= one.high + 1e-9
    ]


@pytest.mark.slow(1)
@pytest.mark.parametrize("listed", [None, 60])
def test_llama_servers_defaults_are_named(listed: int | None) -> None:
    """2,000 draws at six prefixes: temperature 0.8, top-k 40, top-p 0.95 and min-p 0.05."""
    settings = found(everywhere(shapes(VOCAB), COUNTS, 4, listed, **DEFAULTS))
    assert set(settings) == set(DEFAULTS)
    assert covers(settings, dict(DEFAULTS)) == []
    assert settings["top_k"].value == 40
    assert settings["min_p"].value == 0.05
    assert settings["temperature"].value == pytest.approx(0.8, abs=0.05)
    assert settings["top_k"].high <= 45
    assert settings["top_p"].high < 1


@pytest.mark.slow(1)
def test_a_truncation_alone_is_not_taken_for_a_temperature() -> None:
    settings = found(everywhere(shapes(VOCAB), COUNTS, 0, top_k=30))
    assert list(settings) == ["top_k"]
    assert (settings["top_k"].low, settings["top_k"].high) == (30, 30)
    settings = found(everywhere(shapes(VOCAB), COUNTS, 0, temperature=0.7))
    assert list(settings) == ["temperature"]
    assert covers(settings, {"temperature": 0.7}) == []


@pytest.mark.slow(1)
def test_at_one_prefix_several_settings_cut_alike_and_all_are_open() -> None:
    """One cut has one rank: top-k, top-p and min-p may each have made it, and none is claimed."""
    settings = found(everywhere(shapes(VOCAB)[:1], [2000], 1, top_k=25))
    assert set(settings) == {"top_k", "top_p", "min_p"}
    assert covers(settings, {"top_k": 25}) == []
    assert all("may be neutral" in one.note for one in settings.values())
    assert settings["top_k"].low == 25
    assert settings["top_k"].high == math.inf
    assert settings["top_p"].high == 1
    assert settings["min_p"].low == 0


@pytest.mark.slow(1)
def test_the_order_of_samplers_is_told_where_it_shows() -> None:
    """Top-p 0.9 of laws at temperature 0.5 is a larger share of some raw laws than of others."""
    truth = {"temperature": 0.5, "top_p": 0.9}
    settings = found(everywhere(shapes(VOCAB), COUNTS, 0, order="transformers", **truth))
    assert covers(settings, truth) == []
    assert "llama.cpp" not in settings["top_p"].note
    settings = found(everywhere(shapes(VOCAB), COUNTS, 0, order="llama.cpp", **truth))
    assert covers(settings, truth) == []
    assert "in the order of llama.cpp" in settings["top_p"].note


def test_greedy_is_temperature_0_or_top_k_1() -> None:
    settings = found(everywhere(shapes(VOCAB), [20] * 6, 0, top_k=1))
    assert settings["temperature"].value == 0
    assert settings["top_k"].value == 1
    assert settings["temperature"].high < 0.5
    assert all("temperature 0 or top_k 1" in one.note for one in settings.values())


@pytest.mark.slow(1)
def test_an_honest_server_has_no_settings() -> None:
    for seed in range(4):
        for listed in (None, 50):
            assert estimate(everywhere(shapes(VOCAB, seed), [100] * 6, seed, listed)) == ()


@pytest.mark.slow(1)
def test_single_draws_along_outputs_do_no_harm() -> None:
    """They bound cuts from below alone."""
    laws = [*shapes(VOCAB), *shapes(VOCAB, 1) * 5]
    draws = everywhere(laws, [*COUNTS, *[1] * 30], 4, 60, **DEFAULTS)
    assert covers(found(draws), dict(DEFAULTS)) == []
    assert estimate(everywhere(laws, [*COUNTS, *[1] * 30], 4, 60)) == ()


@pytest.mark.slow(1)
def test_many_single_draws_drown_no_truncation() -> None:
    """As along rollouts of a probe: 250 draws at few prefixes, and 192 of one draw."""
    laws = [*shapes(VOCAB)[:4], *shapes(VOCAB, 1) * 32]
    draws = everywhere(laws, [50, 50, 75, 75, *[1] * 192], 4, 60, **DEFAULTS)
    assert "top_k" in found(draws)
    assert covers(found(draws), dict(DEFAULTS)) == []


@pytest.mark.slow(12)
def test_intervals_cover() -> None:
    """95 % intervals over 8 samples of three servers: at most 9 of some 80 miss (a fair 95 %: below 1e-2)."""
    total = missed = 0
    for truth in (
        dict(DEFAULTS),
        {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "order": "vLLM"},
        {"min_p": 0.1, "temperature": 1.3, "order": "transformers"},
    ):
        for seed in range(8):
            draws = everywhere(shapes(VOCAB, seed), [250] * 6, seed, 60, **truth)
            settings = found(draws)
            total, missed = total + len(settings), missed + len(covers(settings, truth))
    assert total >= 60
    assert missed <= 9


@pytest.mark.slow(3)
@pytest.mark.parametrize("top_k", [30, math.inf])
def test_the_temperature_is_right_whatever_the_cut(top_k: float) -> None:
    """Given the least likely draw nothing depends on the cut: z of 60 estimates have mean 0 and deviation 1."""
    laws, z = shapes(VOCAB)[:2] * 5, []
    for seed in range(60):
        draws = everywhere(laws, [40] * len(laws), seed, top_k=top_k, temperature=1.2)
        at = temperature([ranked(one) for one in draws])
        z.append((1 / at.value - 1 / 1.2) / ((1 / at.low - 1 / at.high) / 2 / 1.96))
    assert abs(np.mean(z)) < 3.3 / 60**0.5
    assert 0.7 < np.std(z) < 1.4


# ---- penalties --------------------------------------------------------------------------------------


def worn(
    rng: np.random.Generator, n: int, p: np.ndarray, logs: np.ndarray, used: list[int]
) -> Drawn:
    return drawn(logs, p, n, rng, 100, used)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("repetition_penalty", "repetition"),
        ("presence_penalty", "presence"),
        ("frequency_penalty", "frequency"),
    ],
)
@pytest.mark.parametrize("constant", [20.0, 4.0, -30.0])
def test_penalties_are_those_of_logits(name: str, told: str, constant: float) -> None:
    """Of logits above 0, around it and below it."""
    law, used = shapes(60)[0], [3, 3, 0, 7, 59]
    one = drawn(law, np.exp(law), 50, np.random.default_rng(0), prefix=used)
    penalty = Penalty(name, 1.3, 1, 2, 0, 0, ())
    logits = np.sort(penalized(law, used, constant, **{told: 1.3}))[::-1]
    found = applied(one, penalty, constant).logs
    assert found - found[0] == pytest.approx(logits - logits[0], abs=1e-9)


@pytest.mark.slow(3)
def test_a_repetition_penalty_is_measured_once_a_told_one_has_calibrated_it() -> None:
    laws, used, constant = shapes(VOCAB), [0, 2, 4, 4, 1], 18.0
    rng = np.random.default_rng(0)
    told = sampled(penalized(laws[4], used, constant, 1.1))
    offsets = log_partition(worn(rng, 400, told, laws[4], used), 1.1)
    assert any(abs(c - constant) <= 0.5 for c in offsets)
    hidden = sampled(penalized(laws[4], used, constant, 1.1), temperature=0.8)
    one = worn(rng, 400, hidden, laws[4], used)
    clean = everywhere(laws[:3], [300] * 3, 1, 100, temperature=0.8)
    settings = found([replace(one, log_partition=offsets), *clean])
    assert settings["repetition_penalty"].value == pytest.approx(1.1, abs=0.03)
    assert settings["repetition_penalty"].low > 1
    assert settings["repetition_penalty"].low <= 1.1 <= settings["repetition_penalty"].high
    assert settings["temperature"].low <= 0.8 <= settings["temperature"].high
    settings = found([one, *clean])  # without: that there is one, and how little is known of it
    assert settings["repetition_penalty"].low < 1.1 < settings["repetition_penalty"].high
    assert "told penalty" in settings["repetition_penalty"].note


@pytest.mark.slow(3)
@pytest.mark.parametrize("kind", ["presence", "frequency"])
def test_subtracted_penalties_are_among_the_explanations(kind: str) -> None:
    """At one prefix a repetition penalty can look alike; then both are named, with their intervals."""
    laws, used = shapes(VOCAB), [0, 0, 0, 2, 3, 5, 5, 8]
    p = sampled(penalized(laws[5], used, 20.0, **{kind: 0.6}))
    settings = found(worn(np.random.default_rng(0), 1500, p, laws[5], used))
    assert "temperature" not in settings
    name = f"{kind}_penalty"
    if name in settings:
        assert settings[name].low <= 0.6 <= settings[name].high
    else:
        assert name in settings["repetition_penalty"].note


@pytest.mark.slow(1)
def test_used_tokens_alone_are_no_penalty() -> None:
    law, used = shapes(VOCAB)[5], [0, 1, 2, 3, 4, 4]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        assert estimate(worn(rng, 400, np.exp(law), law, used)) == ()


def test_a_told_penalty_must_do_something() -> None:
    one = drawn(flat(50, np.random.default_rng(0)), np.full(50, 0.02), 5, np.random.default_rng(0))
    for penalty in (1.0, 0.0, -1.0):
        with pytest.raises(InvalidInput, match="penalty"):
            log_partition(one, penalty)


# ---- where to draw ----------------------------------------------------------------------------------


@pytest.mark.slow(2)
def test_a_plan_finds_the_prefixes_that_tell_the_settings_apart() -> None:
    """Among thirty candidates, six and 2,500 draws: all four settings are certain."""
    laws = [law for seed in range(5) for law in shapes(VOCAB, seed)]
    none = np.array([], dtype=int)
    stated = [Drawn(np.arange(100), law[:100], none, (VOCAB - 1,), VOCAB) for law in laws]
    chosen = plan(stated)
    assert sum(n for _, n in chosen) == 2500
    assert len(chosen) == 6
    draws = everywhere([laws[i] for i, _ in chosen], [n for _, n in chosen], 0, 100, **DEFAULTS)
    settings = found(draws)
    assert covers(settings, dict(DEFAULTS)) == []
    assert set(settings) == set(DEFAULTS)
    assert settings["top_k"].high < math.inf
    assert settings["top_p"].high < 1
    assert settings["min_p"].low > 0


def test_a_plan_goes_where_tokens_come_again() -> None:
    law, none = shapes(VOCAB)[5], np.array([], dtype=int)
    stated = [Drawn(np.arange(100), law[:100], none, used, VOCAB) for used in ((300,), (0, 1, 2))]
    assert 1 in dict(plan(stated, draws=100, most=2))
    with pytest.raises(InvalidInput, match="candidate"):
        plan([])


@pytest.mark.parametrize(
    ("low", "high", "value"),
    [
        (0.93, 0.96, 0.95),
        (0.04, 0.052, 0.05),
        (0.88, 0.91, 0.9),
        (0.9, 0.935, 0.92),
        (0.123, 0.123, 0.123),
    ],
)
def test_of_equally_likely_values_the_roundest(low: float, high: float, value: float) -> None:
    assert roundest(low, high)[1] == pytest.approx(value)
