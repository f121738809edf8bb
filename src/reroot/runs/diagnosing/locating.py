"""Rollouts from within right outputs: what places are worth, and where rollouts are lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...access.attempt import Attempt
from ...access.episode import Episode, bind
from ...diagnosis.bottlenecks import SIDE
from ...errors import InvalidInput, OracleError
from ...learners.measuring import demonstration_law, value_in_demonstration
from .losses import Losses
from .patient import FIRST, Patient
from .trials import Trial, Trials


def locate(trials: Trials, patients: Sequence[Patient]) -> dict[Patient, Losses]:
    """Where rollouts of these problems are lost, as far as the budget carries it.

    Sixteen rollouts after each place of interest, of all problems together; then forty-eight more on both sides of
    those candidates that something passes after. A claim rests on all sixty-four, so that leaving the others
    early can only lose claims. Where the right output is unique teacher forcing has told everything.
    """
    found = {p: lost for p in patients if (lost := _along(p, trials)) is not None}
    _sample(trials, found, {p: lost.sides() for p, lost in found.items()}, FIRST, 0)
    _sample(trials, found, {p: lost.worth_more() for p, lost in found.items()}, SIDE - FIRST, 1)
    return found


def logprobs(attempt: Attempt) -> list[float] | None:
    """Teacher-forced log-probabilities that an attempt has brought, nats; ``None``: it failed."""
    logs = attempt.metadata.get("logprobs")
    return None if logs is None else [-math.inf if x is None else x for x in logs]


def _along(patient: Patient, trials: Trials) -> Losses | None:
    """A right output to look along: the demonstration, else one that passed."""
    episode, unique = patient.episode, patient.episode.problem.unique
    if patient.forced is not None:
        return Losses(episode, "the demonstration", patient.forced, unique)
    passed = [a for a in (*patient.rollouts, *patient.walks) if a.passed and a.output is not None]
    if episode.demonstration is not None or not passed or passed[0].output is None:
        return None
    try:
        shown = bind(
            replace(episode.problem, demonstration=passed[0].output.tokens), episode.generator
        )
    except (InvalidInput, OracleError) as error:
        trials.note(f"{patient.id}: an output that passed cannot be looked along: {error}")
        return None
    trial = Trial("0", demonstration_law(), 0, episode.horizon, shown)
    made = trials.make("forced-output", {patient: [trial]})
    logs = logprobs(made[patient][0]) if made.get(patient) else None
    return None if logs is None else Losses(shown, "an output that passed", logs, False)


def _sample(
    trials: Trials,
    found: dict[Patient, Losses],
    places: dict[Patient, list[int]],
    n: int,
    part: int,
) -> None:
    """n more rollouts after each of these places."""
    wanted = {
        p: [_trial(trials, p, found[p].episode, k, n, part) for k in places[p]] for p in found
    }
    made = trials.make("value", wanted)
    for p, attempts in made.items():
        least = p.episode.problem.pass_at
        for attempt in attempts:
            k = int(attempt.key.split("/")[-2])
            rewards = attempt.metadata.get("rewards", ())
            found[p].add(k, sum(x >= least for x in rewards), len(rewards))
    if len(made) < sum(map(bool, wanted.values())):
        trials.note("the budget ended in starts from right outputs")


def _trial(
    trials: Trials, patient: Patient, episode: Episode, place: int, n: int, part: int
) -> Trial:
    learner = value_in_demonstration(reveal=place, n=n, guard=True)
    if not (patient.sound and trials.permits(learner, episode)):
        learner = value_in_demonstration(reveal=place, n=n)
    return Trial(f"{place}/{part}", learner, part, n * (episode.horizon - place), episode)
