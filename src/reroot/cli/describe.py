"""``reroot describe``: what a name stands for, what it requires, its parameters and its source."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import specs
from ..errors import InvalidInput, MissingDependency, nearest
from .app import command, console, documented

if TYPE_CHECKING:
    from ..access.learner import LearnerFactory
    from ..training.strategies import Strategy


PAPER = "arXiv 2604.04855"
"""The paper that reroot is about."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: its meaning, and its default as text ("" where it has none)."""

    meaning: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a name.

    Attributes:
        kind: learner, strategy, task, model, family, value or experiment.
        about: what it does; the first line says it shortly.
        requires: the weakest contract it needs, as text; "" where that makes no sense.
        parameters: name → parameter.
        source: the papers it is from.
    """

    kind: str
    name: str
    about: str
    requires: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict[str, Parameter])
    source: str = ""

    def __str__(self) -> str:
        lines = [f"{self.kind} {self.name}", "", self.about]
        lines += ["", f"Requires: {self.requires}"] if self.requires else []
        lines += ["", "Parameters:"] if self.parameters else []
        for name, parameter in self.parameters.items():
            default = f" = {parameter.default}" if parameter.default else ""
            lines.append(f"    {name}{default}: {parameter.meaning}".rstrip(": "))
        lines += ["", f"Source: {self.source}"] if self.source else []
        return "\n".join(lines)


def describe(name: str) -> str:
    """What ``name`` stands for: a learner, strategy, task, model, family, value or experiment.

    A name of several kinds is told of in all of them. ``FILE.py:NAME``, names that packages bring and
    data sets are described as well.

    Raises:
        InvalidInput: nothing has this name (the nearest is suggested), or it cannot be loaded.
    """
    from ..tasks.data.rows import FILES
    from ..tasks.registry import is_data

    read = specs.parse(name, "name")
    if specs.is_file(read.name):
        return str(_of_object(read.name, specs.load(read.name, "name"), read.settings))
    if is_data(read.name):
        return str(_data_file(read))
    known = built_in()
    found = [
        tell(read.name, known[kind][read.name], read.settings)
        for kind, tell in TELL.items()
        if read.name in known[kind]
    ]
    brought = {kind: specs.plugins(kind) for kind in specs.GROUPS}
    for kind, entries in brought.items():
        if read.name in entries:
            thing = specs.load_plugin(kind, entries[read.name])
            found.append(_of_object(read.name, thing, read.settings))
    if read.name.startswith("reasoning_gym:"):
        found.append(_data_set(read.name))
    if not found and Path(read.name).is_file():
        known_files = ", ".join((".py", *FILES))
        raise InvalidInput(f"{read.name!r} is a file that ends in none of {known_files}")
    if not found:
        names = {name for some in (*known.values(), *brought.values()) for name in some}
        raise InvalidInput(f"nothing is called {read.name!r}.{nearest(read.name, names)}")
    return f"\n\n{'─' * 60}\n\n".join(map(str, found))


@command(name="describe")
def _describe(name: str) -> None:
    """What a name stands for: what it does, requires and takes, and where it is from.

    Example:

        reroot describe smc

    Args:
        name: A learner, strategy, task, model, family, value or experiment, FILE.py:NAME, or a
            data set (FILE.jsonl, hf:NAME).
    """
    console.say(describe(name))


def _parameters(
    known: Iterable[inspect.Parameter], doc: str | None, given: Mapping[str, Any]
) -> dict[str, Parameter]:
    meanings = documented(doc)[1]
    return {
        p.name: Parameter(
            meanings.get(p.name, ""),
            str(given.get(p.name, "" if p.default is p.empty else p.default)),
        )
        for p in known
        if p.name not in ("self", "demonstrations")
    }


def papers(*docs: str | None) -> str:
    """The papers that texts cite."""
    found = (x for doc in docs for x in re.findall(r"arXiv[: ]\d{4}\.\d{4,5}", doc or ""))
    return ", ".join(dict.fromkeys(found))


def _learner(name: str, found: LearnerFactory[...], given: Mapping[str, Any]) -> Description:
    try:
        requires = str(found(**given).requires)
    except InvalidInput as error:
        if given:
            raise
        requires = f"depends on the parameters ({error})"
    module = inspect.getmodule(found.function)
    return Description(
        "learner",
        name,
        documented(found.__doc__)[0],
        requires,
        _parameters(found.parameters.values(), found.__doc__, given),
        papers(found.__doc__) or papers(module.__doc__ if module else ""),
    )


def _strategy(name: str, found: type[Strategy], given: Mapping[str, Any]) -> Description:
    doc = found.__doc__
    parameters = _parameters(inspect.signature(found).parameters.values(), doc, given)
    requires = str(found.requires)
    return Description("strategy", name, documented(doc)[0], requires, parameters, papers(doc))


def _task(name: str, found: Any, given: Mapping[str, Any]) -> Description:
    from ..tasks.registry import WIDTH

    about = f"{_sentence(found.description)}\nHorizon: {found.unit}."
    parameters = {"width": Parameter(WIDTH, str(found.width))} if hasattr(found, "width") else {}
    return Description("task", name, about, "", parameters, papers(_module_doc(type(found))))


def _data_set(name: str) -> Description:
    from ..tasks.reasoning_gym import ReasoningGymTask, own_settings

    task = ReasoningGymTask.parse(name)
    parameters = {key: Parameter(*said) for key, said in own_settings(task.dataset).items()}
    about = f"The data set {task.dataset} of reasoning-gym, with its own scorer."
    return Description(
        "task", name, about, "", parameters, "https://github.com/open-thought/reasoning-gym"
    )


def _data_file(read: specs.Spec) -> Description:
    from ..tasks.data.task import SETTINGS, DataTask

    task = DataTask.read(str(read))
    about = "\n".join((f"A data set: {len(task.kept):,} problems.", *task.notes))
    parameters = {
        key: Parameter(meaning, str(read.settings.get(key, "")))
        for key, meaning in SETTINGS.items()
    }
    return Description("task", read.name, about, "", parameters)


def _family(name: str, found: Any, given: Mapping[str, Any]) -> Description:
    parameters = {k: Parameter(p.meaning, p.default) for k, p in found.parameters.items()}
    about = f"{_sentence(found.description)}\nAs in {found.example}."
    return Description("family", name, about, "", parameters, found.source)


def _model(name: str, found: str, given: Mapping[str, Any]) -> Description:
    return Description("model", name, _sentence(found))


def _value(name: str, found: Any, given: Mapping[str, Any]) -> Description:
    doc, module = found.__doc__, inspect.getmodule(found)
    parameters = _parameters(inspect.signature(found).parameters.values(), doc, given)
    about = documented(module.__doc__ if module else doc)[0]
    return Description("value", name, about, "", parameters)


def _experiment(name: str, found: Any, given: Mapping[str, Any]) -> Description:
    about = f"{found.claim}\nSettings: {len(found.settings)}, of which --quick takes {len(found.quick)}."
    return Description("experiment", name, about, source=papers(*found.statement) or PAPER)


def _of_object(name: str, found: Any, given: Mapping[str, Any]) -> Description:
    """What a thing of the user's is, by what it looks like."""
    from ..access.learner import LearnerFactory
    from ..training.strategies import Strategy

    if isinstance(found, LearnerFactory):
        return _learner(name, found, given)
    if isinstance(found, type) and issubclass(found, Strategy):
        return _strategy(name, found, given)
    function = getattr(found, "problems", found)
    if not callable(function):
        raise InvalidInput(f"{name!r} is neither learner, strategy, task nor model, but {found!r}")
    known = inspect.signature(function).parameters
    task = {"horizon", "count", "seed"} <= known.keys()
    shown = [p for n, p in known.items() if not (task and n in ("horizon", "count", "seed"))]
    doc = inspect.getdoc(found)
    parameters = _parameters(shown, doc, given)
    return Description(
        "task" if task else "model", name, documented(doc)[0], "", parameters, papers(doc)
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _module_doc(thing: Any) -> str:
    module = inspect.getmodule(thing)
    return f"{module.__doc__ if module else ''} {thing.__doc__}"


def built_in() -> dict[str, Mapping[str, Any]]:
    """Kind → what there is of it, by name."""
    from ..families import FAMILIES
    from ..generators.reward_models import RewardModel
    from ..learners import list_learners
    from ..tasks.registry import PARITY_TASKS, STRING_TASKS
    from ..training.strategies import STRATEGIES
    from .listing import MODELS

    experiments: Mapping[str, Any] = {}
    with suppress(ImportError, MissingDependency):
        from ..experiments import list_experiments

        experiments = list_experiments()
    return {
        "learner": list_learners(),
        "strategy": STRATEGIES,
        "task": {**STRING_TASKS, **PARITY_TASKS},
        "family": FAMILIES,
        "model": {
            name: MODELS[form] for form in MODELS if (name := form.partition(":")[0]).islower()
        },
        "value": {"prm": RewardModel},
        "experiment": experiments,
    }


TELL: dict[str, Callable[..., Description]] = {
    "learner": _learner,
    "strategy": _strategy,
    "task": _task,
    "family": _family,
    "model": _model,
    "value": _value,
    "experiment": _experiment,
}
