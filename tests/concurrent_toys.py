"""Generators that answer each request when they can: at random, or when a test says so."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from reroot.generators.base import Generator, Request
from reroot.types import Reply
from toys import Wrapped

Ticket = tuple[Request, Future[Reply]]


class Held(Wrapped):
    """Answers nothing by itself: what is asked lies in ``open`` until it is released.

    Attributes:
        open: what was asked and has not been released, in order.
        submitted: everything that was asked, in order.
    """

    def __init__(self, inner: Generator | None = None) -> None:
        super().__init__(inner)
        self.open: list[Ticket] = []
        self.submitted: list[Request] = []
        self._changed = threading.Condition()

    def submit(self, requests: Sequence[Request]) -> list[Future[Reply]]:
        futures: list[Future[Reply]] = [Future() for _ in requests]
        with self._changed:
            self.submitted += requests
            self.open += zip(requests, futures, strict=True)
            self._changed.notify_all()
        return futures

    def release(self, ticket: Ticket, error: BaseException | None = None) -> None:
        """Answer one, or let it fail."""
        request, future = ticket
        with self._changed:
            self.open.remove(ticket)
        if not future.set_running_or_notify_cancel():
            return
        if error is not None:
            future.set_exception(error)
            return
        try:
            (reply,) = self.inner.answer([request])
        except Exception as failed:
            future.set_exception(failed)
        else:
            future.set_result(reply)

    def layer_laws(self, *asked: Any) -> Any:
        return self.inner.layer_laws(*asked)  # type: ignore[attr-defined]

    def features(self, *asked: Any) -> Any:
        return self.inner.features(*asked)  # type: ignore[attr-defined]


class Driven(Held):
    """Answered from a thread of its own while it is a context.

    Args:
        inner: who answers.
        pick: which of the open tickets is answered next; ``None``: none of them yet.
    """

    def __init__(
        self, pick: Callable[[list[Ticket]], Ticket | None], inner: Generator | None = None
    ) -> None:
        super().__init__(inner)
        self._pick, self._over = pick, False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._over and (
                    not self.open or (ticket := self._pick(self.open)) is None
                ):
                    self._changed.wait()
                if self._over:
                    return
            self.release(ticket)

    def __enter__(self) -> Driven:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(10)


def shuffled(seed: int, delay: float = 0.0) -> Callable[[list[Ticket]], Ticket]:
    """In a random order, each after up to ``delay`` seconds."""
    rng = random.Random(seed)

    def pick(tickets: list[Ticket]) -> Ticket:
        if delay:
            time.sleep(delay * rng.random())
        return rng.choice(tickets)

    return pick
