"""Stop texts over token borders behind the door: complete, charged, refused, cut and recorded alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import Budget, InvalidInput, OracleError, Prefix, Problem, Query, Report, audit
from reroot.access.episode import bind
from reroot.access.session import Session
from reroot.access.transcript import read_transcript, transcript_text, weaken
from reroot.generators.base import Request
from reroot.runs.enumerated import enumerate_runs, output_law
from reroot.types import Output
from spelt import CASES, TAG, Spelt, Tokens, ends_here, outputs_below
from toys import ask_and_tell, play_one

H = 4
STOP = ("</a>",)
EXACT = 1e-12


def long_text(output: Output) -> float:
    """Reward 1 for outputs that say something and end."""
    return float(output.complete and len(output.text) > 2)


def tagged(**changes: Any) -> Problem:
    return replace(Problem("p", (), H, reward=long_text, stop=STOP), **changes)


def spelt(horizon: int = H, seed: int = 0) -> Spelt:
    return Spelt.of(TAG, horizon, seed=seed)


# ---- the law and the account --------------------------------------------------------------------


@pytest.mark.slow(1)
@pytest.mark.parametrize(("pieces", "stop"), CASES)
def test_a_rollout_has_the_law_of_the_definition_and_costs_its_tokens(
    pieces: Sequence[str | bytes], stop: Sequence[str]
) -> None:
    async def one(session: Session) -> Prefix:
        return (await session.rollouts(1)).outputs()[0]

    generator = Spelt.of(pieces, 3, seed=5)
    runs = enumerate_runs(
        reroot.learner(requires="root/sample")(one)(),
        tagged(stop=tuple(stop), max_tokens=3),
        generator,
        grants="root/sample",
    )
    known = outputs_below(generator, stop, 3)
    found = output_law(runs)
    assert found.keys() == known.keys()
    assert max(abs(found[y] - known[y]) for y in known) < EXACT
    for run in runs:
        assert run.attempt.output is not None
        assert run.attempt.cost.tokens == len(run.attempt.output)
        assert run.attempt.complete


def test_a_continuation_of_half_a_stop_text_ends_with_the_other_half() -> None:
    async def go_on(session: Session) -> Prefix:
        (first,) = (await session.continuations(session.root, 1, length=2)).outputs()
        if session.is_complete(first):
            return first
        return (await session.continuations(first, 1)).outputs()[0]

    generator = spelt(3, seed=3)
    bound = reroot.learner(requires="visited/sample")(go_on)()
    runs = enumerate_runs(bound, tagged(max_tokens=3), generator, grants="visited/sample")
    known, found = outputs_below(generator, STOP, 3), output_law(runs)
    assert found.keys() == known.keys()
    assert max(abs(found[y] - known[y]) for y in known) < EXACT
    for run in runs:
        assert run.attempt.output is not None
        assert run.attempt.cost.tokens == len(run.attempt.output)


def test_the_account_is_of_what_was_drawn() -> None:
    async def ask(session: Session) -> tuple[Any, Any]:
        replies = await session.ask(
            [Query(n=40), Query(Prefix((0, 1)), 30), Query(Prefix((3,)), 9)]
        )
        return replies, session.spent

    replies, spent = ask_and_tell(ask, "chosen/sample", generator=spelt(), task=tagged())
    drawn = [[o.tokens for o in reply.outputs()] for reply in replies]
    assert spent.tokens == sum(
        len(y) - k for ys, k in zip(drawn, (0, 2, 1), strict=True) for y in ys
    )
    assert any(len(y) < H for ys in drawn for y in ys)
    for y in itertools.chain(*drawn):
        assert len(y) == H or ends_here(spelt(), STOP, y)
        assert not any(ends_here(spelt(), STOP, y[:t]) for t in range(len(y)))


def test_what_was_set_aside_for_draws_after_an_early_end_is_given_back() -> None:
    async def spend(session: Session) -> int:
        rolled = 0
        while True:
            try:
                rolled += (await session.rollouts(1)).n
            except reroot.BudgetExceeded:
                return rolled

    budget = Budget(tokens=40)
    stopped = ask_and_tell(spend, generator=spelt(), task=tagged(stop=("<", "/")), budget=budget)
    tag = ask_and_tell(
        spend, generator=spelt(seed=9), task=tagged(stop=("/a>", "</")), budget=budget
    )
    free = ask_and_tell(spend, generator=spelt(seed=9), task=tagged(stop=()), budget=budget)
    assert free == 10 < tag
    assert free < stopped


# ---- complete, refused, cut ---------------------------------------------------------------------


@pytest.mark.parametrize(("pieces", "stop"), CASES)
def test_session_and_gate_agree_with_the_definition(
    pieces: Sequence[str | bytes], stop: Sequence[str]
) -> None:
    """Of every string: complete or not; strings that go on behind a stop text are refused."""
    generator = Spelt.of(pieces, 3)
    size = generator.vocab_size
    every = [u for n in range(4) for u in itertools.product(range(size), repeat=n)]

    async def look(session: Session) -> list[tuple[bool, str | None]]:
        found = []
        for tokens in every:
            try:
                text = await session.text(Prefix(tokens))
            except InvalidInput:  # it goes on behind its end
                text = None
            found.append((session.is_complete(Prefix(tokens)), text))
        return found

    task = tagged(stop=tuple(stop), max_tokens=3)
    episode = bind(task, generator)
    for tokens, (complete, text) in zip(
        every, ask_and_tell(look, generator=generator, task=task), strict=True
    ):
        whole = generator.decode(tokens)
        assert complete == episode.is_complete(tokens)
        early = [t for t in range(len(tokens)) if ends_here(generator, stop, tokens[:t])]
        assert (text is None) == bool(early)
        if text is not None:
            assert complete == (len(tokens) == 3 or ends_here(generator, stop, tokens))
            places = [whole.find(s) for s in stop if s in whole]
            assert text == (whole[: min(places)] if places else whole)


def test_a_prefix_may_hold_half_a_stop_text_and_nothing_behind_a_whole_one() -> None:
    generator = spelt()
    episode = bind(tagged(), generator)
    episode.check_tokens((0, 1))
    episode.check_tokens((0, 1, 2))
    for beyond, said in (
        ((0, 1, 2, 4), "after a stop text ends with token 2 at position 2"),
        ((5, 4), "after the stop token 5 at position 0"),
        ((4, 3, 2, 4), "after a stop text ends with token 2 at position 2"),
    ):
        with pytest.raises(InvalidInput, match=said):
            episode.check_tokens(beyond)

    async def ask(session: Session) -> None:
        reply = await session.draws(Prefix((0, 1)), 5)
        assert reply.n == 5
        for bad, said in (((0, 1, 2), "is a complete output"), ((3, 2, 4), "goes on after")):
            with pytest.raises(InvalidInput, match=said):
                await session.draws(Prefix(bad), 1)
        with pytest.raises(InvalidInput, match="goes on after"):
            await session.score(Prefix((0, 1)), (2, 4))
        assert len(await session.score(Prefix((0, 1)), (2,))) == 1

    ask_and_tell(ask, "chosen/full", generator=generator, task=tagged())


def test_outputs_that_a_stop_text_ends_are_judged_complete() -> None:
    seen: list[Output] = []

    def reward(output: Output) -> float:
        seen.append(output)
        return float(output.text == "x")

    async def judge(session: Session) -> Prefix:
        outputs = [Prefix((4, 0, 1, 2)), Prefix((4, 3, 2))]
        assert await session.rewards(outputs) == [1.0, 1.0]
        with pytest.raises(InvalidInput, match="no stop at its end"):
            await session.reward(Prefix((4, 3)))
        return outputs[1]

    attempt = play_one(judge, "root/sample+reward", generator=spelt(), task=tagged(reward=reward))
    assert attempt.passed, attempt.error
    assert (attempt.text, attempt.complete) == ("x", True)
    assert {o.text for o in seen} == {"x"}
    assert all(o.complete for o in seen)


def test_demonstrations_end_by_a_stop_text() -> None:
    """Given as text with the stop text in it; one that goes on behind it, or never ends, is refused."""
    episode = bind(tagged(demonstration="x</a>"), spelt())
    assert episode.demonstration == Prefix((4, 3, 2))
    assert episode.output((4, 3, 2)) == Output((4, 3, 2), "x", True)
    with pytest.raises(OracleError, match="goes on after a stop text"):
        bind(tagged(demonstration="</a>x"), spelt())
    with pytest.raises(OracleError, match="does not end by a stop"):
        bind(tagged(demonstration="x</"), spelt())


def test_a_learner_that_alters_its_rule_misleads_itself_alone() -> None:
    async def alter(session: Session) -> Prefix:
        rule: Any = session._facts.stop
        for name in ("tokens", "closing"):
            object.__setattr__(rule, name, frozenset())
        object.__setattr__(rule.writing, "table", ())
        assert not session.is_complete(Prefix((3, 2)))
        with pytest.raises(InvalidInput, match="is a complete output"):
            await session.draws(Prefix((3, 2)), 1)
        return Prefix((3, 2))

    attempt = play_one(alter, "chosen/sample", generator=spelt(), task=tagged())
    assert attempt.complete, attempt.error


# ---- control and certificates -------------------------------------------------------------------


def test_prefix_rules_keep_their_meaning() -> None:
    """Under reset control a walk down the tree reaches every output, those that a text ends too."""
    reached: set[Tokens] = set()

    async def walk(session: Session) -> None:
        open_ = [session.root]
        while open_:
            laws = [(u, await session.law(u)) for u in open_]
            below = [u.append(a) for u, law in laws for a in range(len(law))]
            reached.update(u.tokens for u in below if session.is_complete(u))
            open_ = [u for u in below if not session.is_complete(u)]

    attempt = play_one(walk, "reset/full", generator=spelt(3), task=tagged(max_tokens=3))
    assert attempt.error is None, attempt.error
    assert reached == outputs_below(spelt(3), STOP, 3).keys()


def test_the_reach_of_a_demonstration_sums_over_the_tokens_that_end_it() -> None:
    """``Problem.unique``: P(all but the last token) · Σ P(s) over the s that end it where it ends."""
    generator = Spelt.of(("x", "</a", ">", ">!", "</a>"), 4, seed=2)
    task = tagged(reward=lambda o: float(o.complete and o.text == "x"), demonstration=(0, 1, 2))
    episode = bind(task, generator)
    assert episode.demonstration is not None
    before = episode.demonstration.tokens[:-1]
    law = generator.log_laws((), [before])[0]
    ends = [s for s in range(5) if episode.stop.ends((*before, s))]
    assert ends == [2, 3, 4]
    ends.remove(4)  # it says "x</a</a>", whose text is "x</a"
    known = outputs_below(generator, STOP, 4)
    right = {y for y in known if episode.output(y).text == "x" and y[: len(before)] == before}
    assert right == {(*before, s) for s in ends}
    head = generator.log_laws((), [(), (0,)])
    reach = sum(
        generator_p(head[0][0]) * generator_p(head[1][1]) * generator_p(law[s]) for s in ends
    )
    assert sum(known[y] for y in right) == pytest.approx(reach, abs=EXACT)


def generator_p(logprob: float) -> float:
    return 2.718281828459045 ** float(logprob)


# ---- records ------------------------------------------------------------------------------------


async def roll(session: Session) -> Prefix:
    reply = await session.rollouts(6, report=session.contract.report)
    await session.text(reply.outputs()[0])
    return reply.outputs()[-1]


def recorded(folder: Path, grants: str) -> Path:
    attempt = play_one(
        roll, grants, generator=spelt(seed=9), task=tagged(), out=folder, transcripts=True
    )
    assert attempt.error is None, attempt.error
    (path,) = (folder / "transcripts").iterdir()
    return path


@pytest.mark.parametrize("report", ["sample", "logprob", "topk(2)"])
def test_a_strong_transcript_holds_the_weaker_ones(tmp_path: Path, report: str) -> None:
    strong = recorded(tmp_path / "strong", "root/full")
    weak = recorded(tmp_path / "weak", f"root/{report}")
    lengths = [line for _, line in read_transcript(strong)][1]["value"][0]["lengths"]
    assert min(lengths) < H  # a stop text has ended some
    assert transcript_text(weaken(strong, report)) == weak.read_text()
    assert audit(strong, "root/full") is None
    assert audit(strong, "root/logprob") is not None


def test_requests_carry_the_rule_whatever_they_report() -> None:
    generator = spelt(seed=9)
    rule = generator.stops(STOP)
    reports = [Report.SAMPLE, Report.LOGPROB, Report.TOPK(3), Report.FULL]
    requests = [Request((), n=50, length=H, report=r, stop=rule, key=(1, 1)) for r in reports]
    first, *others = generator.answer(requests)
    assert all(other.outputs() == first.outputs() for other in others)
