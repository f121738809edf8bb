"""The kit's checks of ``submit`` pass a healthy one and catch every one broken on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from reroot.generators.base import Generator, Request
from reroot.generators.tabular import Tabular
from reroot.testing import GeneratorConformance, check_generator
from reroot.testing.concurrency import ConcurrentConformance
from reroot.types import Reply

Open = list[tuple[Request, "Future[Reply]"]]


class Concurrent(Tabular):
    """A thread per call answers, the last request first."""

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        futures: list[Future[Reply]] = [Future() for _ in requests]
        tickets = list(zip(requests, futures, strict=True))[::-1]
        threading.Thread(target=self.work, args=(tickets,), daemon=True).start()
        return futures

    def work(self, tickets: Open) -> None:
        for request, future in tickets:
            if future.set_running_or_notify_cancel():
                self.serve(request, future)

    def serve(self, request: Request, future: Future[Reply]) -> None:
        try:
            future.set_result(self.answer([request])[0])
        except Exception as error:
            future.set_exception(error)


class Lockstep(Concurrent):
    """Answers before ``submit`` returns: slow, and allowed."""

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        futures: list[Future[Reply]] = [Future() for _ in requests]
        self.work(list(zip(requests, futures, strict=True)))
        return futures


class Misordered(Concurrent):
    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        return super().submit(requests)[::-1]


class OtherDraws(Concurrent):
    def serve(self, request: Request, future: Future[Reply]) -> None:
        super().serve(replace(request, key=(request.key[0] + 1, 0)), future)


class OneMissing(Concurrent):
    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        return super().submit(requests)[1:]


class NoFutures(Concurrent):
    def submit(self, requests: Sequence[Request]) -> Any:
        return [future.result() for future in super().submit(requests)]


class OneForgotten(Concurrent):
    def work(self, tickets: Open) -> None:
        super().work(tickets[1:])


class InOrderOnly(Concurrent):
    """Works on a call once the answers to the one before have been fetched."""

    last: Future[Reply] | None = None

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        if self.last is not None and not self.last.done():
            raise RuntimeError("still busy")
        futures: list[Future[Reply]] = [Future() for _ in requests]
        self.last = futures[-1]
        threading.Timer(0.05, self.work, [list(zip(requests, futures, strict=True))]).start()
        return futures


class CancelKillsTheWorker(Concurrent):
    """A result for a future that was cancelled: an error that nobody sees, and silence after it."""

    def work(self, tickets: Open) -> None:
        gate = threading.Event()
        threading.Timer(0.05, gate.set).start()
        gate.wait()
        for request, future in tickets[::-1]:
            if future.cancelled():
                return
            self.serve(request, future)


class CancelsTheCall(Concurrent):
    """One cancelled future takes all of its call with it."""

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        futures: list[Future[Reply]] = [Future() for _ in requests]
        for future in futures:
            future.add_done_callback(
                lambda done: [f.cancel() for f in futures] if done.cancelled() else None
            )
        tickets = list(zip(requests, futures, strict=True))
        threading.Timer(0.05, self.work, [tickets]).start()
        return futures


class RaisesAtOnce(Concurrent):
    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        self.answer(requests)
        return super().submit(requests)


class FailsTogether(Concurrent):
    """One refused request fails those that were submitted with it."""

    def serve(self, request: Request, future: Future[Reply]) -> None:
        raise NotImplementedError

    def work(self, tickets: Open) -> None:
        try:
            replies = self.answer([request for request, _ in tickets])
        except Exception as error:
            for _, future in tickets:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            return
        for (_, future), reply in zip(tickets, replies, strict=True):
            if future.set_running_or_notify_cancel():
                future.set_result(reply)


class OtherErrors(Concurrent):
    def serve(self, request: Request, future: Future[Reply]) -> None:
        try:
            future.set_result(self.answer([request])[0])
        except Exception:
            future.set_exception(RuntimeError("no"))


BROKEN: list[tuple[type[Tabular], str]] = [
    (Misordered, "test_19_submitted_answers_equal_answers"),
    (OtherDraws, "test_19_submitted_answers_equal_answers"),
    (OneMissing, "test_19_submitted_answers_equal_answers"),
    (NoFutures, "test_19_submitted_answers_equal_answers"),
    (OneForgotten, "test_19_submitted_answers_equal_answers"),
    (InOrderOnly, "test_19_submitted_answers_equal_answers"),
    (CancelKillsTheWorker, "test_20_a_cancelled_future_ends_alone"),
    (CancelsTheCall, "test_20_a_cancelled_future_ends_alone"),
    (RaisesAtOnce, "test_21_errors_are_exceptions_of_their_futures"),
    (FailsTogether, "test_21_errors_are_exceptions_of_their_futures"),
    (OtherErrors, "test_21_errors_are_exceptions_of_their_futures"),
]


def checked(kind: type[Tabular], patience: float) -> dict[str, str | None]:
    """The checks of ``submit`` alone."""

    class Kit(GeneratorConformance):
        length = 3

        def make(self) -> Generator:
            return kind.random(3, 3, seed=1)

    kit = Kit()
    Kit.patience = patience
    found: dict[str, str | None] = {}
    for name in ConcurrentConformance.checks():
        check: Callable[[], None] = getattr(kit, name)
        try:
            check()
            found[name] = None
        except AssertionError as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("kind", [Tabular, Concurrent, Lockstep])
def test_healthy_generators_pass(kind: type[Tabular]) -> None:
    assert set(checked(kind, 60.0).values()) == {None}


@pytest.mark.parametrize(
    ("kind", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_broken_submits_are_caught_by_the_named_check(kind: type[Tabular], check: str) -> None:
    assert checked(kind, 0.5)[check] is not None


def test_every_check_of_submit_has_a_generator_that_fails_it() -> None:
    assert {check for _, check in BROKEN} == set(ConcurrentConformance.checks())


@pytest.mark.slow(3)
def test_check_generator_covers_submit() -> None:
    with pytest.raises(AssertionError, match="test_19_submitted_answers_equal_answers: "):
        check_generator(lambda: OtherDraws.random(2, 2, seed=0), length=2, draws=100)
