"""The certificates. Adding one: a function that yields cases, and its name in ``_CASES``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...errors import InvalidInput, nearest
from ...learners import list_learners
from ..case import Case
from . import chains, exploration, hidden_states, independent, laws, resets, search, weighted

_CASES: tuple[Callable[[], Iterable[Case]], ...] = (
    independent.best_of_n_cases,
    independent.first_success_cases,
    independent.soft_best_of_n_cases,
    independent.adaptive_best_of_n_cases,
    independent.self_consistency_cases,
    independent.softmax_rejection_cases,
    independent.pessimism_cases,
    chains.power_sampling_cases,
    chains.vgb_cases,
    weighted.smc_cases,
    search.tokenwise_rejection_cases,
    search.backtracking_cases,
    search.verifier_tree_search_cases,
    search.action_rejection_cases,
    search.greedy_walk_cases,
    search.beam_search_cases,
    search.diligent_search_cases,
    search.tree_search_cases,
    search.tree_rollouts_cases,
    search.segment_tree_cases,
    hidden_states.latent_exploration_cases,
    hidden_states.representation_coreset_cases,
    resets.resets_cases,
    laws.low_rank_cases,
    exploration.exploration_cases,
)


def cases_of(method: str | None = None) -> list[Case]:
    """The cases of a method, or all of them.

    Raises:
        InvalidInput: no certificate is about such a method.
    """
    found = [case for cases in _CASES for case in cases()]
    if method is None:
        return found
    chosen = [case for case in found if case.method == method]
    if not chosen and method in list_learners():
        raise InvalidInput(f"no certificate is about {method!r}; see 'reroot certify --list'")
    if not chosen:
        known = {case.method for case in found}
        raise InvalidInput(f"no certificate is about {method!r}.{nearest(method, known)}")
    return chosen
