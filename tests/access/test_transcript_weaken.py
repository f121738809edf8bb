"""A recorded run with FULL reports holds every weaker transcript of the same run, to the byte."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot import (
    BudgetExceeded,
    InvalidInput,
    Prefix,
    Query,
    Report,
    RunFolderError,
    audit,
)
from reroot.access.coarsen import coarsen
from reroot.access.session import Session
from reroot.access.transcript import coarsened, read_transcript, transcript_text, weaken
from reroot.generators.base import Request
from reroot.generators.stops import Stop
from reroot.generators.tabular import Tabular
from reroot.types import Budget
from toys import Body, play_one, problem, tree

WEAKER = ["sample", "logprob", "topk(1)", "topk(2)", "topk(9)"]


def recorded(body: Body, grants: str, folder: str | Path, **settings: Any) -> Path:
    """The transcript file of one run."""
    attempt = play_one(body, grants, out=folder, transcripts=True, **settings)
    assert attempt.error is None, attempt.error
    (path,) = (Path(folder) / "transcripts").iterdir()
    return path


def rollouts(batches: list[list[int]]) -> Body:
    """Each entry is a message, each number in it a query for that many rollouts."""

    async def roll(session: Session) -> Prefix:
        asked = session.contract.report
        for batch in batches:
            replies = await session.ask([Query(n=n, report=asked) for n in batch])
        return replies[-1].outputs()[-1]

    return roll


batches = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=2), min_size=1, max_size=2)


@pytest.mark.slow(1)
@settings(max_examples=15)
@given(
    st.integers(2, 3),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 10**6),
    batches,
    st.sampled_from(["T=1", "T=0.5", "T=1,top_p=0.8", "T=2,top_k=2"]),
)
def test_every_weaker_transcript_to_the_byte(
    K: int, H: int, ends: bool, seed: int, asked: list[list[int]], law: str
) -> None:
    generator = Tabular.random(K, H, seed=seed, end=(0,) if ends else ())
    where = {"generator": generator, "task": problem(max_tokens=H, demonstration=None)}
    with tempfile.TemporaryDirectory() as folder:
        strong = recorded(rollouts(asked), f"root/full@{law}", f"{folder}/full", **where)
        for report in WEAKER:
            grants = f"root/{report}@{law}"
            weak = recorded(rollouts(asked), grants, f"{folder}/{report}", **where)
            assert transcript_text(weaken(strong, report)).encode() == weak.read_bytes()
        assert transcript_text(weaken(strong, "full")).encode() == strong.read_bytes()


@pytest.mark.slow(1)
@settings(max_examples=10)
@given(st.integers(2, 3), st.integers(1, 4), st.booleans(), st.integers(0, 10**6))
def test_greedy_rollouts_at_temperature_0(K: int, H: int, ends: bool, seed: int) -> None:
    """ROOT/ARGMAX(k) is declared as the law at temperature 0; its canonical run holds it too."""
    generator = Tabular.random(K, H, seed=seed, end=(0,) if ends else ())
    where = {"generator": generator, "task": problem(max_tokens=H, demonstration=None)}
    asked = [[1, 1], [1]]
    with tempfile.TemporaryDirectory() as folder:
        strong = recorded(rollouts(asked), "root/full@T=0", f"{folder}/full", **where)
        for report in ["argmax(1)", "argmax(2)", "sample", "topk(2)"]:
            grants = f"root/{report}@T=0"
            weak = recorded(rollouts(asked), grants, f"{folder}/{report}", **where)
            assert transcript_text(weaken(strong, report)).encode() == weak.read_bytes()
        default = recorded(rollouts(asked), "root/argmax(2)", f"{folder}/default", **where)
        assert transcript_text(weaken(strong, "argmax(2)")).encode() == default.read_bytes()


async def everything(session: Session) -> Prefix:
    """Rollouts with the granted report and with less, at once, a refusal by the budget, oracles."""
    asked = session.contract.report
    one, _ = await asyncio.gather(session.rollouts(2, report=asked), session.rollouts(3))
    with suppress(BudgetExceeded):
        await session.rollouts(99, report=asked)
    await session.verify(session.root)
    await session.text(session.root)
    output = one.outputs()[0]
    await session.reward(output)
    return output


@pytest.mark.parametrize("report", WEAKER)
def test_what_is_not_a_full_report_stays(report: str, tmp_path: Path) -> None:
    limits = {"budget": Budget(rollouts=20)}
    grants = "root/full+reward+verifier"
    strong = recorded(everything, grants, tmp_path / "full", **limits)
    weak = recorded(everything, grants.replace("full", report), tmp_path / "weak", **limits)
    lines = weaken(strong, Report.parse(report))
    assert transcript_text(lines) == weak.read_text()
    assert audit(weak, f"root/{report}+reward+verifier") is None


def test_lines_serve_as_well_as_a_file(tmp_path: Path) -> None:
    strong = recorded(rollouts([[2], [1]]), "root/full", tmp_path)
    lines = [line for _, line in read_transcript(strong)]
    before = json.dumps(lines)
    forgotten = [*lines, {"forget": 1}]  # what an interrupted run leaves
    assert weaken(iter(lines), "sample") == weaken(strong, "sample")
    assert weaken(forgotten, "sample") == [*weaken(strong, "sample"), {"forget": 1}]
    assert json.dumps(lines) == before


@pytest.mark.parametrize(
    ("grants", "report", "message"),
    [
        ("root/topk(2)", "sample", "not root/topk"),
        ("reset/full", "sample", "not reset/full@T=1"),
        ("root/full", "none", "no transcript with none reports"),
        ("root/full", "argmax(1)", "no transcript with argmax"),
        ("root/full@T=0.5", "argmax(2)", "no transcript with argmax"),
        ("root/full@T=0", "argmax(2)", "no counterpart with argmax"),  # asked for two rollouts
    ],
)
def test_what_has_no_weaker_transcript(
    grants: str, report: str, message: str, tmp_path: Path
) -> None:
    path = recorded(rollouts([[2]]), grants, tmp_path)
    with pytest.raises(InvalidInput, match=message):
        weaken(path, report)


def test_reports_in_between_are_refused(tmp_path: Path) -> None:
    async def ask(session: Session) -> None:
        await session.rollouts(1, report=Report.TOPK(2))

    path = recorded(ask, "root/full", tmp_path)
    assert weaken(path, "topk(2)")[1:] == weaken(path, "topk(3)")[1:]
    with pytest.raises(InvalidInput, match=r"topk\(2\)\) has no counterpart with topk\(1\)"):
        weaken(path, "topk(1)")


def test_refusals_that_name_their_report_are_refused(tmp_path: Path) -> None:
    async def attack(session: Session) -> None:
        with suppress(Exception):
            await session.law(Prefix((0,)))

    with pytest.raises(InvalidInput, match="message 0 failed, and why names its report: AccessD"):
        weaken(recorded(attack, "root/full", tmp_path), "sample")


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [],
        lambda lines: lines[1:],
        lambda lines: [lines[0], {**lines[1], "value": [{}]}],
        lambda lines: [lines[0], {k: v for k, v in lines[1].items() if k != "error"}],
        lambda lines: [lines[0], {**lines[1], "value": lines[1]["value"] * 2}],
    ],
)
def test_what_is_no_transcript(damage: Any, tmp_path: Path) -> None:
    path = recorded(rollouts([[2]]), "root/full", tmp_path)
    lines = [line for _, line in read_transcript(path)]
    with pytest.raises(RunFolderError, match="is not a transcript"):
        weaken(damage(lines), "sample")


# ---- one reply -----------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [Report.SAMPLE, Report.LOGPROB, Report.TOPK(2), Report.FULL])
@pytest.mark.parametrize("length", [1, 4])
def test_coarsening_a_reply_is_what_the_gate_does(report: Report, length: int) -> None:
    def ask(what: Report) -> Request:
        return Request((), n=3, length=length, report=what, stop=Stop(frozenset({3})))

    replies = tree().answer([ask(Report.FULL), ask(report)])
    seen = coarsened(replies[0], report)
    known = coarsen(replies[1], Query(n=3, report=report), length, 4)
    for name in ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws"):
        one, other = getattr(seen, name), getattr(known, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert np.array_equal(one, other)
            assert one.strides == other.strides  # one law for all draws of a single token
            assert not one.flags.writeable
            assert not np.shares_memory(one, replies[0].laws)


def test_a_reply_without_laws_cannot_be_coarsened() -> None:
    (reply,) = tree().answer([Request((), length=2, report=Report.TOPK(2))])
    with pytest.raises(InvalidInput, match="carries no laws"):
        coarsened(reply, Report.SAMPLE)
