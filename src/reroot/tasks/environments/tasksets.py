"""Tasksets of verifiers from 0.4 on: tasks that judge the trace of a rollout themselves.

Each is put to a generator as by verifiers' own ``null`` harness: a chat, and one reply. The reward is the
weighted sum of the task's ``@reward`` methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...errors import InvalidInput
from ...types import Chat, Output
from .rows import Judged, messages_of, package


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a taskset, of one reply each."""

    tasks: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    def judged(self, index: int) -> Judged:
        """Task ``index``.

        Raises:
            InvalidInput: it needs a container, tools or preparation, has no prompt or no reward, or a
                prompt that is not text.
        """
        task = self.tasks[index]
        data, answer = task.data, getattr(task.data, "answer", "")
        if reason := _refusal(task):
            raise InvalidInput(reason)
        prompt = data.prompt
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [*prompt]
        if data.system_prompt is not None:
            asked = [{"role": "system", "content": data.system_prompt}, *asked]
        chat = messages_of(asked)
        row = data.model_dump(mode="json", exclude_none=True)
        return Judged(chat, answer if isinstance(answer, str) else "", TaskReward(task, chat, row))


@dataclass(frozen=True, slots=True, eq=False)
class TaskReward:
    """Outcome reward by a task of verifiers.

    Attributes:
        task: the task.
        chat: its prompt.
        row: its data, as JSON.
    """

    task: Any = field(repr=False)
    chat: Chat
    row: Mapping[str, Any]

    async def __call__(self, output: Output) -> float:
        if not output.complete:
            return 0.0
        trace = self._trace(output.text)
        await self.task.score(trace)
        return float(trace.reward)

    def _trace(self, text: str) -> Any:
        """What a rollout of one reply leaves behind, as rewards see it."""
        vf, task = package("verifiers.v1"), self.task
        classes = {"system": vf.SystemMessage, "user": vf.UserMessage}
        messages = [
            classes.get(role, vf.AssistantMessage)(content=content)
            for role, content in self.chat.messages
        ]
        nodes = [
            vf.MessageNode(parent=i - 1 if i else None, message=message)
            for i, message in enumerate(messages)
        ]
        reply = vf.AssistantMessage(content=text)
        nodes.append(vf.MessageNode(parent=len(nodes) - 1, message=reply, sampled=True))
        return vf.Trace(
            task=vf.TraceTask(
                type=type(task).__name__, data=task.data, key=task.key, hash=task.hash
            ),
            state=package("verifiers.v1.state").state_cls(type(task))(),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            nodes=nodes,
            is_completed=True,
            ok=True,
        )


def load(name: str, settings: Mapping[str, Any], take: int | None) -> Tasks:
    """The tasks of a taskset that a plain agent plays.

    Raises:
        InvalidInput: it has an environment or tools of its own, or no end and ``take`` is not given.
    """
    vf = package("verifiers.v1")
    kind = vf.environment_class(name)
    if kind is not vf.SingleAgentEnv:
        raise InvalidInput(
            f"{name!r} is played in a {kind.__name__}; tasks are played by one plain agent"
        )
    config = vf.taskset_config_type(name)(id=name, **settings)
    taskset = vf.load_taskset(config)
    if taskset.toolsets(config):
        raise InvalidInput(f"{name!r} has tools, which an output cannot call")
    if take is None and not taskset.bounded:
        raise InvalidInput(f"{name!r} has no end: say how many tasks to take, as in take=500")
    return Tasks(tuple(islice(taskset, take)))


def _refusal(task: Any) -> str | None:
    """Why one reply is not all that there is to a task, if it is not."""
    vf, kind = package("verifiers.v1"), type(task)
    if kind.NEEDS_CONTAINER or task.data.image is not None:
        return "it needs a container"
    if kind.toolsets(task.config):
        return "it has tools, which an output cannot call"
    if any(getattr(kind, hook) is not getattr(vf.Task, hook) for hook in ("setup", "finalize")):
        return f"a {kind.__name__} prepares or reads the runtime of its agent"
    if task.data.prompt is None:
        return "it has no prompt: a user opens the conversation"
    rewards = task.hooks("reward")
    if not rewards and not task.config.judges:
        return f"a {kind.__name__} has no reward"
    for reward in rewards:
        asked = inspect.signature(reward).parameters.get("runtime")
        if asked is not None and asked.default is inspect.Parameter.empty:
            return f"its reward {reward.__name__!r} reads the runtime of its agent"
    return None
