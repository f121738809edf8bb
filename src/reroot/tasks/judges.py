"""Judges: calls of rewards, process verifiers and value functions, and what their answers must be.

Calls that are begun together go on together: what is awaited shares one event loop, what takes a
batch gets one, and where there are worker processes each call goes to one of them.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidInput, OracleError, need
from ..types import Output
from . import calls
from .base import Problem, finite
from .calls import Begun


class Judge:
    """A function of outputs, and how it is called; made by ``judge``."""

    def __init__(
        self,
        function: Callable[..., Any],
        batch: bool,
        transient: tuple[type[BaseException], ...],
        tries: int,
        wait: float,
    ) -> None:
        functools.update_wrapper(self, function)
        self.takes_batch = batch
        self.function = _retrying(function, transient, tries, wait) if transient else function

    def __call__(self, output: Output) -> Any:
        """The answer about one output."""
        if not self.takes_batch:
            return self.function(output)
        said = self.function([output])
        return _first(said) if inspect.isawaitable(said) else _one(said, 1)[0]

    def batch(self, outputs: Sequence[Output]) -> Any:
        """The answers about many outputs, of a function that takes many."""
        return self.function(list(outputs))


def judge(
    function: Callable[..., Any] | None = None,
    *,
    batch: bool = False,
    transient: type[BaseException] | tuple[type[BaseException], ...] = (),
    tries: int = 5,
    wait: float = 1.0,
) -> Any:
    """Say how a reward, verifier or value function is called; a decorator, or a call around one.

    Args:
        function: takes an ``Output``, or a list of them; may be ``async def``.
        batch: it takes a list of outputs and returns a list of as many answers.
        transient: errors that pass by themselves, such as a server that is busy: the call is tried
            again.
        tries: at most how often.
        wait: seconds before the second try; each later wait is twice as long, at most a minute.

    Raises:
        InvalidInput: ``tries`` or ``wait`` is out of range, or ``transient`` is no error type.
        MissingDependency: ``transient`` without the package tenacity.
    """
    kinds = transient if isinstance(transient, tuple) else (transient,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise InvalidInput(
            f"transient must be a type of error or a tuple of them, got {transient!r}"
        )
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"tries must be an integer >= 1, got {tries!r}")
    if finite(wait) is None or wait < 0:
        raise InvalidInput(f"wait must be a number >= 0 (seconds), got {wait!r}")
    if function is None:
        return functools.partial(judge, batch=batch, transient=kinds, tries=tries, wait=wait)
    return Judge(function, batch, kinds, tries, wait)


def _retrying(
    function: Callable[..., Any], kinds: tuple[type[BaseException], ...], tries: int, wait: float
) -> Callable[..., Any]:
    need("tasks", "tenacity")
    import tenacity

    retry = tenacity.retry(
        retry=tenacity.retry_if_exception_type(kinds),
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_exponential(multiplier=wait, max=60.0),
        reraise=True,
    )
    return retry(function)


async def _first(said: Any) -> Any:
    return _one(await said, 1)[0]


def _one(said: Any, count: int) -> list[Any]:
    """A batch's answers, as many as were asked for."""
    if isinstance(said, np.ndarray):
        said = said.tolist()
    if not isinstance(said, (list, tuple)) or len(said) != count:
        raise TypeError(f"a judge of batches must return a list of {count} answers, got {said!r}")
    return list(said)


# ---- asking ---------------------------------------------------------------------------------------


def begin(
    problem: Problem, what: str, outputs: Sequence[Output], limit: float | None = None
) -> Begun:
    """Begin to ask a judge of ``problem`` about ``outputs``; the answers, checked, come when asked for.

    Args:
        what: ``"reward"``, ``"verifier"`` or ``"value"``.
        limit: seconds that each call may take; ``None``: as long as it likes.

    Raises:
        InvalidInput: the problem has no such judge.
        OracleError: as the answers are asked for: the function raised, took too long, or returned
            something else than a truth value (verifier), a finite number >= 0 (value) or a finite
            number or ``None`` (reward). The message names the problem and the value.
    """
    function = getattr(problem, what)
    if function is None:
        raise InvalidInput(f"problem {problem.id!r} has no {_NAMES[what]}")
    many = getattr(function, "batch", None) if getattr(function, "takes_batch", True) else None
    if many is not None and len(outputs) > 1:
        awaited = calls.is_async(function)
        begun = calls.begin(many, [list(outputs)], limit, awaited)
    else:
        many, begun = None, calls.begin(function, outputs, limit)

    def checked(wait: float | None = None) -> list[Any]:
        try:
            said = begun.results(wait)
            said = said if many is None else _one(said[0], len(outputs))
        except calls.OverTime:
            raise OracleError(
                f"problem {problem.id!r}: the {what} took longer than the time limit of {limit:g} s"
            ) from None
        except (Exception, SystemExit) as error:  # a reward that runs code may meet an exit() in it
            raise OracleError(
                f"problem {problem.id!r}: the {what} raised {type(error).__name__}: {error}"
            ) from error
        return [_CHECKS[what](problem, answer) for answer in said]

    return Begun(checked, begun.elsewhere, begun.futures, begun.limit)


def elsewhere(problem: Problem, what: str) -> bool:
    """Whether that judge of ``problem`` works by itself, so that its answers come later."""
    return calls.elsewhere(getattr(problem, what))


def rate(problem: Problem, output: Output, limit: float | None = None) -> float | None:
    """The outcome reward of ``output``; ``None``: the judge abstains. Errors as of ``begin``."""
    return begin(problem, "reward", [output], limit).results()[0]


def score(problem: Problem, output: Output, limit: float | None = None) -> float:
    """The outcome reward of ``output``; 0 where the judge abstains. Errors as of ``begin``."""
    return rate(problem, output, limit) or 0.0


def estimate(problem: Problem, output: Output, limit: float | None = None) -> float:
    """The value of the prefix ``output`` by the problem's value function. Errors as of ``begin``."""
    return begin(problem, "value", [output], limit).results()[0]


def check(problem: Problem, output: Output, limit: float | None = None) -> bool:
    """What the process verifier says: can ``output`` still become (or: is it) a right output?

    Errors as of ``begin``.
    """
    return begin(problem, "verifier", [output], limit).results()[0]


def _reward(problem: Problem, said: object) -> float | None:
    return None if said is None else _number(problem, "reward", said, -math.inf)


def _value(problem: Problem, said: object) -> float:
    return _number(problem, "value", said, 0.0)


def _truth(problem: Problem, said: object) -> bool:
    if isinstance(said, (bool, np.bool_)):
        return bool(said)
    raise OracleError(
        f"problem {problem.id!r}: the verifier must return True or False, got {said!r} "
        f"({type(said).__name__})"
    )


_CHECKS: dict[str, Callable[[Problem, object], Any]] = {
    "reward": _reward,
    "verifier": _truth,
    "value": _value,
}
_NAMES = {"reward": "reward", "verifier": "process verifier", "value": "value function"}


def _number(problem: Problem, what: str, said: object, least: float) -> float:
    """A judge's answer as a finite number >= ``least`` (``OracleError`` if it is none)."""
    number = finite(said)
    if number is not None and number >= least:
        return number
    bound = "" if least == -math.inf else f" >= {least:g}"
    raise OracleError(
        f"problem {problem.id!r}: the {what} must be a finite number{bound}, got {said!r} "
        f"({type(said).__name__})"
    )
