"""Environments of verifiers up to 0.3: ``load_environment``, rows of a data set, a rubric.

The reward is the rubric's weighted sum; a function of it that raises counts 0, as there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...types import Output
from .rows import Judged, messages_of, package

_SPLITS = ("eval", "train")


@dataclass(frozen=True, slots=True)
class RubricRows:
    """The rows of a single-turn environment.

    Attributes:
        environment: what ``load_environment`` gave.
        rows: each with a ``prompt``, and what the rubric's functions ask for.
    """

    environment: Any
    rows: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def judged(self, index: int) -> Judged:
        """Row ``index``.

        Raises:
            InvalidInput: it brings tools, or its prompt is neither text nor messages of text.
        """
        row = dict(self.rows[index])
        if isinstance(row.get("info"), str):  # JSON, as data sets hold it
            try:
                row["info"] = json.loads(row["info"])
            except ValueError as error:
                raise InvalidInput(f"info is no JSON: {error}") from None
        info, answer, prompt = row.get("info"), row.get("answer"), row.get("prompt")
        if isinstance(info, Mapping) and (info.get("tool_defs") or info.get("oai_tools")):
            raise InvalidInput("it brings tools, which an output cannot call")
        text = answer if isinstance(answer, str) else ""
        asked = prompt if isinstance(prompt, str) else messages_of(prompt or ())
        return Judged(asked, text, RubricReward(self.environment, row))


@dataclass(frozen=True, slots=True, eq=False)
class RubricReward:
    """Outcome reward by an environment's rubric.

    Attributes:
        environment: whose rubric.
        row: prompt, answer, info and what else the rubric's functions ask for.
    """

    environment: Any = field(repr=False)
    row: Mapping[str, Any]

    async def __call__(self, output: Output) -> float:
        if not output.complete:
            return 0.0
        state = self._state(output.text)
        await self.environment.rubric.score_rollout(state)
        return float(state["reward"])

    def _state(self, text: str) -> Any:
        """What a rollout of one turn leaves behind, as rubrics see it."""
        row = copy.deepcopy(dict(self.row))  # functions may write into it
        reply = [{"role": "assistant", "content": text}]
        return package().State(
            input=row,
            task=row,
            completion=text if isinstance(row["prompt"], str) else reply,
            trajectory=[{"prompt": row["prompt"], "completion": reply}],
            is_completed=True,
            is_truncated=False,
            stop_condition="max_turns_reached",
            reward=None,
            metrics=None,
            error=None,
        )


def load(name: str, settings: Mapping[str, Any], take: int | None) -> RubricRows:
    """The environment, if outputs of one turn can be judged in it.

    Raises:
        InvalidInput: it is not single-turn, has tools, or judges groups; or another split than ``eval``
            and ``train`` is asked for.
    """
    verifiers, given = package(), dict(settings)
    split = given.pop("split", "eval")
    if split not in _SPLITS:
        raise InvalidInput(f"split must be eval or train, got {split!r}")
    environment = verifiers.load_environment(name, **given)
    if not isinstance(environment, verifiers.SingleTurnEnv):
        kind = type(environment).__name__
        raise InvalidInput(f"{name!r} is a {kind}; tasks are single-turn environments alone")
    if getattr(environment, "tool_defs", None) or getattr(environment, "oai_tools", None):
        raise InvalidInput(f"{name!r} has tools, which an output cannot call")
    if getattr(environment.rubric, "has_group_rewards", False):
        raise InvalidInput(f"the rubric of {name!r} judges outputs in groups, not one by one")
    get = environment.get_eval_dataset if split == "eval" else environment.get_dataset
    return RubricRows(environment, get() if take is None else get(n=take))
