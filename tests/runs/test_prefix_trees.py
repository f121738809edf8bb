"""The tree that a learner built: its totals are the account, its probabilities the generator's law."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reroot
from reroot import Budget, Prefix, Report, RunFolderError
from reroot.access.session import Session
from reroot.access.transcript import read_transcript
from reroot.errors import BudgetExceeded, OracleError
from reroot.families import HiddenPath
from reroot.runs.attempts import attempts_of
from reroot.runs.inflight import transcript_name
from reroot.runs.prefix_trees import PrefixTree, named_tokens, read_tree
from reroot.runs.texts import read_texts
from toys import END, K, as_learner, layered, play, problem, tree

EVERYTHING = "chosen/full+reward+verifier+demonstration+value"


def built(
    folder: Path, body: Any, grants: str = EVERYTHING, **settings: Any
) -> tuple[Any, PrefixTree]:
    """The attempt of a body on one problem, and its tree."""
    (attempt,) = play(body, grants, out=folder, transcripts=True, **settings)
    file = folder / "transcripts" / transcript_name(attempt.key)
    asked = read_texts(folder).problems[attempt.problem]
    return attempt, read_tree(
        file, asked["prompt_tokens"], attempt.output and attempt.output.tokens
    )


async def everything(session: Session) -> Prefix:
    """Every kind of question, refusals among them."""
    drawn = await session.rollouts(7, report=Report.LOGPROB)
    here = Prefix((1,))
    await session.draws(here, 5)
    await session.law(Prefix((1, 2)))
    await session.top_k(Prefix((2,)), 2)
    await session.score(session.root, (1, 2, END))
    await session.continuations(here, 3, length=2)
    await session.verify_all([here, Prefix((0,))])
    await session.rewards(drawn.outputs()[:2])
    await session.value(Prefix((1, 2)))
    await session.demonstration(1)
    await session.demonstration(2)
    await session.text(here)
    with pytest.raises(BudgetExceeded):
        await session.rollouts(10_000)
    return drawn.outputs()[0]


def test_the_totals_are_the_account(tmp_path: Path) -> None:
    attempt, found = built(tmp_path, everything, budget=Budget(tokens=2000))
    assert found.cost == attempt.cost
    assert sum(node.draws for node in found.nodes()) == attempt.cost.tokens
    assert sum(node.scored for node in found.nodes()) == 3
    assert [event.number for event in found.events] == [*range(11), 12]  # 11 is a text, and free
    assert found.events[-1].error is not None
    assert found.events[-1].cost == reroot.Cost()
    assert all(event.after <= event.number for event in found.events)
    whats = [event.asked[0].what for event in found.events]
    assert whats[:5] == ["draw"] * 4 + ["score"]
    assert whats[6:11] == ["verifier", "reward", "value", "demonstration", "demonstration"]


def test_what_oracles_said_and_what_was_returned(tmp_path: Path) -> None:
    attempt, found = built(tmp_path, everything, budget=Budget(tokens=2000))
    one, zero = found.find((1,)), found.find((0,))
    assert one
    assert one.verified is True
    assert one.asked == [1, 5, 6]
    assert zero
    assert zero.verified is False
    two = found.find((1, 2))
    assert two
    assert two.value == 2.0
    assert two.revealed
    assert not found.root.revealed
    returned = [node.prefix for node in found.nodes() if node.returned]
    assert returned == [attempt.output.tokens[: i + 1] for i in range(len(attempt.output))]
    last = found.find(attempt.output.tokens)
    assert last
    assert last.reward == float(0 not in attempt.output.tokens)


def test_probabilities_are_the_generators_law(tmp_path: Path) -> None:
    """Every node whose probability a report gave, under the law of the contract, tempered too."""
    for law, temper in (("T=1", 1.0), ("T=0.5", 0.5)):
        _, found = built(
            tmp_path / law, everything, f"{EVERYTHING}@{law}", budget=Budget(tokens=2000)
        )
        known = [node for node in found.nodes() if node.logprob is not None]
        assert len(known) > 12
        for node in known:
            base = tree().log_laws((), [node.prefix[:-1]])[0] / temper
            right = base[node.token] - np.logaddexp.reduce(base)
            assert node.logprob == pytest.approx(right, abs=1e-9)
        law_at = found.find((1, 2))
        assert law_at
        assert len(law_at.children) == K
        total = sum(math.exp(c.logprob) for c in law_at.children.values() if c.logprob is not None)
        assert total == pytest.approx(1.0)
        unknown = found.find((1,))
        assert unknown
        assert any(child.logprob is None for child in unknown.children.values())


def test_counts_are_those_of_the_replies(tmp_path: Path) -> None:
    seen: Counter[tuple[int, ...]] = Counter()

    async def body(session: Session) -> Prefix:
        reply = await session.rollouts(50)
        for output in reply.outputs():
            seen.update(output.tokens[:i] for i in range(1, len(output) + 1))
        return reply.outputs()[0]

    _, found = built(tmp_path, body, "root/sample")
    assert {node.prefix: node.draws for node in found.nodes() if node.depth} == seen


def test_hidden_states_and_failing_judges_are_paid_as_the_session_pays(tmp_path: Path) -> None:
    def broken(output: Any) -> bool:
        raise ValueError("no verdict")

    async def body(session: Session) -> Prefix:
        await session.layer_laws(session.root, 2)
        await session.features([Prefix((1, 2))])
        with pytest.raises(OracleError):
            await session.verify_all([Prefix((1,)), Prefix((2,))])
        return (await session.rollouts(1)).outputs()[0]

    attempt, found = built(
        *(tmp_path, body, "chosen/sample+verifier+hidden"),
        generator=layered(),
        task=problem(verifier=broken),
    )
    assert attempt.error is None
    assert found.cost == attempt.cost
    assert attempt.cost.verifications == 2
    assert attempt.cost.hidden_states == 2


@pytest.mark.slow(3)
def test_every_default_learner_on_an_exact_family(tmp_path: Path) -> None:
    model, folder = "hidden_path:K=4,H=6,p=0.5", tmp_path / "c"
    found = reroot.compare(
        *(), model=model, problems=2, seeds=1, budget_tokens=600, out=folder, transcripts=True
    )
    texts, made = read_texts(folder), attempts_of(folder)
    assert len(made) == len(found.attempts) > 10
    for key, attempt in made.items():
        prompt = texts.problems[attempt.problem]["prompt_tokens"]
        found_tree = read_tree(folder / "transcripts" / transcript_name(key), prompt)
        assert found_tree.cost == attempt.cost, attempt.learner
        hidden = attempt.cost.hidden_states
        assert sum(n.draws for n in found_tree.nodes()) + hidden == attempt.cost.tokens


def test_a_killed_attempt_has_the_tree_of_the_whole(tmp_path: Path) -> None:
    """Lines that say 'forget', or that come early, count once."""
    _, found = built(tmp_path, everything, budget=Budget(tokens=2000))
    (file,) = (tmp_path / "transcripts").iterdir()
    lines = [line for _, line in read_transcript(file)]
    early = [{**line, "early": True} for line in lines[1:3]]
    assert named_tokens([lines[0], *early, *lines[1:]]) == {n.token for n in found.nodes()} - {None}
    assert named_tokens(lines[:1] + lines[:1]) == set()


def test_what_is_no_transcript_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("")
    with pytest.raises(RunFolderError, match="head line"):
        read_tree(file)


def test_the_path_of_a_hidden_path_family(tmp_path: Path) -> None:
    """With whole laws along the path, the probabilities multiply to those of the path."""
    path = HiddenPath(vocab_size=4, horizon=5, p=0.4, seed=3)

    async def walk(session: Session) -> Prefix:
        prefix = session.root
        while not session.is_complete(prefix):
            await session.law(prefix)
            prefix = prefix.append(path.path[len(prefix)])
        return prefix

    reroot.run(
        *(as_learner(walk), [path.problem()], path),
        grants="chosen/full+reward",
        out=tmp_path,
        transcripts=True,
    )
    (attempt,) = attempts_of(tmp_path).values()
    found = read_tree(tmp_path / "transcripts" / transcript_name(attempt.key), 0, path.path)
    returned = [node.logprob for node in found.nodes() if node.returned]
    assert attempt.surprisal is not None
    assert sum(p for p in returned if p is not None) == pytest.approx(-attempt.surprisal)
