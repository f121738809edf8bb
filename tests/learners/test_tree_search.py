"""Tree search: an output's reward is asked once, however often the search comes back to it."""

from __future__ import annotations

import reroot
from reroot import Prefix
from reroot.families import HiddenPath
from reroot.learners import get_learner
from reroot.learners.sampling.tree_search import _Node


def test_no_reward_is_asked_twice() -> None:
    family = HiddenPath(2, 2, 0.6)
    learner = get_learner("tree_search:simulations=200,children=2,pass_at=2")
    problems = [family.problem()]
    attempt = reroot.run(learner, problems, family, grants=learner.requires).attempts[0]
    assert attempt.error is None
    assert attempt.metadata == {"simulations": 200, "reward": 1.0}
    assert attempt.passed
    assert attempt.cost.rewards == 4  # of all outputs there are


def test_the_bound_is_the_mean_and_the_prior_by_the_square_root_of_visits() -> None:
    """Silver et al. 2017: mean + c·P·√(visits of the parent)/(1 + visits of the child); the first on ties."""
    high, low = _Node(Prefix((0,)), 0.5), _Node(Prefix((1,)), 0.5)
    parent = _Node(Prefix(), visits=9, children=[high, low])
    assert parent.selected(1.0) is high
    high.visits, high.total, low.visits, low.total = 1, 0.0, 2, 0.5
    # 0.75 against 0.25 + 0.5; beyond c = 1 the less visited one
    assert parent.selected(0.99) is low
    assert parent.selected(1.01) is high
    parent.visits = 4  # 0.5 against 0.25 + 1/3
    assert parent.selected(1.01) is low
