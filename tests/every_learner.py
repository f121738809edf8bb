"""Every learner of the registry at a small size, and where it runs."""

from __future__ import annotations

from dataclasses import replace

from reroot import Oracle
from reroot.families import CombinationLock, DecoyPath, HiddenPath, PathFamily
from reroot.generators.layered import LayeredTree
from reroot.generators.tabular import Tabular
from reroot.learners import get_learner, list_learners
from reroot.tasks.base import Problem
from reroot.types import Output

TINY = "actions=2,goods=2,noise=0,decoders=3"
SPECS = [
    "best_of_n:n=6",
    "best_of_n:n=6,oracle=verifier",
    "first_success:max_rollouts=9",
    "first_success:max_rollouts=9,oracle=verifier",
    "self_consistency:n=6",
    "root_bayes:n=6",
    "root_bayes:n=6,rewards=2",
    "greedy_walk",
    "greedy_walk:decoys=1",
    "plurality_walk:draws_per_token=4",
    "plurality_walk:draws_per_token=4,decoys=1",
    "plurality_walk_sequential:max_draws=30",
    "plurality_walk_sequential:p=0.6",
    "posterior_walk:p=0.6",
    "posterior_walk",
    "logprob_walk",
    "logprob_walk:decoys=1",
    "logprob_walk:control=reset",
    "law_walk",
    "law_walk:decoys=1,report=topk(2),control=visited",
    "trie_search:nodes=40,a=0.4,b=0.2",
    "trie_search:nodes=40,a=0.4,b=0.2,report=logprob",
    "trie_search:nodes=40,a=0.4,b=0.2,report=full",
    "trie_search:nodes=40,a=0.4,b=0.2,report=argmax(2)",
    "parity_probe",
    "parity_probe:report=sample,noise=0.2,delta=0.3,control=chosen",
    "parity_root:n=20",
    "parity_elimination",
    "parity_elimination:report=sample,noise=0.2",
    "tokenwise_rejection",
    "backtracking:quota=6,stride=2",
    "backtracking:quota=6,stride=2,argmax_redo=true",
    "demo_prefix:reveal=2,n=4",
    "demo_prefix:reveal=0.5,n=4",
    "soft_best_of_n:n=4,beta=0.3",
    "adaptive_best_of_n:delta=0.5,max_rollouts=20",
    "softmax_rejection:beta=0.5,bound=4,n=9",
    "inference_time_pessimism:n=6",
    "power_sampling:moves=3",
    "power_sampling:moves=3,temperature=none",
    "smc:particles=3,beta=0.3",
    "smc:particles=3,twist=rollouts,samples=2",
    "action_rejection",
    "action_rejection:beta=0.3,twist=rollouts,children=2",
    "vgb:beta=0.3,steps=4",
    "vgb:twist=value,beta=0.3,children=2,steps=4",
    "beam_search:width=2",
    "beam_search:width=2,verify=true",
    "verifier_tree_search:subtrees=2,width=2",
    "diligent_search:tries=2",
    "diligent_search:tries=12,verify=true",
    "tree_search:simulations=4,children=2",
    "tree_rollouts:chains=2,rounds=2",
    "segment_tree:width=4,segment=2,branching=2",
    "latent_exploration:k=2,d=2",
    "representation_coreset:n=6,k=2",
    "representation_coreset:n=6,k=2,dims=1,oracle=verifier",
    "hmm_exact:n=20",
    "hmm_samples:histories=3,tests=4,samples=3",
    "hmm_samples:histories=2,tests=4,report=full",
    "low_rank_spanner:k=2,tests=4,samples=2,histories=2",
    "low_rank_spanner:k=2,tests=4,report=full,project=false",
    "spanner_sampling:rounds=2,coverage=1.5,pairs=3",
    "mtss:draws=4,visits=1,final=1,passes=2,starts=2",
    *(f"{name}:{TINY}" for name in ("rvfs", "pcr", "pce", "sim_golf", "golf")),
]
# whatever else is in the registry, as it comes
SPECS += [
    name for name in list_learners() if name not in {spec.partition(":")[0] for spec in SPECS}
]
PATH = HiddenPath(3, 5, 0.6, seed=1)
ENDING = Tabular.random(3, 4, seed=3, end=(2,))  # outputs end early
BITS = HiddenPath(2, 5, 0.7, seed=1)  # for learners of binary strings
LAYERED = LayeredTree([Tabular.random(3, 4, seed=5, end=(2,)), ENDING])  # with hidden states
DECOYS = DecoyPath(4, 5, 1, 0.4, 0.38, seed=1)  # for learners that know of decoys


LOCK = CombinationLock(2, 2, 2, 0, decoders=3, seed=1)  # for learners of block MDPs
Toy = PathFamily | Tabular | CombinationLock


def suited(spec: str, generator: PathFamily | Tabular = PATH) -> Toy:
    if TINY in spec:
        return LOCK
    if "decoys" in spec:
        return DECOYS
    if Oracle.HIDDEN in get_learner(spec).requires.oracles:
        return LAYERED
    return BITS if spec.startswith("parity") else generator


def _worth(output: Output) -> float:
    """Any value will do."""
    return 1.0 + len(output.tokens) % 2


def problems(generator: Toy, count: int = 6) -> list[Problem]:
    if isinstance(generator, (PathFamily, CombinationLock)):
        return [replace(generator.problem(id=f"{i}"), value=_worth) for i in range(count)]
    right = (0, 1, 2)
    return [
        Problem(
            f"{i}",
            (),
            generator.horizon,
            reward=lambda o: float(o.tokens == right),
            verifier=lambda o: o.tokens == right[: len(o.tokens)],
            demonstration=right,
            value=_worth,
        )
        for i in range(count)
    ]
