"""Closed forms of the combination lock: H layers, A actions, G good states, failures with probability q."""

from __future__ import annotations

from ..checks import check_int
from ..errors import InvalidInput


def lock_value(layers: int, fail: float) -> float:
    """V* = (1 − q)^H, of the best policy."""
    return _kept(fail) ** check_int("layers", layers, 1)


def lock_uniform(layers: int, actions: int, fail: float) -> float:
    """((1 − q)/A)^H: of uniform actions, which is what root-start rollouts take."""
    return (_kept(fail) / check_int("actions", actions, 1)) ** check_int("layers", layers, 1)


def lock_blind(layers: int, goods: int, fail: float) -> float:
    """((1 − q)/G)^H: of the best policy that does not look at observations."""
    return (_kept(fail) / check_int("goods", goods, 1)) ** check_int("layers", layers, 1)


def lock_reach(layer: int, fail: float) -> float:
    """Σ_s max_π d_h(s): 1 + (1 − q)^h from layer 1 on, 1 at layer 0, which has no bad state."""
    h = check_int("layer", layer, 0)
    return 1.0 + _kept(fail) ** h if h else 1.0


def lock_coverability(layers: int, actions: int, fail: float) -> float:
    """C_cov = max_h Σ_{s,a} max_π d_h(s, a) over the layers with actions: A(2 − q) for H ≥ 2, else A."""
    deepest = min(check_int("layers", layers, 1) - 1, 1)
    return check_int("actions", actions, 1) * lock_reach(deepest, fail)


def lock_pushforward(fail: float) -> float:
    """C_push = Σ_x' max_{x,a} P(x' | x, a) = 2 − q."""
    return 1.0 + _kept(fail)


def _kept(fail: float) -> float:
    if not 0.0 <= fail < 1.0:
        raise InvalidInput(f"fail must lie in [0, 1), got {fail!r}")
    return 1.0 - fail
