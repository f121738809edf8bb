"""The learners by name. Adding one: a file with an ``@learner``, and a line in ``_LEARNERS``."""

from __future__ import annotations

from .. import specs
from ..access.learner import BoundLearner, LearnerFactory
from ..errors import InvalidInput
from .demonstration import demo_prefix
from .logprob_walks import law_walk, logprob_walk
from .low_rank.exact import hmm_exact
from .low_rank.samples import hmm_samples
from .low_rank.spanner import low_rank_spanner
from .parity import parity_probe, parity_root
from .parity_elimination import parity_elimination
from .posterior import posterior_walk
from .recovery import greedy_walk, plurality_walk
from .resets.golf import golf
from .resets.pce import pce
from .resets.pcr import pcr
from .resets.rvfs import rvfs
from .resets.sim_golf import sim_golf
from .root_bayes import root_bayes
from .root_start import best_of_n, first_success, self_consistency
from .sampling.action_rejection import action_rejection
from .sampling.adaptive_best_of_n import adaptive_best_of_n
from .sampling.beam_search import beam_search
from .sampling.diligent_search import diligent_search
from .sampling.latent_exploration import latent_exploration
from .sampling.pessimism import inference_time_pessimism
from .sampling.power_sampling import power_sampling
from .sampling.representation_coreset import representation_coreset
from .sampling.segment_tree import segment_tree
from .sampling.smc import smc
from .sampling.soft_best_of_n import soft_best_of_n
from .sampling.softmax_rejection import softmax_rejection
from .sampling.tree_rollouts import tree_rollouts
from .sampling.tree_search import tree_search
from .sampling.verifier_tree_search import verifier_tree_search
from .sampling.vgb import vgb
from .sequential import plurality_walk_sequential
from .spanners.mtss import mtss
from .spanners.spanner_sampling import spanner_sampling
from .trie import trie_search
from .verified import backtracking, tokenwise_rejection

_LEARNERS: tuple[LearnerFactory[...], ...] = (
    best_of_n,
    first_success,
    self_consistency,
    root_bayes,
    greedy_walk,
    plurality_walk,
    plurality_walk_sequential,
    posterior_walk,
    logprob_walk,
    law_walk,
    trie_search,
    parity_probe,
    parity_root,
    parity_elimination,
    tokenwise_rejection,
    backtracking,
    demo_prefix,
    soft_best_of_n,
    adaptive_best_of_n,
    softmax_rejection,
    inference_time_pessimism,
    power_sampling,
    action_rejection,
    vgb,
    smc,
    beam_search,
    verifier_tree_search,
    diligent_search,
    tree_search,
    tree_rollouts,
    segment_tree,
    latent_exploration,
    representation_coreset,
    hmm_exact,
    hmm_samples,
    low_rank_spanner,
    spanner_sampling,
    mtss,
    rvfs,
    sim_golf,
    golf,
    pcr,
    pce,
)

DEFAULT_COMPARISON: tuple[str, ...] = (
    "first_success",
    "best_of_n:n=16",
    "best_of_n:n=64,oracle=verifier",
    "self_consistency:n=16",
    "greedy_walk",
    "plurality_walk",
    "plurality_walk_sequential",
    "tokenwise_rejection",
    "backtracking",
    "demo_prefix",
)
"""What ``reroot compare`` runs by default: root-start learners with and without the verifier, walks
that use no oracle, and learners that steer by the verifier or by a demonstration."""


def list_learners() -> dict[str, LearnerFactory[...]]:
    """Name → learner, in the order of the registry."""
    return {learner.name: learner for learner in _LEARNERS}


def find_learner(name: str) -> LearnerFactory[...]:
    """The learner ``name``: one of ``list_learners``, ``FILE.py:NAME``, or an entry point.

    Raises:
        InvalidInput: an unknown name (the nearest is suggested), or no learner.
    """
    found = specs.find("learner", name, list_learners())
    if not isinstance(found, LearnerFactory):
        raise InvalidInput(f"{name!r} is no learner made with @reroot.learner, but {found!r}")
    return found if found.name == name else found.named(name)


def get_learner(spec: str | BoundLearner | LearnerFactory[...]) -> BoundLearner:
    """Read ``name`` or ``name:parameter=value,…``, as in ``"best_of_n:n=16,oracle=verifier"``.

    A learner is taken as it is, and a factory with its defaults.

    Raises:
        InvalidInput: unknown learner or parameter (the nearest name is suggested), a malformed
            item, a value the learner refuses, or what is no learner.
    """
    if isinstance(spec, BoundLearner):
        return spec
    if isinstance(spec, LearnerFactory):
        return spec()
    if not isinstance(spec, str):
        raise InvalidInput(
            f"a learner is named by text, or made with @reroot.learner, got {spec!r}"
        )
    read = specs.parse(spec, "learner")
    return find_learner(read.name)(**read.settings)
