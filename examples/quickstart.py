"""The same secret, the same budget: from the root it stays hidden, with resets it is found."""

import reroot
from reroot.families import HiddenPath

generator = HiddenPath(vocab_size=4, horizon=16, p=0.4)
problem = generator.problem()
budget = reroot.Budget(tokens=20_000)

for learner, grants in [
    ("first_success", "root/full+reward"),  # richest reports, rollouts only
    ("plurality_walk:p=0.4", "reset/sample"),  # poorest reports, local resets
]:
    attempt = reroot.run(learner, [problem], generator, grants=grants, budget=budget).attempts[0]
    print(f"{attempt.contract:24} {attempt.learner:40} passed={attempt.passed}")
    print(f"    tokens {attempt.cost.tokens:,}, rewards {attempt.cost.rewards:,}")
