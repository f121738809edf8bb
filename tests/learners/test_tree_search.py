"""Tree search: an output's reward is asked once, however often the search comes back to it."""

from __future__ import annotations

import reroot
from reroot.families import HiddenPath
from reroot.learners import get_learner


def test_no_reward_is_asked_twice() -> None:
    family = HiddenPath(2, 2, 0.6)
    learner = get_learner("tree_search:simulations=200,children=2,pass_at=2")
    problems = [family.problem()]
    attempt = reroot.run(learner, problems, family, grants=learner.requires).attempts[0]
    assert attempt.error is None
    assert attempt.metadata == {"simulations": 200, "reward": 1.0}
    assert attempt.passed
    assert attempt.cost.rewards == 4  # of all outputs there are
