"""Where the learners of a run run: in this process, or each in one of its own.

As a module that is run it is the launcher of such processes (``access.isolation.launcher``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import specs
from ..access.isolation.describing import described
from ..access.isolation.processes import LearnerProcesses
from ..access.isolation.settings import Isolation, isolation_of
from ..access.isolation.starting import Launcher
from ..access.isolation.walls import told
from ..access.learner import BoundLearner, LearnerFactory
from ..access.learner_thread import LearnerThread, Stage
from ..errors import InvalidInput
from ..learners import get_learner, list_learners

AnyLearner = BoundLearner | LearnerFactory[...] | str


@dataclass(frozen=True, slots=True)
class Place:
    """Where learners run.

    Attributes:
        stage: ``attempt_timeout`` → where they take turns.
        learner: what was given → the learner; one of a file or a package runs nothing of its own here.
        config: what configurations tell of it; nothing where it is this process.
    """

    stage: Callable[[float | None], Stage] = lambda timeout: LearnerThread()
    learner: Callable[[AnyLearner], BoundLearner] = get_learner
    config: dict[str, Any] = field(default_factory=dict[str, Any])


def on_stderr(text: str) -> None:
    """Say something to who runs this."""
    print(text, file=sys.stderr)


@contextmanager
def place_of(
    isolation: str | Isolation,
    learners: Sequence[AnyLearner],
    say: Callable[[str], object] = on_stderr,
) -> Iterator[Place]:
    """A place for learners, while a run goes on.

    Args:
        isolation: ``none``, or ``process`` with settings (see ``isolation_of``).
        learners: what will run there.
        say: gets one line on what walls stand and what does not.

    Raises:
        InvalidInput: an unknown kind, another platform than Linux, or a learner that no spec names.
        RerootError: the launcher cannot be started.
    """
    settings = isolation_of(isolation)
    if settings is None:
        yield Place()
        return
    if not sys.platform.startswith("linux"):
        raise InvalidInput(f"isolation='process' is there on Linux only, this is {sys.platform}")
    texts = [_spec(given) for given in learners]
    names = [specs.parse(text, "learner").name for text in texts]
    files = [str(specs.split_file(name)[0].resolve()) for name in names if specs.is_file(name)]
    with Launcher(settings, __name__, [file for file in files if Path(file).exists()]) as launcher:
        say(told(launcher.walls))
        yield Place(
            lambda timeout: LearnerProcesses(launcher, timeout),
            lambda given: _learner(launcher, _spec(given)),
            {"isolation": {"kind": str(settings), "walls": launcher.walls}},
        )


def _learner(launcher: Launcher, spec: str) -> BoundLearner:
    own = specs.parse(spec, "learner").name in list_learners()
    return get_learner(spec) if own else described(launcher, spec)


def _spec(given: AnyLearner) -> str:
    """The text that names a learner; refused where another process could not make it of that."""
    if isinstance(given, str):
        return given
    learner = get_learner(given)
    values = [learner.params[name] for name in learner.explicit]
    plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in values)
    if learner.is_object or not plain:
        raise InvalidInput(
            f"isolation='process' needs learners that a spec names, as FILE.py:NAME does: {learner} "
            "was made in this process, or has a parameter that no spec can say"
        )
    return learner.spec


if __name__ == "__main__":
    from ..access.isolation.launcher import main

    main(int(sys.argv[1]), get_learner)
