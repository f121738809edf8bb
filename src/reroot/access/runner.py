"""The runner: many learners, one generator; what they ask at the same moment is one batch.

A generator that answers each request when it can is another matter: see ``flight``. With any other
one a run proceeds in rounds. All learners that can go on run until each waits for the generator, for
a judge that works elsewhere (others answer at once) or for something that is not its session: a
moment, a file, a thread. Everything they asked becomes one call of the generator, while judges are
at work; all get their answers; and so on. Who
waits for something else is looked after by itself: the runner polls for all of them together, and
pauses only when nobody can go on. Learners never share anything, and every random number is keyed
by what it is for, so results do not depend on how many run at a time, on their order, or on the
batches.
"""

from __future__ import annotations

import itertools
import math
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..checks import check_between, check_int
from ..generators.base import ConcurrentGenerator, Generator
from .attempt import Attempt, Job, Log
from .batches import answer_all, conclude
from .flight import fly
from .judging import judge
from .learner_thread import LearnerThread, Stage
from .relay import relay
from .running import Running
from .turns import Terms, on_it, take_turns, wake
from .wall import Wall

__all__ = ["Attempt", "Job", "Log", "check_limits", "execute"]


def execute(
    jobs: Iterable[Job],
    generator: Generator,
    *,
    concurrency: int,
    on_attempt: Callable[[Attempt], None],
    log: Log | None = None,
    on_round: Callable[[int], None] = lambda running: None,
    on_error: Callable[[Attempt, BaseException], None] | None = None,
    attempt_timeout: float | None = None,
    judge_timeout: float | None = None,
    stage: Stage | None = None,
) -> None:
    """Run every job.

    Args:
        jobs: what to run.
        generator: what is behind the door.
        concurrency: most attempts that run at the same time.
        on_attempt: gets each result as soon as its round is over.
        log: where messages are written, if anywhere.
        on_round: is told before each round how many attempts are running.
        on_error: gets, before ``on_attempt``, an attempt that failed and the exception itself: what
            the learner, the generator or the task raised. Without it, no object of a learner
            leaves the learners' thread.
        attempt_timeout: seconds of its own that an attempt may take: those in which its code runs,
            and those in which it waits for something else than its session. ``None``: no limit,
            but after ``learner_thread.PATIENCE`` of them without a message it is given up.
        judge_timeout: seconds that a call of a reward, verifier or value function may take;
            ``None``: no limit.
        stage: where learners take turns, which is ended here (``None``: a thread of this process).

    Raises:
        InvalidInput: see ``check_limits``.
        RunFolderError: what an interrupted run has left of an attempt is damaged.
    """
    check_limits(concurrency, attempt_timeout, judge_timeout)
    terms = Terms(
        *(_affordable_loops(concurrency), on_attempt, log, on_round, on_error),
        *(attempt_timeout, judge_timeout, stage or LearnerThread()),
    )
    if isinstance(generator, Wall):
        relay(iter(jobs), generator, terms)
    elif isinstance(generator, ConcurrentGenerator):
        fly(iter(jobs), generator, terms)
    else:
        _in_step(iter(jobs), generator, terms)


def _in_step(queue: Iterator[Job], generator: Generator, terms: Terms) -> None:
    """Round by round, each one call of the generator."""
    running, stage, timeout = list[Running](), terms.stage, terms.attempt_timeout
    try:
        while True:
            for job in itertools.islice(queue, terms.at_once - len(running)):
                running.append(terms.start(job))
            if not running:
                return
            terms.on_round(len(running))
            waiting = take_turns(stage, _awake(running, timeout), timeout)
            done = [r for r in running if r.finished is not None]
            running = [r for r in running if r.finished is None]
            stage.close(on_it(done))
            judged = judge(generator, done, terms.judge_timeout)  # begun, and going on while ...
            waiting = [item for item in waiting if item.running.finished is None]
            answer_all(generator, waiting)  # ... the generator works
            conclude(waiting)
            for one, attempt in zip(done, judged, strict=True):
                terms.tell(one, attempt)
    finally:
        stage.end(on_it(running))


def check_limits(
    concurrency: int, attempt_timeout: float | None, judge_timeout: float | None
) -> None:
    """Refuse anything but a positive number of attempts in flight, and positive limits of time
    (``InvalidInput``)."""
    check_int("concurrency", concurrency, 1)
    for name, value in (("attempt_timeout", attempt_timeout), ("judge_timeout", judge_timeout)):
        if value is not None:
            check_between(name, value, 0.0, math.inf)


def _affordable_loops(concurrency: int) -> int:
    """Attempts at a time that the open-file limit allows: an event loop takes up to three files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return concurrency
    return max(1, min(concurrency, (limit - 128) // 3))


def _awake(running: Sequence[Running], timeout: float | None) -> list[Running]:
    """The attempts that can go on; waits until there is one, or one is over its time."""
    parked = [r for r in running if r.parked is not None]
    if not parked:
        return list(running)
    wake(parked, timeout, 0.0 if len(parked) < len(running) else math.inf)
    return [r for r in running if r.parked is None]
