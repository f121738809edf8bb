"""Hidden states at the gate: what a message about them must be, what it costs, what comes back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract import Contract
from ..errors import BackendError, InvalidInput
from ..types import Cost, FloatArray, read_only
from .episode import Episode
from .rules import PrefixRules
from .session import AskHiddenStates


def check_inspection(
    message: AskHiddenStates, episode: Episode, contract: Contract, rules: PrefixRules
) -> None:
    """Refuse what makes no sense, or is not permitted, whatever the oracle.

    Raises:
        InvalidInput, AccessDenied: see ``Session.layer_laws`` and ``Session.features``.
    """
    if not message.prefixes:
        raise InvalidInput("hidden states are asked at one place at least, got none")
    if message.layers is not None and message.layers < 1:
        raise InvalidInput(f"layers must be an integer >= 1, got {message.layers}")
    for prefix in message.prefixes:
        episode.check_tokens(prefix.tokens)
        complete = episode.is_complete(prefix.tokens)
        if message.layers is not None and complete:
            raise InvalidInput(f"prefix {prefix} is a complete output: nothing follows it")
        if message.layers is None and not len(prefix):
            raise InvalidInput("features are of prefixes of at least one token, got []")
    check = rules.check_features if message.layers is None else rules.check_hidden_states
    for prefix in message.prefixes:
        check(contract, prefix)


def price(message: AskHiddenStates, prompt: int) -> Cost:
    """What an ``AskHiddenStates`` costs where the prompt has ``prompt`` tokens."""
    count = len(message.prefixes)
    prefill = sum(prompt + len(prefix) for prefix in message.prefixes)
    if message.layers is None:
        return Cost(prefill=prefill, hidden_states=count)
    return Cost(queries=count, tokens=count, prefill=prefill, hidden_states=count)


def checked_hidden_states(
    shown: npt.NDArray[np.floating], message: AskHiddenStates, vocab_size: int
) -> FloatArray:
    """What a generator showed, as the learner gets it: a new array, read-only.

    Raises:
        BackendError: it breaks the protocol (shape, not a number).
    """
    count, layers = len(message.prefixes), message.layers
    states = np.array(shown, dtype=np.float64)
    if layers is None:
        fits = states.ndim == 2 and len(states) == count
        expected = f"({count}, d)"
    else:
        fits = states.ndim == 3 and (len(states), states.shape[2]) == (count, vocab_size)
        fits = fits and 1 <= states.shape[1] <= layers
        expected = f"({count}, 1…{layers}, {vocab_size})"
    if not fits:
        raise BackendError(f"the generator showed states of shape {states.shape}, not {expected}")
    if not (np.isfinite(states).all() if layers is None else (states < np.inf).all()):
        raise BackendError("the generator showed states that are not numbers")
    return read_only(states)
