"""The runner: many learners, one generator; what they ask at the same moment is one batch.

A run proceeds in rounds. All learners that can go on run until each waits for the generator, for
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
import select
import time
from collections.abc import Callable, Iterable, Sequence

from ..checks import check_between, check_int
from ..errors import RerootError
from ..generators.base import Generator
from . import learner_thread
from .attempt import Attempt, Job, Log
from .batches import answer_all
from .judging import judge
from .learner_thread import LearnerThread, Turn
from .running import Running, Waiting, open_message, start

__all__ = ["Attempt", "Job", "Log", "check_limits", "execute"]

_TURNS = 100  # turns in one round, so that no learner holds up the others


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

    Raises:
        InvalidInput: see ``check_limits``.
        RunFolderError: what an interrupted run has left of an attempt is damaged.
    """
    check_limits(concurrency, attempt_timeout, judge_timeout)
    queue, running, thread = iter(jobs), list[Running](), LearnerThread()
    at_once = _affordable_loops(concurrency)
    try:
        while True:
            for job in itertools.islice(queue, at_once - len(running)):
                running.append(start(job, log, on_error is not None, judge_timeout))
            if not running:
                return
            on_round(len(running))
            waiting = _round(thread, _awake(running, attempt_timeout), attempt_timeout)
            done = [r for r in running if r.finished is not None]
            running = [r for r in running if r.finished is None]
            # who did not give the thread back runs on it still, and is left there
            thread.close([r.task for r in done if r.clock < math.inf])
            judged = judge(generator, done, judge_timeout)  # begun, and going on while ...
            waiting = [item for item in waiting if item.running.finished is None]
            answer_all(generator, waiting)  # ... the generator works
            for item in waiting:
                item.judged()
                item.deliver()
            for one, attempt in zip(done, judged, strict=True):
                if on_error is not None and attempt.error is not None:
                    on_error(attempt, one.raised or RerootError(str(attempt.error)))
                on_attempt(attempt)
                if one.log is not None:
                    one.log.finish(one.job.key)
    finally:
        thread.end([r.task for r in running if r.clock < math.inf])


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
    parked = [(r, r.parked) for r in running if r.parked is not None]
    if not parked:
        return list(running)
    poll, limit = select.poll(), _limit(timeout)
    for _, what in parked:
        poll.register(what.fd, select.POLLIN)
    first = min(min(what.wake, r.parked_at + limit - r.clock) for r, what in parked)
    pause = 0.0 if len(parked) < len(running) else min(max(0.0, first - time.monotonic()), 3600.0)
    ready = {fd for fd, _ in poll.poll(math.ceil(1000 * pause))}
    now = time.monotonic()
    for r, what in parked:
        if what.fd in ready or what.wake <= now or r.parked_at + limit - r.clock <= now:
            r.clock += now - r.parked_at
            r.parked = None
    return [r for r in running if r.parked is None]


def _round(
    thread: LearnerThread, running: Sequence[Running], timeout: float | None
) -> list[Waiting]:
    """Let learners run until all they wait for is the generator; what they wait for.

    A learner that goes on and on with what needs no generator does so in the rounds to come.
    """
    waiting: list[Waiting] = []
    limit = _limit(timeout)
    for _ in range(_TURNS):
        running = [r for r in running if not _over_time(r, timeout)]
        if not running:
            break
        turns = thread.step_all([(r.task, r.answers, limit - r.clock) for r in running])
        for r, turn in zip(running, turns, strict=True):
            _take(r, turn, waiting, timeout)
        running = [r for r in running if r.answers]
    return waiting


def _take(running: Running, turn: Turn, waiting: list[Waiting], timeout: float | None) -> None:
    """Go through what came out of a turn; ``waiting`` gets what the generator has to answer."""
    running.answers, running.finished, running.parked = [], turn.finished, turn.parked
    running.clock += turn.seconds
    if turn.parked is not None:
        running.parked_at = time.monotonic()
    if turn.sent and timeout is None:
        running.clock = 0.0
    for item in [open_message(running, ticket, message) for ticket, message in turn.sent]:
        if item.answer is None:
            waiting.append(item)
        else:
            item.deliver()
    running.fail_if_idle()
    if turn.seconds == math.inf:
        _over_time(running, timeout)


def _limit(timeout: float | None) -> float:
    return learner_thread.PATIENCE if timeout is None else timeout


def _over_time(running: Running, timeout: float | None) -> bool:
    """Give an attempt up that has had its time."""
    limit = _limit(timeout)
    if running.clock < limit:
        return False
    if timeout is None:
        running.fail("stalled", f"went on for {limit:g} s without asking its session")
    else:
        running.fail("TimeoutError", f"it took more than the {limit:g} s that an attempt may take")
    return True
