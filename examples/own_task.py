"""A task of your own on a small text model: problems with a reward, a verifier and a stop text."""

import reroot
from reroot.generators.ngram import CharNgram
from reroot.learners import get_learner
from reroot.tasks.base import Problem

TEXT = "the cat sat on the mat. the dog sat on the log. a cat and a dog ran. " * 20
generator = CharNgram(TEXT, order=4)


def ask_for(sentence: str) -> Problem:
    return Problem(
        id=sentence,
        prompt="the ",
        max_tokens=len(sentence),
        reward=lambda output: float(output.text == sentence),
        verifier=lambda prefix: sentence.startswith(prefix.text),
    )


problems = [ask_for("cat sat on the log."), ask_for("dog ran. a cat")]
for spec, grants in [
    ("best_of_n:n=32", "root/sample+reward"),
    ("tokenwise_rejection", "visited/sample+verifier"),
]:
    budget = reroot.Budget(tokens=5_000)
    result = reroot.run(get_learner(spec), problems, generator, grants=grants, budget=budget)
    for attempt in result.attempts:
        print(f"{attempt.learner:45} {attempt.text!r:24} passed={attempt.passed}")
