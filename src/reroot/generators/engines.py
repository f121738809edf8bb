"""Which engine serves a model: the prefix tree, the model's own cache, or plain passes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import BackendError
from ..types import FloatArray
from .attention import group_size
from .causal_model import FULL, attention_kinds, tree_refusal
from .engine import Engine
from .own_cache import OwnCache
from .probe import Probe, String
from .tree_passes import TreePasses

_HOW = {"own cache": "plain passes and its own cache", "recomputed": "plain passes alone"}


def candidates(model: Any, config: Any) -> Iterator[Engine]:
    """What may compute this model's laws, the fastest first; each is to be checked before it is used."""
    if tree_refusal(model, config) is None:
        kinds = attention_kinds(config)
        if (group := group_size(config)) > 1:
            yield TreePasses(model, config, kinds, group)
        yield TreePasses(model, config, kinds)
        if kinds != {FULL}:  # some configurations name windows that the model does not have
            yield TreePasses(model, config, {FULL})
    yield OwnCache(model, config, kept=True)
    yield OwnCache(model, config, kept=False)


def choose(
    model: Any,
    config: Any,
    probe: Probe,
    use: Callable[[Engine], None],
    laws: Callable[[Sequence[String]], FloatArray],
) -> str | None:
    """Leave in use the first engine whose laws are those of plain passes.

    Args:
        model: a causal language model of the ``transformers`` library.
        config: its text configuration.
        probe: what it is compared on.
        use: makes an engine the one that ``laws`` computes with, nothing being kept.
        laws: (m) strings → (m, K) nats.

    Returns:
        What to tell the user: how the model is computed, and why not through the prefix tree; ``None``: it is.

    Raises:
        BackendError: all of them fail.
    """
    kind = config.model_type
    why = tree_refusal(model, config)
    reasons = [f"prefix tree: {why}"] if why else []
    for engine in candidates(model, config):
        use(engine)
        try:
            probe.check(laws)
            _check_steps(engine, probe, use, laws)
        except Exception as error:  # of any code of the model's
            raised = "" if isinstance(error, BackendError) else f"{type(error).__name__}: "
            reasons.append(f"{engine.name}: {raised}{error}")
            continue
        if isinstance(engine, TreePasses):
            return None
        told = "; ".join(dict.fromkeys(reasons))
        return f"a {kind} model is computed by {_HOW[engine.name]} ({told})"
    told = "; ".join(dict.fromkeys(reasons))
    raise BackendError(f"a {kind} model cannot be computed ({told})")


def _check_steps(
    engine: Engine,
    probe: Probe,
    use: Callable[[Engine], None],
    laws: Callable[[Sequence[String]], FloatArray],
) -> None:
    """Compare laws that are asked one token after the other, in rows of their own."""
    if isinstance(engine, TreePasses):
        engine.in_short_rows(lambda: probe.check_steps(laws))
        return
    use(engine)
    engine.going_on = True
    probe.check_steps(laws)
    engine.going_on = False
