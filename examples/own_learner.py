"""A learner of your own: an async function over a session, with the contract it requires."""

import reroot
from reroot import learner
from reroot.families import HiddenPath


@learner(requires="reset/full")
async def most_informed_walk(session):
    """Append the token with the highest probability; one law query per token."""
    prefix = session.root
    while not session.is_complete(prefix):
        law = await session.law(prefix)
        prefix = prefix.append(int(law.argmax()))
    return prefix


problems = [HiddenPath(vocab_size=8, horizon=12, p=0.3, seed=s) for s in range(5)]
for generator in problems:
    result = reroot.run(most_informed_walk, [generator.problem()], generator, grants="reset/full")
    print(result.attempts[0].text, "passed" if result.attempts[0].passed else "failed")

try:
    reroot.run(most_informed_walk, [problems[0].problem()], problems[0], grants="root/full")
except reroot.AccessDenied as refused:
    print(refused)
