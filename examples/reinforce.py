"""REINFORCE in a loop of one's own: strategies without a trainer.

The policy is a softmax table over a hidden path of 10 tokens. From the root almost no rollout finds the
path, so nothing is learnt; AdaBack starts behind a part of a demonstration that it shortens as
rewards allow, and the same loop learns.
"""

from __future__ import annotations

import numpy as np

from reroot.families import HiddenPath
from reroot.generators import SoftmaxPolicy
from reroot.training import Group, Strategy, collect_groups, strategies

STEPS, SIZE, RATE = 400, 16, 2.0
PATH = HiddenPath(vocab_size=4, horizon=10, p=0.4)


def reinforce(policy: SoftmaxPolicy, groups: list[Group]) -> None:
    """θ += RATE/n Σ (r − mean r) ∇ log π(tokens): the start is nobody's action, so it gets no gradient."""
    rows, weights = [], []
    for group in groups:
        start, advantages = (
            list(group.start.prefix),
            np.subtract(group.rewards, np.mean(group.rewards)),
        )
        for tokens, advantage in zip(group.tokens, advantages, strict=True):
            filling = [-1] * (PATH.horizon - len(start) - len(tokens))
            rows.append(start + tokens + filling)
            weights.append([0.0] * len(start) + [advantage] * len(tokens) + [0.0] * len(filling))
    policy.update(np.array(rows), np.array(weights) / len(rows), RATE, most=20.0)


def train(strategy: Strategy, seed: int = 0) -> tuple[float, int]:
    """Probability of the path from the root after training, and the tokens that were generated."""
    policy, spent = SoftmaxPolicy(PATH), 0
    for step in range(STEPS):
        groups = collect_groups(
            policy, [PATH.problem()], step, strategy=strategy, size=SIZE, seed=seed
        )
        spent += sum(group.spent.tokens for group in groups)
        reinforce(policy, groups)
    return float(np.exp(policy.log_probability(PATH.path))), spent


for strategy in (strategies.Root(), strategies.AdaBack()):
    reached, tokens = train(strategy)
    print(f"{strategy.name}: the path has probability {reached:.3f} after {tokens:,} tokens")
