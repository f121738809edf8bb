"""A task of your own on a small text model: problems with a reward, a verifier and a stop text."""

import reroot
from reroot import Problem
from reroot.generators import CharNgram
from reroot.tasks import ExactText, TextPrefix

TEXT = "the cat sat on the mat. the dog sat on the log. a cat and a dog ran. " * 20
generator = CharNgram(TEXT, order=4)


def ask_for(sentence: str) -> Problem:
    return Problem(
        id=sentence,
        prompt="the ",
        max_tokens=len(sentence),
        reward=ExactText(sentence),
        verifier=TextPrefix(sentence),  # of a complete output it says what the reward says
    )


problems = [ask_for("cat sat on the log."), ask_for("dog ran. a cat")]
for spec, grants in [
    ("best_of_n:n=32", "root/sample+reward"),
    ("tokenwise_rejection", "visited/sample+verifier"),
]:
    result = reroot.run(spec, problems, generator, grants=grants, budget="tokens=5000")
    for attempt in result.attempts:
        print(f"{attempt.learner:45} {attempt.text!r:24} passed={attempt.passed}")
