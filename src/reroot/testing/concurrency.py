"""Checks of ``submit``: what a generator must honour that answers each request when it can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotDone
from dataclasses import replace
from typing import ClassVar

from ..errors import InvalidInput
from ..generators.base import ConcurrentGenerator, Generator, Request
from ..types import Reply
from .base import Conformance, expect, same
from .subject import Subject


class ConcurrentConformance(Conformance, ABC):
    """What ``submit`` must honour; nothing is checked where a generator has none.

    Attributes to override:
        patience: seconds after which a future that is not done counts as never answered.
    """

    patience: ClassVar[float] = 60.0
    tolerance: ClassVar[float]

    @abstractmethod
    def make(self) -> Generator: ...

    @abstractmethod
    def _subjects(self) -> list[Subject]: ...

    def test_19_submitted_answers_equal_answers(self) -> None:
        """Two calls in flight at once, waited for from the last future to the first."""
        for s in self._concurrent():
            requests = [s.request(u, 2, s.room - len(u)) for u in s.probes]
            known = self.make().answer(requests)
            half = len(requests) // 2
            futures = [*self._submit(s, requests[:half]), *self._submit(s, requests[half:])]
            for i in reversed(range(len(requests))):
                what = f"{requests[i]} submitted"
                same(known[i], self._result(futures[i], what), self.tolerance, what)

    def test_20_a_cancelled_future_ends_alone(self) -> None:
        for s in self._concurrent():
            requests = [s.request(u, 2, s.room - len(u)) for u in s.probes]
            known = self.make().answer(requests)
            futures = self._submit(s, requests)
            gone = {i for i in range(0, len(futures), 2) if futures[i].cancel()}
            for i, future in enumerate(futures):
                if i in gone:
                    expect(future.cancelled(), f"{requests[i]} was cancelled and is not")
                    continue
                what = f"{requests[i]} beside cancelled ones"
                same(known[i], self._result(future, what), self.tolerance, what)
            (after,) = self._submit(s, requests[:1])
            what = f"{requests[0]} after cancelled ones"
            same(known[0], self._result(after, what), self.tolerance, what)

    def test_21_errors_are_exceptions_of_their_futures(self) -> None:
        for s in self._concurrent():
            good = s.request(n=2, length=s.room)
            bad = replace(good, prefix=(s.generator.vocab_size,))
            (known,) = self.make().answer([good])
            before, wrong, after = self._submit(s, [good, bad, good])
            error = self._done(wrong.exception, f"{bad} submitted")
            expect(
                isinstance(error, InvalidInput),
                f"the exception of {bad} is {error!r}, expected InvalidInput",
            )
            for future in (before, after):
                what = f"{good} beside one that is refused"
                same(known, self._result(future, what), self.tolerance, what)

    def _concurrent(self) -> list[Subject]:
        return [s for s in self._subjects() if isinstance(s.generator, ConcurrentGenerator)]

    def _submit(self, s: Subject, requests: Sequence[Request]) -> list[Future[Reply]]:
        assert isinstance(s.generator, ConcurrentGenerator)
        try:
            futures = s.generator.submit(requests)
        except Exception as error:
            raise AssertionError(f"submit raised {error!r}; errors are the futures' own") from error
        kinds = sorted({type(f).__name__ for f in futures if not isinstance(f, Future)})  # pyright: ignore[reportUnnecessaryIsInstance]
        expect(not kinds, f"submit gave {', '.join(kinds)}, expected concurrent.futures.Future")
        expect(
            len(futures) == len(requests),
            f"{len(requests)} requests were submitted, {len(futures)} futures came",
        )
        return futures

    def _result(self, future: Future[Reply], what: str) -> Reply:
        error = self._done(future.exception, what)
        expect(error is None, f"{what}: {error!r}")
        return future.result()

    def _done(
        self, ask: Callable[[float], BaseException | None], what: str
    ) -> BaseException | None:
        """The exception of a future, once it is done."""
        try:
            return ask(self.patience)
        except NotDone:
            raise AssertionError(f"{what}: no answer in {self.patience:g} s") from None
        except CancelledError:
            raise AssertionError(f"{what}: cancelled, and nobody asked for that") from None
