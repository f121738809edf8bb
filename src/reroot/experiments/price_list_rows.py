"""What ``price-list`` measures: reductions at small sizes, pairs by enumeration, and sizes of users."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from ..generators.law import log_normalize
from ..generators.lifted import (
    Bias,
    Held,
    InterfacePrice,
    LogitServer,
    Narrowed,
    Never,
    by_draws,
    by_lists,
    formulas,
    lattice,
    prefixes,
    settled,
    tempering,
)
from ..generators.lifted.pairs import half_reach, text_prefixes, told_apart
from ..generators.lifted.place import Place
from ..generators.lifted.sizes import Sizes
from ..generators.lifted.together import law_from_ids_together
from ..generators.tabular import Tabular
from ..limits.barrier import barrier_tv
from ..randomness import keyed_rng, stream_key
from ..types import FloatArray
from .base import Row, Setting

ANSWERS = (1, 2, 4)
"""N at which pairs are enumerated."""

# ---- reductions that give laws -----------------------------------------------------------------------


def _random_law(K: int, seed: int, spread: float) -> FloatArray:
    """(K,) probabilities, largest first: e^(normal), of that standard deviation in nats."""
    rng = keyed_rng(stream_key(seed, "price-list", "law"))
    x = np.sort(np.exp(rng.normal(0.0, spread, K)))[::-1]
    return x / x.sum()


def law_rows(s: Setting) -> list[Row]:
    """Calls and total variation of one reduction to FULL, beside its price."""
    K, k, b, epsilon = s["K"], s["k"], s["b"], 0.01
    p = _random_law(K, s["seed"], s["spread"])
    rng = keyed_rng(stream_key(s["seed"], "price-list", "image"))
    image = rng.normal(size=(K, b))
    if s["row"] == "image":
        p = np.exp(log_normalize(image @ rng.normal(0.0, 0.3, b)))
    gap = 16.0
    routes: dict[str, tuple[str, Callable[[Place], FloatArray], float]] = {
        "anchored": (
            f"chosen/topk({k})",
            by_lists.law_anchored,
            formulas.anchored_calls(K, max(2, k), b),
        ),
        "fewest": (f"chosen/topk({k})", by_lists.law_fewest, formulas.fewest_calls(K, k)),
        "masks": (f"chosen/topk({k})", by_lists.law_from_masks, math.ceil((K - 1) / max(1, k - 1))),
        "raw": (f"chosen/topk({k})", by_lists.law_raw, formulas.raw_calls(K, k) - 1),
        "scores": ("chosen/logprob", by_lists.law_from_scores, K - 1),
        "bisection": (
            "chosen/argmax(1)",
            lambda place: by_lists.law_from_ids(place, gap, epsilon),
            formulas.bisection_calls(K, gap, epsilon),
        ),
        "together": (
            "chosen/argmax(1)",
            lambda place: law_from_ids_together(place, gap, epsilon),
            formulas.bisection_floor(K, gap, epsilon, b),
        ),
        "image": (
            f"chosen/topk({k})",
            lambda place: by_lists.law_from_image(place, image),
            formulas.image_calls(b, max(2, k)),
        ),
    }
    serves, route, price = routes[s["row"]]
    taken = Bias(K if s["row"] in ("masks", "image") else b, s["B"], raw=s["row"] == "raw")
    held = Held(LogitServer(Tabular([p]), serves, taken))
    law = route(held.at())
    return [
        {
            "has": str(held.interface),
            "tv": 0.5 * float(np.abs(np.exp(law) - p).sum()),
            "bound": math.tanh(epsilon / 2) if s["row"] in ("bisection", "together") else 1e-10,
            "calls": held.used.calls,
            "price": float(price),
        }
    ]


# ---- reductions in law, and prefixes -----------------------------------------------------------------

_LAW = (0.5, 0.3, 0.15, 0.05)
_TREE_SEED = 4


def draw_rows(s: Setting) -> list[Row]:
    """Mean draws of one reduction beside its price, and how its draws fit the law that is wanted."""
    p, runs = np.array(_LAW), s["runs"]
    rng = keyed_rng(stream_key(s["seed"], "price-list", "coins"))
    used: list[float] = []
    tokens: list[int] = []
    wanted, price = p, 0.0
    if s["row"] == "retempered draws":
        tau = s["at"]
        wanted = p**tau / (p**tau).sum()
        price = tempering.draws_expected(np.log(p), tau)
    for i in range(runs):
        held = Held(Narrowed(Tabular([p]), "chosen/logprob"), seed=i)
        place = held.at()
        if s["row"] == "retempered draws":
            tokens.append(tempering.draw_retempered(place, s["at"], rng))
        elif s["row"] == "kept draws":
            tokens.append(tempering.draw_kept(place, range(int(s["at"]))))
            wanted = np.where(np.arange(4) < s["at"], p, 0) / p[: int(s["at"])].sum()
            price = 1 / float(p[: int(s["at"])].sum())
        elif s["row"] == "hits":
            by_draws.logprob_by_hits(place, 2, int(s["at"]))
            price = s["at"] / float(p[2])
        else:
            by_draws.law_by_collecting(place)
            price = collecting_price(p)
        used.append(held.used.draws)
    fit = 1.0
    if tokens:
        inside = wanted > 0
        counts = np.bincount(tokens, minlength=4)
        fit = float(stats.chisquare(counts[inside], runs * wanted[inside]).pvalue)
    return [{"mean": float(np.mean(used)), "se": _se(used), "price": price, "fit": fit}]


def collecting_price(p: FloatArray) -> float:
    """Expected draws until all tokens but one are seen: ∫ 1 - Pr(done by time t) dt, by sets of one unseen.

    Draws at unit rate make the tokens independent Poisson streams: done by t with probability
    Π (1 - e^(-p_i t)) + Σ_i e^(-p_i t) Π_{j≠i} (1 - e^(-p_j t)); the mean number of draws is the mean time.
    """
    from scipy import integrate

    def left(t: float) -> float:
        seen = -np.expm1(-p * t)
        others = [float(np.prod(np.delete(seen, i))) * math.exp(-p[i] * t) for i in range(len(p))]
        return 1.0 - float(np.prod(seen)) - math.fsum(others)

    return float(integrate.quad(left, 0, np.inf, limit=200)[0])


def prefix_rows(s: Setting) -> list[Row]:
    """Mean calls for one answer at a prefix, beside the price."""
    tree, u = Tabular.random(3, 3, seed=_TREE_SEED), tuple(s["u"])
    laws = tree.log_laws((), [u[:t] for t in range(len(u))])
    surprises = (-laws[np.arange(len(u)), list(u)]).tolist()
    control, bound = s["control"], 6.0
    price = {
        "root": formulas.waited_rollouts(surprises),
        "visited": formulas.redrawn_calls(surprises),
        "visited, continuing": formulas.redrawn_calls(surprises, continuing=True) + 1,
        "episode": formulas.passed_calls(surprises),
        "reset": float(formulas.walked_calls(len(u))),
        "chosen": 1.0,
        "root + constant bias": math.exp(prefixes.best_constant_bias(laws, u, bound).log_rollouts),
    }[control]
    beta = prefixes.best_constant_bias(laws, u, bound).beta.tolist()
    used: list[float] = []
    for i in range(s["runs"]):
        serves = f"{control.split(' ')[0].strip(',')}/sample"
        biased = control.endswith("bias")
        server = LogitServer(tree, serves, Bias(3, bound)) if biased else Narrowed(tree, serves)
        held = Held(server, seed=i)
        place = held.at((), u)
        if control.endswith("continuing"):
            place.build(continuing=True)
        place.ask(bias=dict(enumerate(beta)) if biased else None)
        used.append(held.used.calls)
    return [{"mean": float(np.mean(used)), "se": _se(used), "price": price, "fit": 1.0}]


def _se(values: list[float]) -> float:
    return float(np.std(values) / math.sqrt(len(values)))


# ---- pairs -------------------------------------------------------------------------------------------

_UNKNOWN = tuple(x / 0.68 for x in (0.64, 0.04))  # (.8, .2)², whose law at τ = 2 is (.8, .2)

PAIRS: tuple[
    tuple[str, str, tuple[float, ...], tuple[float, ...], tuple[float, float, float], float], ...
] = (
    ("argmax(2)", "sample", (0.5, 0.3, 0.2, 0), (0.5, 0.3, 0, 0.2), (0, 0, 0), 0.2),
    ("argmax(1)", "argmax(2)", (0.5, 0.3, 0.2), (0.5, 0.25, 0.25), (0, 0, 0), 1),
    ("sample", "logprob", (0.5, 0.5), (0.6, 0.4), (0.1, 0.11, 0.1627), 1),
    ("sample", "argmax(1)", (0.55, 0.45), (0.45, 0.55), (0.1, 0.1, 0.1495), 1),
    ("logprob", "topk(1)", (0.4, 0.6, 0), (0.4, 0.3, 0.3), (0.6, 0.84, 0.9744), 1),
    ("logprob", "full", (0.8, 0.2, 0), (0.8, 0, 0.2), (0.2, 0.36, 0.5904), 1),
    ("topk(1)", "topk(2)", (0.7, 0.2, 0.1, 0), (0.7, 0.15, 0.15, 0), (0.3, 0.51, 0.7599), 1),
    ("topk(2)", "full", (0.5, 0.3, 0.2, 0), (0.5, 0.3, 0, 0.2), (0.2, 0.36, 0.5904), 1),
    (
        "full@T=1,top_k=2",
        "sample",
        (0.7, 0.3, 0, 0),
        (0.4375, 0.1875, 0.1875, 0.1875),
        (0, 0, 0),
        0.375,
    ),
)
"""(has, wants, P, Q, TV at N = 1, 2, 4, TV of one stronger answer), at one prefix."""


def pair_rows(s: Setting) -> list[Row]:
    """TV of N weaker answers and of one stronger answer, by enumeration, beside the values stated."""
    rows: list[Row] = []
    for has, wants, p, q, stated, strong in PAIRS:
        tv = [told_apart(p, q, f"chosen/{has}", n) for n in ANSWERS]
        one = told_apart(p, q, f"chosen/{wants}")
        rows.append(_pair(has, wants, tv, stated, one, strong, _laws(p, q)))
    hidden = [told_apart((0.8, 0.2), (0.8, 0.2), "chosen/full", n) for n in ANSWERS]
    one = told_apart((0.8, 0.2), _UNKNOWN, "chosen/sample")
    rows.append(
        _pair(
            "full at unknown τ",
            "sample at 1",
            hidden,
            (0, 0, 0),
            one,
            0.141,
            "(.8, .2) at τ = 1, (.941, .059) at τ = 2",
        )
    )
    for has, wants, reach, where in (
        ("root", "visited", 0.3, "differ at U, R = .3"),
        ("visited", "reset", 0.3, "differ at (1), P(1|∅) = .3"),
        ("visited", "reset", 0.0, "differ at (1), P(1|∅) = 0"),
        ("root", "episode", 0.0, "differ at (0, 1), P(1|0) = 0: put in, never drawn"),
        ("episode", "reset", 0.3, "differ at (1, 0), P(1|∅) = .3: the first token is drawn"),
        ("episode", "visited", 0.3, "differ at (1), P(1|∅) = .3: a pass does not return"),
        ("text prompts", "chosen", 0.06, "differ at (a, b) only, R = .06"),
        ("root + constant bias", "chosen", 0.36, "K = 2, path (0, 1), p = .6: any β"),
    ):
        tv = [barrier_tv(n, reach) for n in ANSWERS]
        stated = tuple(1 - (1 - reach) ** n for n in ANSWERS)
        measured = _best_reach(0.6) if "bias" in has else reach
        rows.append(
            _pair(has, wants, [barrier_tv(n, measured) for n in ANSWERS], stated, 1.0, 1, where)
        )
    reached = [text_prefixes(n) for n in (2, 3, 4)]
    rows[-2]["laws"] += f"; text reaches {reached} of [9, 27, 81] sequences of 2, 3, 4 tokens"
    return rows


def _best_reach(p: float) -> float:
    """Largest reach of the path (0, 1) of HiddenPath(2, 2, p) under a constant bias."""
    laws = np.log([[p, 1 - p], [1 - p, p]])
    wait = prefixes.best_constant_bias(laws, (0, 1), 20.0)
    assert abs(math.exp(-wait.log_rollouts) - half_reach(p, 2)) < 1e-9
    return math.exp(-wait.log_rollouts)


def _laws(p: tuple[float, ...], q: tuple[float, ...]) -> str:
    return " and ".join(f"({', '.join(f'{x:.4g}' for x in law)})" for law in (p, q))


def _pair(
    has: str,
    wants: str,
    tv: list[float],
    stated: tuple[float, ...],
    one: float,
    strong: float,
    laws: str,
) -> Row:
    off = max(abs(a - b) for a, b in zip((*tv, one), (*stated, strong), strict=True))
    names = dict(zip(("tv1", "tv2", "tv4"), tv, strict=True))
    return {"has": has, "wants": wants, **names, "one": one, "off": off, "laws": laws}


# ---- sizes of users ----------------------------------------------------------------------------------


def user_rows(s: Setting) -> list[Row]:
    """Prices at K tokens, k = 20, b = 300, |u| = 256, half a nat per token."""
    K, k, b = s["K"], 20, 300
    half = [0.5] * 256
    entries: tuple[tuple[str, str, float], ...] = (
        ("FULL, processed, stable", "calls", formulas.anchored_calls(K, k, b)),
        ("FULL, processed, fewest", "calls", formulas.fewest_calls(K, k)),
        ("FULL, processed, n = 20", "calls", formulas.anchored_calls_with_choices(K, k, b, 20)),
        ("FULL, processed, n = 128", "calls", formulas.anchored_calls_with_choices(K, k, b, 128)),
        ("FULL, known 576-dimensional image", "calls", formulas.image_calls(576, k)),
        ("FULL, raw", "calls", formulas.raw_calls(K, k)),
        ("FULL, raw, n = 20", "calls", formulas.raw_calls_with_choices(K, k, b, 20)),
        ("FULL, raw, n = 128", "calls", formulas.raw_calls_with_choices(K, k, b, 128)),
        ("TOPK(320) by bans", "calls", formulas.longer_list_calls(320, k)),
        ("FULL, ids only, ε = .01, R = 64", "calls", formulas.bisection_calls(K, 64, 0.01)),
        ("… floor", "calls", formulas.bisection_floor(K, 64, 0.01, b)),
        ("FULL from SAMPLE, TV .05", "draws", formulas.frequency_draws(K, 0.05)),
        ("FULL from LOGPROB, unseen mass .01", "draws", formulas.unseen_draws(K, 0.01)),
        ("log P ± .1 at P = 1e-6", "draws", formulas.counted_draws(1e-6, 0.1)),
        ("… with bias", "draws", formulas.biased_draws(0.1)),
        ("u at ROOT", "rollouts", formulas.waited_rollouts(half)),
        ("u at VISITED", "calls", formulas.redrawn_calls(half, m=0)),
        ("u at VISITED, continuing", "calls", formulas.redrawn_calls(half, continuing=True)),
        ("u at RESET", "calls", formulas.walked_calls(256, m=0)),
        ("u, 256 distinct tokens, constant bias 20", "rollouts", formulas.constant_bias_rollouts(K, 256, 0.5, 20)),
    )  # fmt: skip
    return [{"wanted": name, "unit": unit, "price": float(x)} for name, unit, x in entries]


# ---- every pair of interfaces ------------------------------------------------------------------------


def matrix_rows(s: Setting) -> list[Row]:
    """For each interface that is held, how each other one is served."""
    biases = [Bias(3, 30.0), Bias(3, 30.0, raw=True)] if s["bias"] else []
    nodes = list(lattice(2, biases, s["laws"]))
    sizes = Sizes(8, 3, 0.7)
    rows: list[Row] = []
    for has in nodes:
        found = settled(has, nodes, sizes)
        cells = [_cell(one) for one in found]
        least = min((one.pair.tv for one in found if isinstance(one, Never)), default=1.0)
        used = {step.row for one in found if isinstance(one, InterfacePrice) for step in one.paid}
        rows.append(
            {
                "has": str(has),
                "wants": [str(one) for one in nodes],
                "cells": cells,
                "never": cells.count("never"),
                "open": cells.count("open"),
                "least_tv": least,
                "rows": sorted(used),
            }
        )
    return rows


def _cell(one: InterfacePrice | Never | None) -> str:
    if one is None:
        return "open"
    return "never" if isinstance(one, Never) else str(one.exactness)
