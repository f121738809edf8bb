"""What every task must honour: its problems follow from the seed, and its judges agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from ..access.episode import Episode, bind
from ..errors import InvalidInput
from ..generators.base import Generator, Request
from ..generators.ngram import CharNgram
from ..randomness import stream_key
from ..tasks.base import Problem, Task
from ..tasks.files import OwnTask
from ..tasks.judges import check, estimate, score
from ..tasks.registry import get_task
from ..types import Output
from .base import Conformance, check_all, expect

AnyTask = Task | str | Any


class TaskConformance(Conformance, ABC):
    """Subclass it and give ``make``; pytest finds the checks.

    Attributes:
        horizons: sizes to try.
        count: problems of each.
        generator: whose tokens the outputs are; ``None``: characters, by a model of the problems' own
            texts.
    """

    horizons: Sequence[int] = (2, 5)
    count: int = 6
    generator: Generator | None = None

    @abstractmethod
    def make(self) -> AnyTask:
        """The task: an object, a function of horizon, count and seed, or a name."""
        ...

    def test_01_problems_follow_from_the_seed(self) -> None:
        one, other = self._task(), self._task()
        for horizon in self.horizons:
            first = [_shown(p) for p in one.problems(horizon, self.count, 3)]
            one.problems(horizon, self.count, 4)
            for how, task in (("another time", one), ("made anew", other)):
                again = [_shown(p) for p in task.problems(horizon, self.count, 3)]
                expect(again == first, f"{how} horizon {horizon}, seed 3 gives other problems")

    def test_02_ids_are_unique_and_prompts_say_something(self) -> None:
        for horizon in self.horizons:
            for problem in self._task().problems(horizon, self.count, 0):  # checks the ids
                blank = isinstance(problem.prompt, str) and not problem.prompt.strip()
                expect(not blank, f"problem {problem.id!r} has an empty prompt")

    def test_03_demonstrations_pass(self) -> None:
        for episode in self._episodes:
            if episode.demonstration is not None:
                shown = episode.output(episode.demonstration.tokens)
                expect(_passes(episode, shown), f"{_at(episode)}: {shown.text!r} fails its reward")

    def test_04_empty_outputs_fail(self) -> None:
        for episode in self._episodes:
            for token in sorted(episode.stop.tokens):
                empty = episode.output((token,))
                expect(
                    bool(empty.text.strip()) or not _passes(episode, empty),
                    f"{_at(episode)}: an empty output passes",
                )

    def test_05_judges_answer_alike_when_asked_again(self) -> None:
        for episode in self._episodes:
            for output in self._outputs(episode):
                rewards = {score(episode.problem, output) for _ in range(3)}
                expect(len(rewards) == 1, f"{_at(episode)}: {output.text!r} has rewards {rewards}")

    def test_06_verifiers_accept_every_prefix_of_the_demonstration(self) -> None:
        for episode in self._episodes:
            if episode.problem.verifier is None or episode.demonstration is None:
                continue
            tokens = episode.demonstration.tokens
            for t in range(len(tokens) + 1):
                prefix = episode.output(tokens[:t])
                accepted = check(episode.problem, prefix)
                expect(accepted, f"{_at(episode)}: the verifier refuses {prefix.text!r}")

    def test_07_verifiers_accept_no_complete_output_whose_reward_fails(self) -> None:
        for episode in self._episodes:
            if episode.problem.verifier is None:
                continue
            for output in self._outputs(episode):
                if check(episode.problem, output):
                    expect(
                        _passes(episode, output),
                        f"{_at(episode)}: the verifier accepts the complete output "
                        f"{output.text!r}, whose reward is {score(episode.problem, output)}",
                    )

    def test_08_values_are_numbers(self) -> None:
        for episode in self._episodes:
            if episode.problem.value is not None and episode.demonstration is not None:
                for t in range(len(episode.demonstration) + 1):
                    estimate(episode.problem, episode.output(episode.demonstration.tokens[:t]))

    def _task(self) -> Task:
        made = self.make()
        task = get_task(made) if isinstance(made, str) else made
        return task if isinstance(task, OwnTask) else OwnTask.of(type(self).__name__, task, {})

    @cached_property
    def _episodes(self) -> list[Episode]:
        task = self._task()
        problems = [p for h in self.horizons for p in task.problems(h, self.count, 0)]
        generator = self.generator or _characters(problems)
        return [bind(problem, generator) for problem in problems]

    def _outputs(self, episode: Episode) -> Iterator[Output]:
        """Complete outputs near the demonstration: cut short, with a token changed; and draws."""
        shown = episode.demonstration.tokens if episode.demonstration is not None else ()
        strings = {(*shown[:t], end) for t in range(len(shown)) for end in episode.stop.tokens}
        others = sorted(set(shown))
        strings |= {
            (*shown[:t], other, *shown[t + 1 :]) for t in range(len(shown)) for other in others
        }
        key = stream_key(0, "task kit", "draws")
        request = Request(episode.prompt, (), 32, episode.horizon, stop=episode.stop, key=key)
        (reply,) = episode.generator.answer([request])
        strings |= {reply.continuation(i) for i in range(reply.n)}
        for tokens in sorted(strings):
            try:
                episode.check_tokens(tokens)
            except InvalidInput:  # it goes on after its end
                continue
            if episode.is_complete(tokens):
                yield episode.output(tokens)


def _characters(problems: Sequence[Problem]) -> Generator:
    """A model of the problems' own texts, so that its draws are near to what is asked."""
    texts = [p.prompt for p in problems] + [p.demonstration or p.answer for p in problems]
    stops = [stop for problem in problems for stop in problem.stop]
    if any(not isinstance(text, str) for text in texts):
        raise InvalidInput("problems with tokens need the generator whose tokens they are")
    text = "\0".join([*map(str, texts), *stops])
    return CharNgram(text, order=3, separator="\0")


def _shown(problem: Problem) -> tuple[object, ...]:
    shown = (problem.id, problem.prompt, problem.max_tokens, problem.demonstration)
    return (*shown, problem.stop, problem.answer, problem.pass_at, problem.unique)


def _passes(episode: Episode, output: Output) -> bool:
    return score(episode.problem, output) >= episode.problem.pass_at


def _at(episode: Episode) -> str:
    return f"problem {episode.problem.id!r}"


def check_task(
    task: AnyTask,
    *,
    horizons: Sequence[int] = (2, 5),
    count: int = 6,
    generator: Generator | None = None,
) -> None:
    """Run every check of ``TaskConformance``; the arguments are its attributes.

    Args:
        task: a task, a function of horizon, count and seed, or a name (``FILE.py:NAME`` too).

    Raises:
        AssertionError: names every check that failed, with its reason.
    """
    settings = {"horizons": horizons, "count": count, "generator": generator}
    check_all(TaskConformance, lambda: task, **settings)
