"""Transcripts: what is written reads back, is audited like a live session, and resumes a run."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
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
    OracleError,
    Prefix,
    Query,
    Report,
    RunFolderError,
    audit,
)
from reroot.access.runner import Attempt
from reroot.access.session import Ask, AskHiddenStates, Consult, Decode, Demonstrate, Session
from reroot.access.transcript import (
    message_to_json,
    messages,
    read_transcript,
    replies_from_json,
    same_message,
    value_to_json,
)
from reroot.generators.base import Request
from reroot.types import Reply
from toys import (
    END,
    Failing,
    H,
    K,
    Wrapped,
    as_learner,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    search,
    tree,
    zeros,
)

EVERYTHING = "chosen/full+reward+verifier+demonstration"
ARRAYS = ("tokens", "lengths", "logprobs", "top_tokens", "top_logprobs", "laws")


def transcript_of(folder: Path) -> Path:
    (path,) = (folder / "transcripts").iterdir()
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_transcript(path)]


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
    errors = [line["error"] and line["error"].partition(":")[0] for line in told]
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
            "visited/sample",
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
        assert str(
            live
        ) == f"AccessDenied: refused {query}: {refusal.rule}. The weakest contract that " + (
            f"allows it: {refusal.weakest}."
        )


def test_an_audit_leaves_out_what_was_refused_and_counts_what_failed(tmp_path: Path) -> None:
    """A question whose generator failed was asked: its children may be asked, live and audited."""
    generator = Failing(lambda q: q.prefix == (1,), ValueError("down"))

    async def stumble(session: Session) -> None:
        with pytest.raises(AccessDenied):
            await session.draws((1, 2), 1)
        await session.draws((), 1)
        with pytest.raises(BackendError):
            await session.draws((1,), 1)
        await session.draws((1, 2), 1)

    attempt = play_one(
        *(stumble, "reset/sample"), generator=generator, out=tmp_path, transcripts=True
    )
    assert attempt.error is None
    assert audit(transcript_of(tmp_path), "reset/sample") is None
    refusal = audit(transcript_of(tmp_path), "visited/sample")
    assert refusal is not None
    assert refusal.query.startswith("message 2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read the transcript"),
        (b"", "does not start with the head line of a transcript"),
        (b'{"i": 0}\n', "does not start with the head line"),
        (b"{}", "does not start with the head line"),  # no newline: cut off
        (b"[1]\n", "line 1: not a transcript line"),
        (b"\xff\n", "line 1: not a transcript line"),
        (b'{"horizon": 5, "contract": "root/sample"}\n{"i":\n', "line 2: not a transcript line"),
        (b'{"horizon": 5}\n', "is not a transcript: KeyError: 'contract'"),
        (b'{"horizon": 5, "contract": "rot/sample"}\n', "unknown control level 'rot'"),
        (b'{"horizon": 5, "contract": "root/sample"}\n{"i": 0}\n', "KeyError: 'error'"),
        (
            b'{"horizon": 5, "contract": "root/sample"}\n{"i": []}\n',
            "is not a transcript: TypeError",
        ),
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


# ---- resuming -----------------------------------------------------------------------------------

TASKS = [problem(f"p{i}", reward=zeros) for i in range(6)]


class Machine(Wrapped):
    """Counts what it draws, and is pulled from the wall at a chosen call."""

    def __init__(self) -> None:
        super().__init__()
        self.die_at: int | None = None

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if self.calls == self.die_at:
            raise KeyboardInterrupt
        return super().answer(requests)

    def drawn(self) -> Counter[Request]:
        """What sessions asked; scoring the outputs is the runner's own question."""
        return Counter(r for r in self.requests if r.forced is None)


class Lab:
    """A run of ``search`` that can be interrupted and resumed, and what it really asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Machine()
        self.verified = Counter[str]()
        self.verify_dies_at: int | None = None

    def run(self, concurrency: int = 4, **changes: Any) -> list[Attempt]:
        tasks = [
            problem(p.id, reward=zeros, verifier=lambda o, id=p.id: self._verify(o, id))
            for p in TASKS
        ]
        return play(
            changes.pop("body", search),
            *("reset/sample+reward+verifier",),
            task=tasks,
            generator=self.machine,
            budget=Budget(tokens=500),
            out=self.folder,
            concurrency=concurrency,
            transcripts=True,
            **changes,
        )

    def _verify(self, output: Any, id: str) -> bool:
        if self.verify_dies_at == self.verified.total():
            raise KeyboardInterrupt
        self.verified[id] += 1
        return 0 not in output.tokens

    def tables(self) -> bytes:
        return (self.folder / "results.parquet").read_bytes()

    def transcripts(self) -> dict[str, list[Any]]:
        """Key → messages in order."""
        read = [lines_of(path) for path in (self.folder / "transcripts").iterdir()]
        return {head["key"]: messages(rest) for head, *rest in read}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, list[Attempt]]:
    """The run that nobody interrupts."""
    lab = Lab(tmp_path_factory.mktemp("whole"))
    return lab, lab.run()


def is_the_same(lab: Lab, attempts: list[Attempt], whole: tuple[Lab, list[Attempt]]) -> None:
    """Equal attempts, tables and transcripts, and no question was put twice."""
    reference, expected = whole
    assert attempts == expected
    assert lab.tables() == reference.tables()
    assert lab.machine.drawn() == reference.machine.drawn()
    assert lab.verified == reference.verified
    assert lab.transcripts() == reference.transcripts()
    assert not list((lab.folder / "inflight").iterdir())


@pytest.mark.parametrize("die_at", [0, 1, 2, 3, 5, 8])
def test_resuming_after_the_generator_was_killed(
    die_at: int, tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    lab = Lab(tmp_path)
    lab.machine.die_at = die_at
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert (tmp_path / "results.parquet").exists()  # what is there can be read
    lab.machine.die_at = None
    is_the_same(lab, lab.run(concurrency=2), whole)
    calls = lab.machine.calls
    assert lab.run() == whole[1]
    assert lab.machine.calls == calls  # a finished run asks nothing


@pytest.mark.parametrize("die_at", [0, 1, 4, 9])
def test_resuming_after_an_oracle_was_killed(
    die_at: int, tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    lab = Lab(tmp_path)
    lab.verify_dies_at = die_at
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    lab.verify_dies_at = None
    is_the_same(lab, lab.run(), whole)


@pytest.mark.parametrize("last", [0, 2, 5])
def test_resuming_after_an_attempt_was_recorded(
    last: int, tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    """Between the journal and the end of its message log: the transcript is not lost."""
    lab, told = Lab(tmp_path), list[Attempt]()

    def stop(attempt: Attempt) -> None:
        told.append(attempt)
        if len(told) == last + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.run(on_attempt=stop)
    told.clear()
    attempts = lab.run(on_attempt=told.append)
    assert len(told) == 5 - last  # what was recorded is not told again
    is_the_same(lab, attempts, whole)


def test_resuming_again_and_again(tmp_path: Path, whole: tuple[Lab, list[Attempt]]) -> None:
    """Every single call of the generator is followed by a kill."""
    lab = Lab(tmp_path)
    for kills in range(200):
        lab.machine.die_at = lab.machine.calls + 1
        try:
            attempts = lab.run(concurrency=3)
        except KeyboardInterrupt:
            continue
        assert kills > 5
        is_the_same(lab, attempts, whole)
        return
    pytest.fail("the run makes no progress")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b'{"i": 9, "mess',
        lambda data: data + '{"x": "é'.encode()[:-1],
        lambda data: data + b"\0" * 100,
        lambda data: data + b"\0\n",
        lambda data: b"",
        lambda data: b"rubbish\n",
        lambda data: data.split(b"\n")[0] + b"\n",
        lambda data: b'{"key": "another"}\n' + data,
    ],
)
def test_resuming_with_a_damaged_log(
    damage: Callable[[bytes], bytes], tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    """What a log still says is used, the rest is asked again; the results are the same."""
    lab = Lab(tmp_path)
    lab.machine.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    logs = list((tmp_path / "inflight").iterdir())
    assert logs
    for log in logs:
        log.write_bytes(damage(log.read_bytes()))
    lab.machine.die_at = None
    attempts = lab.run()
    assert attempts == whole[1]
    assert lab.tables() == whole[0].tables()
    assert lab.transcripts() == whole[0].transcripts()


def test_a_record_that_makes_no_sense_is_asked_again(
    tmp_path: Path, whole: tuple[Lab, list[Attempt]]
) -> None:
    lab = Lab(tmp_path)
    lab.machine.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    for log in (tmp_path / "inflight").iterdir():
        lines = lines_of(log)
        for line in lines[1:]:
            if "ask" in line["message"]:
                line["value"][0]["tokens"] = [[99]]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    lab.machine.die_at = None
    assert lab.run() == whole[1]


class Moody(Wrapped):
    """Cannot answer questions of two tokens, and is killed by questions of two draws, until well."""

    well = False

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if not self.well and any(r.n == 2 for r in requests):
            raise KeyboardInterrupt
        if not self.well and any(r.length == 2 for r in requests):
            raise ValueError("down")
        return super().answer(requests)


def test_recorded_failures_are_failures_again(tmp_path: Path) -> None:
    """The learner went on after them: a resumed attempt goes the same way, at the same price."""
    generator, judged = Moody(), list[object]()

    def broken(output: object) -> float:
        judged.append(output)
        raise RuntimeError("judge is out")

    async def stumble(session: Session) -> Prefix:
        with pytest.raises(BackendError, match="the generator failed: ValueError: down"):
            await session.continuations((), 1, length=2)
        with pytest.raises(OracleError, match="judge is out"):
            await session.reward(Prefix((END,)))
        with pytest.raises(reroot.BudgetExceeded):
            await session.rollouts(1000)
        with pytest.raises(AccessDenied):
            await session.law(())
        with pytest.raises(reroot.InvalidInput):
            await session.draws((9,), 1)
        output = await one_rollout(session)
        await session.draws((), 2)
        return output

    def run() -> Attempt:
        return play_one(
            *(stumble, "reset/sample+reward"),
            generator=generator,
            task=problem(reward=broken),
            budget=Budget(tokens=100),
            out=tmp_path,
            transcripts=True,
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    assert (len(generator.requests), len(judged)) == (1, 1)
    generator.well = True
    attempt = run()
    assert [r.n for r in generator.requests if r.forced is None] == [1, 2]  # both asked once
    assert len(judged) == 2  # once by the learner, once at the end
    assert "judge is out" in str(attempt.error)
    assert (attempt.cost.rewards, attempt.cost.rollouts, attempt.cost.queries) == (1, 1, 2)
    told = lines_of(transcript_of(tmp_path))
    assert [line["i"] for line in told[1:]] == list(range(7))  # each once


def test_a_learner_that_goes_another_way(tmp_path: Path) -> None:
    """What does not fit any more is forgotten, in the file too, so that it is never taken up."""
    machine, ways = Machine(), ["left", "right", "left"]

    def run(way: str, die_at: int | None) -> Attempt:
        async def fork(session: Session) -> Prefix:
            await session.draws((), 1)
            if way == "right":
                await session.draws((), 5)
            await session.draws((), 2)
            await session.draws((), 3)
            return await one_rollout(session)

        machine.die_at = die_at
        return play_one(fork, "reset/sample", generator=machine, out=tmp_path, transcripts=True)

    with pytest.raises(KeyboardInterrupt):
        run(ways[0], 3)  # 1, 2, 3 draws are recorded
    with pytest.raises(KeyboardInterrupt):
        run(ways[1], machine.calls + 2)  # takes up 1, then asks 5 and 2 anew
    attempt = run(ways[2], None)  # takes up 1, then asks 2 and 3 anew
    assert [r.n for r in machine.requests if r.forced is None] == [1, 2, 3, 5, 2, 2, 3, 1]
    assert attempt.cost.queries == 6
    told = messages(lines_of(transcript_of(tmp_path))[1:])
    assert [line["message"]["ask"][0]["n"] for line in told] == [1, 2, 3, 1]
    assert audit(transcript_of(tmp_path), "reset/sample") is None
    reference = play_one(lambda s: _left(s), "reset/sample", out=tmp_path / "x", task=problem())
    assert attempt == reference


async def _left(session: Session) -> Prefix:
    for n in (1, 2, 3):
        await session.draws((), n)
    return await one_rollout(session)


def test_learners_with_the_same_label_are_one_configuration(tmp_path: Path) -> None:
    bound = as_learner(one_rollout)
    first = reroot.run(bound, TASKS, tree(), grants="root/sample", out=tmp_path)
    again = reroot.run(bound, TASKS, tree(), grants="root/sample", out=tmp_path)
    assert first.attempts == again.attempts
    assert again.physical.computed == 0
