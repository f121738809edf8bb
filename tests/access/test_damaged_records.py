"""Records that somebody changed: one clear line, never another result."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reroot import AccessDenied, BackendError, Prefix, audit
from reroot.access.runner import execute
from reroot.access.session import Session
from reroot.access.transcript import transcript_text
from reroot.errors import RerootError, RunFolderError
from toys import Failing, jobs_for, layered, play_one, problem, tree

EVERYTHING = "chosen/full+reward+verifier+demonstration+value+hidden"


async def varied(session: Session) -> Prefix:
    reply = await session.rollouts(2)
    output = reply.outputs()[0]
    await session.score(Prefix(), output.tokens)
    await session.law(output[:1])
    await session.verify_all([output, output[:1]])
    await session.rewards([output])
    await session.demonstration(1)
    await session.layer_laws(output[:1], 2)
    await session.features([output])
    await session.text(output)
    with suppress(RerootError):
        await session.draws(Prefix((9,)), 1)
    return output


class Memory:
    """The lines of one attempt."""

    def __init__(self, lines: list[Any] | None = None) -> None:
        self.lines: list[Any] = lines or []
        self.found = len(self.lines)

    def recorded(self, key: str) -> list[Any]:
        return copy.deepcopy(self.lines[: self.found])

    def append(self, key: str, line: dict[str, Any]) -> None:
        self.lines.append(json.loads(json.dumps(line)))

    def finish(self, key: str) -> None: ...


def attempt_with(log: Memory, body: Any = varied) -> Any:
    generator, done = layered(), list[Any]()
    execute(
        jobs_for(body, [problem()], generator, EVERYTHING),
        generator,
        concurrency=1,
        on_attempt=done.append,
        log=log,
    )
    return done[0]


@pytest.fixture(scope="module")
def whole() -> tuple[list[Any], Any]:
    log = Memory()
    attempt = attempt_with(log)
    assert attempt.error is None
    return log.lines, attempt


NASTY: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        2**70,
        -(2**70),
        1.5,
        float("nan"),
        "",
        "x",
        "\ud800",
        [],
        [[]],
        {},
        {"a": 1},
    ),
    *([2**70], [-1], [None], [["x"]], {"shape": [2**40], "f8": "AAAA"}, {"shape": [-1], "f8": ""}),
)


def edits(lines: list[Any], rng: random.Random) -> list[Any]:
    """The lines with one value, anywhere, replaced, deleted or doubled."""
    lines = copy.deepcopy(lines)
    spots: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            spots.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    for line in lines:
        walk(line)
    holder, key = rng.choice(spots)
    what = rng.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.25:
        lines.append(copy.deepcopy(rng.choice(lines[1:])))
    else:
        holder[key] = rng.choice(NASTY)
    return lines


@pytest.mark.slow(1)
@pytest.mark.parametrize("seed", range(4))
def test_edits_of_what_is_resumed(seed: int, whole: tuple[list[Any], Any]) -> None:
    """With the checksums made right again: refused, or the learner hears what it may hear."""
    rng = random.Random(seed)
    refused = 0
    for _ in range(100):
        try:
            attempt = attempt_with(Memory(edits(whole[0], rng)))
        except RunFolderError as error:
            refused += "damaged" in str(error)
        else:
            assert attempt.output is not None or attempt.error is not None
    assert refused > 30


@pytest.mark.parametrize(
    "verdicts", [[99.0, 0.0], ["yes", True], None, [True], [True] * 3, [1, 0], [float("nan")] * 2]
)
def test_forged_verdicts(verdicts: Any, whole: tuple[list[Any], Any]) -> None:
    lines = copy.deepcopy(whole[0])
    (line,) = [line for line in lines[1:] if "verifier" in line["message"]]
    line["value"] = verdicts
    with pytest.raises(RunFolderError, match="damaged"):
        attempt_with(Memory(lines))


def audit_of(lines: list[Any], contract: str, path: Path) -> AccessDenied | None:
    """The lines written down, with right checksums, and audited."""
    path.write_bytes(transcript_text(lines).encode("utf-8", "backslashreplace"))
    return audit(path, contract)


@pytest.mark.slow(1)
@pytest.mark.parametrize("seed", range(4))
def test_edits_of_what_is_audited(seed: int, whole: tuple[list[Any], Any], tmp_path: Path) -> None:
    """One clear line, or an answer: never another error."""
    rng, path, refused = random.Random(100 + seed), tmp_path / "t.jsonl", 0
    assert audit_of(whole[0], EVERYTHING, path) is None
    assert isinstance(audit_of(whole[0], "root/sample", path), AccessDenied)
    for _ in range(150):
        lines = edits(whole[0], rng)
        for contract in ("root/sample", "reset/full+hidden"):
            try:
                audit_of(lines, contract, path)
            except RunFolderError as error:
                refused += "\n" not in str(error)
    assert refused > 100


def test_a_second_line_does_not_hide_the_first(
    whole: tuple[list[Any], Any], tmp_path: Path
) -> None:
    law = next(x for x in whole[0][1:] if x["message"].get("ask", [{}])[0].get("report") == "full")
    lines = [*whole[0], {**law, "message": {"text": []}, "value": ""}]
    with pytest.raises(RunFolderError, match=f"message {law['i']} is there twice"):
        audit_of(lines, "root/sample+verifier+reward+demonstration+hidden", tmp_path / "t")


def recorded(body: Any, generator: Any) -> list[Any]:
    log = Memory()
    execute(
        jobs_for(body, [problem()], generator, "chosen/sample"),
        generator,
        concurrency=1,
        on_attempt=lambda a: None,
        log=log,
    )
    return log.lines


@pytest.mark.parametrize("together", [True, False])
def test_audits_know_what_was_under_way(together: bool, tmp_path: Path) -> None:
    """A child asked in one breath with its parent was permitted, even if the parent's question then
    failed; asked after the failure it is not. Live and audited."""

    async def body(session: Session) -> None:
        verbs: list[Callable[[], Any]] = [
            lambda p=p: session.draws(p, 1) for p in (Prefix(), Prefix((1,)))
        ]
        if together:
            await asyncio.gather(*(v() for v in verbs), return_exceptions=True)
        else:
            with pytest.raises(BackendError):
                await verbs[0]()
            await verbs[1]()

    def failing() -> Failing:
        return Failing(lambda q: q.prefix == (), ValueError("down"))

    lines = recorded(body, failing())
    live = play_one(body, "reset/sample", generator=failing())
    refused = audit_of(lines, "reset/sample", tmp_path / "t")
    assert (live.error is None) == (refused is None) == together


def test_three_failures_open_no_prefix_of_three() -> None:
    """Under reset control, where each may ask a child of what was asked before."""
    generator = Failing(lambda q: len(q.prefix) < 3, ValueError("down"))

    async def climb(session: Session) -> None:
        for depth in range(3):
            with pytest.raises(BackendError):
                await session.draws(Prefix((1,) * depth), 1)
        await session.draws(Prefix((1, 1, 1)), 1)

    attempt = play_one(climb, "reset/sample", generator=generator)
    assert attempt.error is not None
    assert attempt.error.kind == "AccessDenied"
    assert attempt.cost.queries == 0
    assert tree().vocab_size  # the wrapped tree itself is in order
