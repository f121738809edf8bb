"""Transcripts: what is written reads back, and is audited like a live session."""

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

import reroot
from reroot import (
    AccessDenied,
    BackendError,
    Budget,
    Contract,
    Control,
    Oracle,
    Prefix,
    Query,
    Report,
    RunFolderError,
    audit,
)
from reroot.access.sealing import sealed
from reroot.access.session import Ask, AskHiddenStates, Consult, Decode, Demonstrate, Session
from reroot.access.transcript import (
    message_to_json,
    messages,
    replies_from_json,
    same_message,
    value_to_json,
)
from reroot.types import Reply
from toys import (
    END,
    Failing,
    H,
    K,
    one_rollout,
    play,
    play_one,
    problems,
)
from transcripts import EVERYTHING, lines_of, transcript_of

ARRAYS = ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws")


# ---- round trips --------------------------------------------------------------------------------

QUERIES = [
    Query(n=3),
    Query(n=3, report=Report.LOGPROB),
    Query(n=4, length=1, report=Report.FULL),  # one law for all draws
    Query(n=2, length=3, report=Report.FULL),
    Query(n=3, length=2, report=Report.TOPK(2)),
    Query(length=1, report=Report.ARGMAX(9)),
    Query(Prefix((1, 2)), 1, None, Report.FULL, (0, END)),
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_replies_read_back_bit_by_bit(query: Query, tmp_path: Path) -> None:
    told: list[Reply] = []

    async def ask(session: Session) -> None:
        told.extend(await session.ask([query, query]))

    play(ask, "chosen/full@T=1,top_p=0.8", out=tmp_path, transcripts=True)
    (line,) = messages(lines_of(transcript_of(tmp_path))[1:])
    read = replies_from_json(line["value"])
    assert same_message(line["message"], Ask((query, query)))
    for one, other in zip(told, read, strict=True):
        assert one.prefix == other.prefix
        for name in ARRAYS:
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None) == (b is None)
            if a is not None:
                assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if told[0].laws is not None:
        assert np.isneginf(told[0].laws).any()  # cut off by top_p


@pytest.mark.parametrize(
    ("message", "other"),
    [
        (Ask((Query(), Query(n=2))), Ask((Query(), Query(n=3)))),
        (Ask((Query(),)), Ask((Query(report=Report.LOGPROB),))),
        (Ask((Query(length=2),)), Ask((Query(),))),
        (Ask((Query(Prefix((1,))),)), Ask((Query(),))),
        (Ask((Query(forced=(1,)),)), Ask((Query(),))),
        (Consult(Oracle.REWARD, (Prefix((1,)),)), Consult(Oracle.VERIFIER, (Prefix((1,)),))),
        (Consult(Oracle.REWARD, ()), Consult(Oracle.REWARD, (Prefix(),))),
        (Demonstrate(None), Demonstrate(0)),
        (Consult(Oracle.REWARD, ()), Consult(Oracle.VALUE, ())),
        (AskHiddenStates((Prefix(),), 1), AskHiddenStates((Prefix(),), 2)),
        (AskHiddenStates((Prefix((1,)),), 1), AskHiddenStates((Prefix((1,)),), None)),
        (
            AskHiddenStates((Prefix((1,)),), None),
            AskHiddenStates((Prefix((1,)), Prefix((1,))), None),
        ),
        (Decode(Prefix((1,))), Decode(Prefix())),
    ],
)
def test_messages_are_told_apart(message: Any, other: Any) -> None:
    recorded = json.loads(json.dumps(message_to_json(message)))
    assert same_message(recorded, message)
    assert not same_message(recorded, other)


@pytest.mark.parametrize("value", ["text", 1.5, [0.1, 1.0], [True, False], Prefix((1, 2)), []])
def test_values_of_oracles_are_json(value: object) -> None:
    read = json.loads(json.dumps(value_to_json(value)))
    assert read == (list(value.tokens) if isinstance(value, Prefix) else value)


def test_a_transcript_tells_the_whole_attempt(tmp_path: Path) -> None:
    """In the order of sending, with refusals, and with the values of oracles."""

    async def try_all(session: Session) -> Prefix:
        oracle, reply = await asyncio.gather(session.verify(session.root), session.rollouts(1))
        for attack in (session.law(session.root), session.rollouts(99)):
            with suppress(reroot.RerootError):
                await attack
        await session.text(session.root)
        return reply.outputs()[0] if oracle else Prefix()

    attempt = play_one(
        *(try_all, "root/sample+verifier"),
        out=tmp_path,
        transcripts=True,
        budget=Budget(tokens=20),
    )
    head, *rest = lines_of(transcript_of(tmp_path))
    assert head == {
        "key": "p",
        "learner": "toy",
        "contract": "root/sample+verifier@T=1",
        "horizon": H,
        "budget": {"tokens": 20},
        "seed": 0,
    }
    told = messages(rest)
    assert [line["i"] for line in told] == [0, 1, 2, 3, 4]
    assert [next(iter(line["message"])) for line in told] == [
        *("verifier", "ask", "ask", "ask", "text")
    ]
    errors = [line["error"] and line["error"]["kind"] for line in told]
    assert errors == [None, None, "AccessDenied", "BudgetExceeded", None]
    assert told[0]["value"] == [True]
    assert tuple(told[1]["value"][0]["tokens"][0]) == (attempt.output or Prefix()).tokens


def test_transcripts_are_kept_only_if_wanted(tmp_path: Path) -> None:
    play(one_rollout, task=problems(3), out=tmp_path / "with", transcripts=True)
    play(one_rollout, task=problems(3), out=tmp_path / "without")
    assert len(list((tmp_path / "with" / "transcripts").iterdir())) == 3
    assert not (tmp_path / "without" / "transcripts").exists()
    assert not list((tmp_path / "with" / "inflight").iterdir())
    assert not list((tmp_path / "without" / "inflight").iterdir())


# ---- audits -------------------------------------------------------------------------------------


async def mixed(session: Session) -> Prefix:
    """Rollouts, a draw, a steered draw, a law, a score, and every oracle."""
    output = await one_rollout(session)  # message 0
    drawn = int((await session.draws((), 1)).tokens[0, 0])  # 1
    other = next(a for a in range(K - 1) if a not in (drawn, output[0]))
    await session.draws((other,), 2)  # 2: appended, not emitted
    await session.law((other,))  # 3
    await session.score((), (other, other))  # 4
    await session.reward(output)  # 5
    await session.verify(output)  # 6
    await session.demonstration(1)  # 7
    await session.draws((other, other, other, 1), 1)  # 8
    return output


@pytest.mark.parametrize(
    ("contract", "refused", "weakest"),
    [
        (EVERYTHING, None, ""),
        (
            "root/full+reward+verifier+demonstration",
            "message 1: Query(1 x length 1",
            "visited/sample or episode/sample",
        ),
        ("visited/full+reward+verifier+demonstration", "message 2: Query(2 x", "reset/sample"),
        ("reset/full+reward+verifier+demonstration", "message 8: Query(1 x", "chosen/sample"),
        ("chosen/sample+reward+verifier+demonstration", "message 3: Query(1 x", "reset/full"),
        ("chosen/topk(4)+reward+verifier+demonstration", "message 3: Query(1 x", "reset/full"),
        ("chosen/full+verifier+demonstration", "message 5: reward", "root/none+reward"),
        ("chosen/full+reward+demonstration", "message 6: verifier", "root/none+verifier"),
        ("chosen/full+reward+verifier", "message 7: demonstration", "root/none+demonstration"),
        ("chosen/argmax(1)", "message 0: Query(1 x to the end", "root/sample"),
        ("chosen/full@T=0.5", "the whole transcript", EVERYTHING + "@T=1"),
    ],
)
def test_audits_name_the_first_refused_message(
    contract: str, refused: str | None, weakest: str, tmp_path: Path
) -> None:
    assert play_one(mixed, EVERYTHING, out=tmp_path, transcripts=True).error is None
    refusal = audit(transcript_of(tmp_path), contract)
    assert audit(str(transcript_of(tmp_path)), Contract.parse(contract)) is None or refusal
    if refused is None:
        assert refusal is None
        return
    assert isinstance(refusal, AccessDenied)
    assert refusal.query.startswith(refused)
    assert refusal.weakest == weakest


tokens = st.integers(0, K - 2)
scripts = st.lists(
    st.builds(
        Query,
        st.lists(tokens, max_size=2).map(lambda t: Prefix(tuple(t))),
        st.just(1),
        st.none() | st.integers(1, 2),
        st.sampled_from([Report.SAMPLE, Report.SAMPLE, Report.ARGMAX(1), Report.FULL]),
        st.none() | st.none() | st.lists(tokens, min_size=1, max_size=2).map(tuple),
    ).map(lambda q: q if q.forced is None else Query(q.prefix, 1, None, Report.LOGPROB, q.forced)),
    min_size=1,
    max_size=6,
)
LEVELS = [f"{c}/{r}" for c in Control for r in ("sample", "topk(1)", "full")]


@pytest.mark.slow(1)
@settings(max_examples=40)
@given(scripts, st.sampled_from(LEVELS), st.sampled_from(["T=1", "T=0"]))
def test_an_audit_says_what_a_live_session_would(script: list[Query], level: str, law: str) -> None:
    """The transcript under the strongest contract, audited; and the same script played live."""

    async def recite(session: Session) -> None:
        for query in script:
            await session.ask([query])

    with tempfile.TemporaryDirectory() as folder:
        recorded = play_one(recite, f"chosen/full@{law}", out=folder, transcripts=True)
        assert recorded.error is None
        refusal = audit(transcript_of(Path(folder)), f"{level}@{law}")
        assert audit(transcript_of(Path(folder)), f"chosen/full@{law}") is None
    live = play_one(recite, f"{level}@{law}").error
    if refusal is None:
        assert live is None
    else:
        number, _, query = refusal.query.partition(": ")
        assert query == str(script[int(number.removeprefix("message "))])
        said = (
            f"AccessDenied: refused {query}: {refusal.rule}. The weakest contract that allows it: "
        )
        assert str(live) == f"{said}{refusal.weakest}."


def test_an_audit_leaves_out_what_was_refused_and_what_failed(tmp_path: Path) -> None:
    """A question whose generator failed built nothing: its children may not be asked."""
    generator = Failing(lambda q: q.prefix == (1,), ValueError("down"))

    async def stumble(session: Session) -> None:
        with pytest.raises(AccessDenied):
            await session.draws((1, 2), 1)
        await session.draws((), 1)
        with pytest.raises(BackendError):
            await session.draws((1,), 1)
        with pytest.raises(AccessDenied):
            await session.draws((1, 2), 1)
        await session.draws((2,), 1)

    attempt = play_one(
        *(stumble, "reset/sample"), generator=generator, out=tmp_path, transcripts=True
    )
    assert attempt.error is None
    assert audit(transcript_of(tmp_path), "reset/sample") is None
    refusal = audit(transcript_of(tmp_path), "visited/sample")
    assert refusal is not None
    assert refusal.query.startswith("message 2")


HEAD = {"horizon": 5, "contract": "root/sample"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read"),
        (b"", "does not start with the head line of a transcript"),
        (sealed({"i": 0}), "does not start with the head line"),
        (b"{}", "does not start with the head line"),  # no newline: cut off
        (b"[1]\n", "line 1: not a transcript line"),
        (b"\xff\n", "line 1: not a transcript line"),
        (sealed(HEAD) + b'{"i":\n', "line 2: not a transcript line"),
        (sealed(HEAD) + b'{"i": 0}\n', "line 2: not a transcript line: it has no checksum"),
        (sealed({"horizon": 5}), "is not a transcript: KeyError: 'contract'"),
        (sealed({**HEAD, "contract": "rot/sample"}), "unknown control level 'rot'"),
        (sealed(HEAD) + sealed({"i": 0}), "KeyError: 'after'"),
        (sealed(HEAD) + sealed({"i": []}), "is not a transcript: TypeError"),
    ],
)
def test_what_is_no_transcript(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunFolderError) as error:
        audit(path, "root/sample")
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    play(mixed, EVERYTHING, out=tmp_path, transcripts=True)
    path = transcript_of(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    assert len(lines_of(path)) == data.count(b"\n") - 1
    assert audit(path, EVERYTHING) is None
