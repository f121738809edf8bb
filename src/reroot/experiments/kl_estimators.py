"""Estimators of the KL and of its gradient: what each is right about, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ..generators.tabular import Tabular
from ..objective.estimators import bias_table
from ..objective.exact import gibbs_policy, gradient, kl, soft_values, value
from ..objective.tree import Tree
from ..pages.kit.table import Part, Table, columns
from ..randomness import keyed_rng, stream_key
from .base import Check, Experiment, Row, Setting, where

_SCALES = (0.1, 0.3, 1.0)
_SETTINGS: tuple[Setting, ...] = tuple(
    {"K": K, "H": H, "scale": scale, "tree": tree, "end": end}
    for K, H, end in ((3, 4, False), (3, 5, True), (4, 6, False))
    for scale in _SCALES
    for tree in (0, 1)
)
_UNBIASED = {("k1", "reward"), ("k2_sequence", "loss")}
"""Ways whose expected gradient, from root-start samples, is the gradient of the KL."""

_NAMES = {
    "k1": "k1 = Σ log π/P",
    "k2": "k2 = ½ Σ (log π/P)², per token",
    "k2_sequence": "k2 of the whole sequence",
    "k3": "k3 = Σ (P/π − 1 − log P/π)",
}


def _measure(s: Setting) -> list[Row]:
    base, policy = _trees(s)
    rows: list[Row] = []
    for found in map(asdict, bias_table(policy, base)):
        estimator = {"estimator": found.pop("kind")}
        rows.append({"kind": "bias", **estimator, **found, "kl": kl(policy, base)})
    rewards = keyed_rng(stream_key(s["tree"], "kl-estimators", "rewards")).random(len(base.outputs))
    for beta in (0.05, 0.5):
        rows.append({"kind": "optimum", "beta": beta, **_optimum(base, rewards, beta)})
    return rows


def _trees(s: Setting) -> tuple[Tree, Tree]:
    """A random law, and a policy P·e^θ with normal θ."""
    end = (s["K"] - 1,) if s["end"] else ()
    generator = Tabular.random(s["K"], s["H"], seed=s["tree"], end=end)
    base = Tree.of(generator, horizon=s["H"])
    rng = keyed_rng(stream_key(s["tree"], "kl-estimators", "policy"))
    laws = base.laws + s["scale"] * rng.normal(size=base.laws.shape)
    return base, base.with_laws(laws - np.logaddexp.reduce(laws, axis=1, keepdims=True))


def _optimum(base: Tree, rewards: np.ndarray, beta: float) -> Row:
    """Backward induction against enumeration; soft values telescope; the Gibbs policy is a maximum."""
    masses = base.log_probabilities()
    enumerated = beta * float(np.logaddexp.reduce(masses + rewards / beta))
    _, best = soft_values(base, rewards, beta)
    policy = gibbs_policy(base, rewards, beta)
    telescoped = policy.log_probabilities() - masses - (rewards - best) / beta
    return {
        "induction": abs(best - enumerated),
        "telescope": float(np.abs(telescoped).max()),
        "attained": abs(value(policy, base, rewards, beta) - best),
        "gradient": float(np.abs(gradient(policy, base, rewards, beta)).max()),
    }


def _check(rows: Sequence[Row]) -> list[Check]:
    optimum = where(rows, kind="optimum")
    root = [r for r in where(rows, kind="bias") if r["start"] == "root"]
    right = [r for r in root if (r["estimator"], r["place"]) in _UNBIASED]
    wrong = [r for r in root if (r["estimator"], r["place"]) not in _UNBIASED]
    values = [abs(r["value_bias"]) for r in root if r["estimator"] in ("k1", "k3")]
    k3 = [r for r in root if (r["estimator"], r["place"]) == ("k3", "loss")]
    found = [r for r in where(rows, kind="bias") if r["start"] != "root"]
    prefix = [r for r in found if (r["estimator"], r["place"]) in _UNBIASED]
    apart, error = ("induction", "telescope", "attained"), [r["gradient_error"] for r in k3]
    return [
        Check(
            "backward induction equals enumeration, soft values telescope, π* attains J*",
            all(max(r[name] for name in apart) < 1e-12 for r in optimum),
            "largest differences " + ", ".join(f"{max(r[x] for r in optimum):.1e}" for x in apart),
        ),
        Check(
            "k1 in the reward and the sequence's k2 in the loss have the gradient of the KL",
            all(r["gradient_error"] < 1e-9 for r in right),
            f"largest relative error {max(r['gradient_error'] for r in right):.1e}",
        ),
        Check(
            "every other way is biased, k3 in the loss among them",
            all(r["gradient_error"] > 1e-3 for r in wrong),
            f"k3 in the loss: relative error {min(error):.2f} to {max(error):.2f}",
        ),
        Check(
            "k1 and k3 estimate the value of the KL without bias from root-start samples",
            max(values) < 1e-12,
            f"largest bias {max(values):.1e} nats",
        ),
        Check(
            "from prefix-start samples no way has the gradient of the root-start KL",
            all(r["gradient_error"] > 1e-3 for r in prefix),
            f"relative error at least {min(r['gradient_error'] for r in prefix):.2f}",
        ),
    ]


def _show(rows: Sequence[Row]) -> list[Part]:
    scales = sorted({r["scale"] for r in rows})
    parts: list[Part] = []
    starts = {"root": "root-start samples", "prefix": "samples that start at prefixes"}
    for start, words in starts.items():
        body: list[list[str]] = []
        ways = {(r["estimator"], r["place"]) for r in where(rows, kind="bias", start=start)}
        for estimator, place in sorted(ways, key=lambda w: (w not in _UNBIASED, w)):
            mine = where(rows, kind="bias", start=start, estimator=estimator, place=place)
            cells = [f"{_NAMES[estimator]}", f"in the {place}"]
            for scale in scales:
                at = where(mine, scale=scale)
                cells.append(_number([r["gradient_error"] for r in at]))
                cells.append(_number([r["cosine"] for r in at]))
            largest = [r for r in mine if r["scale"] == scales[-1]]
            body.append([*cells, _number([r["value_bias"] / r["kl"] for r in largest])])
        ways = [f"{what}, θ ~ N(0, {s:g}²)" for s in scales for what in ("error", "cosine")]
        head = " | ".join(["estimator", "placed", *ways, "bias of the value / KL"])
        parts += [f"<h3>Expected gradient against ∇KL: {words}</h3>", Table(columns(head, 2), body)]
    return parts


def _number(values: Sequence[float]) -> str:
    mean = float(np.mean(values))
    return "0" if abs(mean) < 1e-9 else f"{mean:.2f}".replace("-", "−")


EXPERIMENT = Experiment(
    id="kl-estimators",
    claim="which estimator of the KL has the gradient of the KL: two do, k3 in the loss does not",
    statement=(
        "Trainers penalize the KL to the generator in many ways: an estimate k of it is subtracted from the reward "
        "(and multiplies the score function), or added to the loss (and is differentiated with the samples held "
        "fixed). Each expected gradient here is exact, by passes over random trees; error is "
        "‖g − ∇KL‖/‖∇KL‖, a mean over trees, cosine is of the angle to ∇KL.",
        "k1 in the reward is unbiased; so is ½(Σ log π/P)² of the whole sequence in the loss. The per-token k2 in the "
        "loss leaves out what earlier tokens do to later states. k3 in the loss, GRPO's default, is the gradient of a "
        "forward KL at the states of π; k1 in the loss is zero. In the reward, k2 and k3 hardly pull back near P, or "
        "push away (negative cosine). Samples that start at prefixes estimate another KL: its states are others.",
    ),
    settings=_SETTINGS,
    quick=tuple(range(6)),
    measure=_measure,
    check=_check,
    show=_show,
)
