"""``verifiers:NAME[:key=value,…]``: single-turn environments of the package verifiers as tasks.

Source: Brown, verifiers (https://github.com/PrimeIntellect-ai/verifiers). NAME is what is installed
(``owner/name`` of the Environments Hub works too). Up to verifiers 0.3 it is an environment, made by
``load_environment`` and judged by its rubric (``rubrics.py``); from 0.4 on a taskset, whose tasks judge
themselves (``tasksets.py``). Reroot's settings, everything else goes to the environment:

* ``max_tokens=N``: the most tokens of an output (default 512);
* ``pass_at=R``: the reward from which an output passes (default 1; weighted rewards may sum to more);
* ``take=N``: the first rows alone; an endless taskset needs it;
* ``split=eval`` (the default of environments; those without evaluation rows give their training rows) or
  ``split=train``.

Prompts are chats (text where an environment completes text), so generators need a chat template. Several
turns, tools, containers and rewards of whole groups are refused. Code of the environment runs in this
process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import specs
from ...checks import check_float, check_int
from ...errors import InvalidInput, MissingDependency
from ...randomness import keyed_rng, stream_key
from ..base import MOST, Problem
from .rows import Environment, package

PREFIX = "verifiers:"
_TOKENS = 512


@dataclass(frozen=True, slots=True)
class VerifiersTask:
    """The rows of one environment as problems.

    Attributes:
        name: the specification it was made from.
        environment: has the rows.
        max_tokens: most tokens of an output.
        pass_at: reward from which an output passes.
        has_horizon: the horizon knob maps to nothing.
    """

    name: str
    environment: Environment = field(repr=False)
    max_tokens: int = _TOKENS
    pass_at: float = 1.0
    has_horizon: bool = False

    @classmethod
    def parse(cls, spec: str) -> VerifiersTask:
        """Load the environment of ``verifiers:NAME[:key=value,…]``.

        Raises:
            MissingDependency: verifiers is not installed.
            InvalidInput: no such environment, one whose outputs have more than a turn, or a bad setting.
        """
        read, at = specs.parse(spec, "task"), f"task {spec!r}"
        settings = dict(read.settings)
        take = settings.pop("take", None)
        take = None if take is None else check_int(f"{at}: take", take, 1)
        most = check_int(f"{at}: max_tokens", settings.pop("max_tokens", _TOKENS), 1, MOST)
        pass_at = check_float(f"{at}: pass_at", settings.pop("pass_at", 1.0))
        environment = _loaded(read.name.removeprefix(PREFIX), settings, take, at)
        if not len(environment):
            raise InvalidInput(f"{at}: there are no rows")
        return cls(spec, environment, most, pass_at)

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """``count`` rows drawn without replacement by ``seed``, in their order; all if there are fewer.

        Raises:
            InvalidInput: a row's prompt is neither text nor messages of text, or takes more than a turn.
        """
        horizon, count, seed = (
            check_int("horizon", horizon),
            check_int("count", count, 1),
            check_int("seed", seed),
        )
        order = keyed_rng(stream_key(seed, "verifiers", "order")).permutation(len(self.environment))
        return [self._problem(i, horizon) for i in sorted(order[:count].tolist())]

    def _problem(self, index: int, horizon: int) -> Problem:
        try:
            row = self.environment.judged(index)
        except InvalidInput as error:
            raise InvalidInput(f"task {self.name!r}, row {index}: {error}") from None
        return Problem(
            id=f"{self.name}/{index}",
            prompt=row.prompt,
            max_tokens=self.max_tokens,
            reward=row.reward,
            horizon=horizon,
            pass_at=self.pass_at,
            answer=row.answer,
        )


def _loaded(name: str, settings: Mapping[str, Any], take: int | None, at: str) -> Environment:
    try:
        verifiers = package()
    except ImportError as error:
        raise MissingDependency(
            f"verifiers tasks need the package: pip install verifiers ({error})"
        ) from error
    if hasattr(verifiers, "load_environment"):
        from .rubrics import load
    else:
        from .tasksets import load
    try:
        return load(name, settings, take)
    except InvalidInput as error:
        raise InvalidInput(f"{at}: {error}") from None
    except Exception as error:  # environments raise what they like
        version = getattr(verifiers, "__version__", "?")
        raise InvalidInput(
            f"{at}: verifiers {version} cannot load {name!r}: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error
