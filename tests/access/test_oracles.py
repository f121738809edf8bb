"""Values of prefixes and hidden states: what is asked, permitted, paid for, batched and recorded."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reroot import (
    AccessDenied,
    BackendError,
    Budget,
    BudgetExceeded,
    InvalidInput,
    Prefix,
    Query,
    Report,
    audit,
)
from reroot.access.session import Session
from reroot.access.transcript import array_from_json, messages, read_transcript
from reroot.generators.ensemble import Ensemble
from reroot.generators.layered import LayeredTree
from reroot.generators.tabular import Tabular
from reroot.runs.run import problems_digest
from reroot.tasks.base import Problem
from reroot.testing import enumerate_runs, output_law
from reroot.types import Cost
from toys import (
    END,
    H,
    K,
    Wrapped,
    as_learner,
    ask_and_tell,
    layered,
    one_rollout,
    play,
    play_one,
    problem,
    problems,
    tree,
)

HIDDEN = "chosen/none+hidden"


class Shown(Wrapped):
    """A layered tree that notes each call for hidden states."""

    def __init__(self) -> None:
        super().__init__(layered())
        self.looked: list[tuple[str, int]] = []
        self.die_at: int | None = None

    def _note(self, kind: str, count: int) -> None:
        if len(self.looked) == self.die_at:
            raise KeyboardInterrupt
        self.looked.append((kind, count))

    def layer_laws(self, prompts: Any, prefixes: Any, layers: int) -> Any:
        self._note(f"laws {layers}", len(prefixes))
        return self.inner.layer_laws(prompts, prefixes, layers)  # type: ignore[attr-defined]

    def features(self, prompts: Any, outputs: Any) -> Any:
        self._note("features", len(outputs))
        return self.inner.features(prompts, outputs)  # type: ignore[attr-defined]


# ---- values -------------------------------------------------------------------------------------


def test_values_are_the_problems() -> None:
    async def ask(session: Session) -> list[float]:
        return await session.values([Prefix(), Prefix((1, 2)), Prefix((END,))])

    assert ask_and_tell(ask, "root/none+value") == [0.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (-1e-9, "the value must be a finite number >= 0, got -1e-09 (float)"),
        (math.nan, "the value must be a finite number >= 0, got nan"),
        (math.inf, "got inf"),
        (10**400, "the value must be a finite number >= 0"),
        ("1", "got '1' (str)"),
        (None, "got None"),
    ],
)
def test_values_that_are_none_are_errors_and_paid(said: object, message: str) -> None:
    async def ask(session: Session) -> None:
        await session.value(Prefix())

    task = problem(value=lambda output: said)  # type: ignore[arg-type,return-value]
    attempt = play_one(ask, "root/none+value", task=task)
    assert message in str(attempt.error)
    assert attempt.cost == Cost(values=1)


def test_problems_without_values_grant_none() -> None:
    with pytest.raises(InvalidInput, match="has no value to grant"):
        play_one(one_rollout, "root/sample+value", task=problem(value=None))
    with pytest.raises(InvalidInput, match="value must be a function of an Output or None"):
        problem(value=3)


def test_the_digest_of_problems_without_values_is_what_it_was() -> None:
    plain = Problem("p", (), H, abs, None, (1, 2, 3))  # type: ignore[arg-type]
    assert problems_digest([plain]) == "53fec988c57861f0"
    assert problems_digest([replace(plain, value=len)]) != "53fec988c57861f0"


# ---- hidden states of trees ----------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3, 9])
def test_layer_laws_are_the_last_tables(layers: int) -> None:
    stack = layered()

    async def look(session: Session) -> Any:
        return await session.layer_laws(Prefix((1, 0)), layers)

    seen = ask_and_tell(look, f"{HIDDEN}@T=0.5", generator=stack)
    known = [layer.log_laws((), [(1, 0)])[0] for layer in stack.layers[-layers:]]
    assert np.array_equal(seen, known)  # the base law last, whatever the temperature
    assert not seen.flags.writeable


def test_features_are_what_the_tree_says() -> None:
    async def look(session: Session) -> Any:
        return await session.features([Prefix((1, 1, 0, END)), Prefix((END,))])

    seen = ask_and_tell(look, HIDDEN, generator=layered())
    assert np.array_equal(seen, [[0.25, 0.5, 0, 0.25], [0, 0, 0, 1]])
    own = LayeredTree([tree()], features=lambda y: [len(y), y[0]])
    assert np.array_equal(ask_and_tell(look, HIDDEN, generator=own), [[4, 1], [1, END]])


def test_ensembles_show_their_members() -> None:
    both = Ensemble([layered(1), layered(2)])
    prompts, prefixes = [(1,), (0,), (1, 2)], [(0,), (0, 1), ()]
    laws = both.layer_laws(prompts, prefixes, 2)
    for i, (member, x, u) in enumerate([(2, (), (0,)), (1, (), (0, 1)), (2, (2,), ())]):
        assert np.array_equal(laws[i], layered(member).layer_laws([x], [u], 2)[0])
    seen = both.features([(1,), (0,)], [(0, END), (1, 1, END)])
    assert np.array_equal(seen[0], [0.5, 0, 0, 0.5])
    with pytest.raises(InvalidInput, match="share their capabilities"):
        Ensemble([layered(1), tree(2)])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "needs at least one layer"),
        ([tree(), Tabular.random(K, H, seed=1)], "share K, H and end tokens"),
        ([Tabular.random(K, H - 1, seed=1, end=(END,)), tree()], "share K, H and end tokens"),
    ],
)
def test_stacks_that_do_not_fit(layers: list[Tabular], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        LayeredTree(layers)


def test_stacks_are_told_apart() -> None:
    described = [
        json.dumps(dict(one.describe()))
        for one in (layered(1), layered(2), layered(1, 2), LayeredTree([tree()], features=len))
    ]
    assert len(set(described)) == 4


def test_a_generator_without_inner_states_refuses_the_grant() -> None:
    with pytest.raises(InvalidInput, match=r"honour root/sample\+hidden.*no hidden states"):
        play_one(one_rollout, "root/sample+hidden")


# ---- what is permitted --------------------------------------------------------------------------


@pytest.mark.slow(1)
@settings(max_examples=60)
@given(
    st.sampled_from(["root", "visited", "reset", "chosen"]),
    st.lists(st.lists(st.integers(0, END - 1), max_size=3).map(tuple), max_size=8),
    st.booleans(),
)
def test_layer_laws_are_permitted_where_a_law_is(
    control: str, places: list[tuple[int, ...]], rolls: bool
) -> None:
    """The same refusals as those of lists of likely tokens, which draw nothing either."""

    async def walk(session: Session, inner: bool) -> list[str]:
        told: list[str] = []
        if rolls:
            drawn = (await session.rollouts(1)).outputs()[0]
            places[:] = [*places, drawn[:-1], drawn[: len(drawn) // 2]]
        for place in places:
            try:
                if inner:
                    await session.layer_laws(Prefix(place), 1)
                else:
                    await session.ask([Query(Prefix(place), 1, 1, Report.ARGMAX(1))])
            except AccessDenied as refused:
                told.append(f"{place} {refused.rule} {refused.weakest.partition('/')[0]}")
        return told

    grants = f"{control}/full+hidden"
    before = list(places)
    one = ask_and_tell(lambda s: walk(s, True), grants, generator=layered())
    places[:] = before
    assert one == ask_and_tell(lambda s: walk(s, False), grants, generator=layered())


def test_layer_laws_need_control_and_no_report() -> None:
    async def look(session: Session) -> str:
        await session.layer_laws(session.root, 1)
        await session.layer_laws(Prefix((2,)), 1)  # a child of an asked prefix
        with pytest.raises(AccessDenied) as refused:
            await session.layer_laws(Prefix((1, 1, 1)), 1)
        return str(refused.value)

    said = ask_and_tell(look, "reset/none+hidden", generator=layered())
    assert "refused the hidden states at [1 1 1]: reset control" in said
    assert "allows it: chosen/none+hidden" in said


@pytest.mark.parametrize("control", ["root", "visited", "reset"])
def test_features_are_of_what_was_emitted(control: str) -> None:
    async def look(session: Session) -> None:
        outputs = (await session.rollouts(3)).outputs()
        await session.features(outputs)
        other = next(y for y in [(0, END), (1, END), (2, END), (END,)] if Prefix(y) not in outputs)
        with pytest.raises(AccessDenied, match=r"allows it: chosen/none\+hidden") as refused:
            await session.features([outputs[0], Prefix(other)])
        assert "the generator itself emitted" in refused.value.rule
        assert session.spent.hidden_states == 3

    attempt = play_one(look, f"{control}/sample+hidden", generator=layered())
    assert attempt.error is None, attempt.error


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda s: s.layer_laws((), 0), "layers must be an integer >= 1, got 0"),
        (lambda s: s.layer_laws((1, END), 1), "is a complete output: nothing follows it"),
        (lambda s: s.layer_laws((9,), 1), "token 9 is outside the vocabulary"),
        (lambda s: s.features([()]), "features are of prefixes of at least one token, got []"),
        (lambda s: s.features([(END, END)]), "goes on after the stop token"),
        (lambda s: s.features([]), "at one place at least"),
    ],
)
def test_questions_about_states_that_make_no_sense(attack: Any, message: str) -> None:
    async def ask(session: Session) -> None:
        with pytest.raises(InvalidInput) as error:
            await attack(session)
        assert message in str(error.value)
        assert session.spent == Cost()

    assert play_one(ask, HIDDEN, generator=layered()).error is None


@pytest.mark.parametrize(
    ("attack", "budget"),
    [
        (lambda s: s.values([Prefix(), Prefix()]), Budget(values=1)),
        (lambda s: s.features([(END,), (END,)]), Budget(hidden_states=1)),
        (lambda s: s.features([(1, END)]), Budget(prefill=1)),
        (lambda s: s.layer_laws((), 1), Budget(hidden_states=0)),
        (lambda s: s.layer_laws((), 1), Budget(queries=0)),
        (lambda s: s.layer_laws((), 1), Budget(tokens=0)),
        (lambda s: s.layer_laws((1,), 1), Budget(prefill=0)),
    ],
)
def test_budgets_bound_them(attack: Any, budget: Budget) -> None:
    async def ask(session: Session) -> None:
        with pytest.raises(BudgetExceeded):
            await attack(session)
        assert session.spent == Cost()

    assert play_one(ask, f"{HIDDEN}+value", generator=layered(), budget=budget).error is None


# ---- batches and failures -----------------------------------------------------------------------


async def looks(session: Session) -> Prefix:
    """Asks for everything at once, twice, and goes where it leads."""
    output = await one_rollout(session)
    for _ in range(2):
        laws, more, states, _, _ = await asyncio.gather(
            session.layer_laws(session.root, 2),
            session.layer_laws(output[:-1], 3),
            session.features([output, output]),
            session.draws(output[:-1], 1),
            session.values([output, session.root]),
        )
        token = int(np.argmax(laws[0] + more[0] + states[0]))
        output = (await session.continuations(output[: token % len(output)], 1)).outputs()[0]
    return output


LOOKS = "reset/sample+value+hidden"


def test_one_call_per_kind_and_wave() -> None:
    shown = Shown()
    attempts = play(looks, LOOKS, generator=shown, task=problems(5))
    assert all(a.error is None for a in attempts)
    assert sorted(shown.looked) == sorted(2 * [("laws 2", 5), ("laws 3", 5), ("features", 10)])
    alone = play(looks, LOOKS, generator=Shown(), task=problems(5), concurrency=1)
    assert attempts == alone


class Spoilt(Shown):
    """Shows what ``spoil`` makes of layer laws, given where they are."""

    def __init__(self, spoil: Callable[[list[Any], Any], Any]) -> None:
        super().__init__()
        self.spoil = spoil

    def layer_laws(self, prompts: Any, prefixes: Any, layers: int) -> Any:
        return self.spoil(prefixes, super().layer_laws(prompts, prefixes, layers))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda laws: laws[:, :, 1:], "states of shape (1, 2, 3), not (1, 1…2, 4)"),
        (lambda laws: laws[:, :0], "states of shape (1, 0, 4)"),
        (lambda laws: np.concatenate([laws, laws], axis=1), "states of shape (1, 4, 4)"),
        (lambda laws: laws[0], "hidden states at 1 places got 2 answers"),
        (lambda laws: laws * np.nan, "states that are not numbers"),
        (lambda laws: 1 / 0, "the generator failed: ZeroDivisionError"),
    ],
)
def test_bad_states_are_the_generators_fault(spoil: Any, message: str) -> None:
    """Nothing is charged for them."""

    async def look(session: Session) -> None:
        try:
            await session.layer_laws(Prefix((0,)), 2)
        finally:
            assert session.spent == Cost()
            assert session.remaining("hidden_states") == 1

    generator = Spoilt(lambda prefixes, laws: spoil(laws))
    attempt = play_one(look, HIDDEN, generator=generator, budget=Budget(hidden_states=1))
    assert message in str(attempt.error)
    assert attempt.cost == Cost()


@pytest.mark.parametrize("how", ["raises", "no numbers"])
def test_a_failure_is_told_to_those_who_asked_for_it(how: str) -> None:
    def spoil(prefixes: list[Any], laws: Any) -> Any:
        wrong = [u == (0,) for u in prefixes]
        if how == "raises" and any(wrong):
            raise ValueError("down")
        return np.where(np.array(wrong)[:, None, None], np.nan, laws)

    async def look(session: Session) -> None:
        await session.layer_laws(Prefix((len(session.prompt),)), 2)

    task = [problem("bad"), problem("good", prompt=(1,), max_tokens=4)]
    bad, good = play(look, HIDDEN, generator=Spoilt(spoil), task=task)
    assert str(bad.error).startswith("BackendError")
    assert good.error is None
    assert (bad.cost.hidden_states, good.cost.hidden_states) == (0, 1)


def test_features_must_be_numbers() -> None:
    infinite = LayeredTree([tree()], features=lambda y: [math.inf])

    async def look(session: Session) -> None:
        with pytest.raises(BackendError, match="the generator failed"):
            await session.features([Prefix((END,))])

    assert play_one(look, HIDDEN, generator=infinite).error is None


# ---- transcripts --------------------------------------------------------------------------------


def lines_of(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "transcripts").iterdir()
    return [line for _, line in read_transcript(path)]


def test_states_read_back_bit_by_bit(tmp_path: Path) -> None:
    told: list[Any] = []

    async def look(session: Session) -> None:
        told.append((await session.layer_laws(Prefix((1,)), 2))[None])
        told.append(await session.features([Prefix((1, END)), Prefix((END,))]))

    play(look, HIDDEN, generator=layered(), out=tmp_path, transcripts=True)
    for seen, line in zip(told, messages(lines_of(tmp_path)[1:]), strict=True):
        read = array_from_json(line["value"])
        assert (read.shape, read.tobytes()) == (seen.shape, seen.tobytes())


@pytest.mark.parametrize("die_at", range(6))
def test_resuming_pays_and_asks_once(die_at: int, tmp_path: Path) -> None:
    valued: list[Any] = []

    def value(output: Any) -> float:
        valued.append(output.tokens)
        return float(len(output.tokens))

    def run(shown: Shown, folder: Path) -> Any:
        task = problem(value=value)
        return play_one(*(looks, LOOKS), generator=shown, task=task, out=folder, transcripts=True)

    reference = run(whole := Shown(), tmp_path / "whole")
    asked, _ = list(valued), valued.clear()
    shown = Shown()
    shown.die_at = die_at
    with pytest.raises(KeyboardInterrupt):
        run(shown, tmp_path / "cut")
    shown.die_at = None
    assert run(shown, tmp_path / "cut") == reference
    # what was written down is not asked again; the calls of one moment are written down together
    begun = die_at - die_at % 3
    assert shown.looked == whole.looked[:die_at] + whole.looked[begun:]
    assert valued == asked
    assert messages(lines_of(tmp_path / "cut")[1:]) == messages(lines_of(tmp_path / "whole")[1:])


def test_audits_of_states(tmp_path: Path) -> None:
    attempt = play_one(looks, LOOKS, generator=layered(), out=tmp_path, transcripts=True)
    assert attempt.error is None
    (path,) = (tmp_path / "transcripts").iterdir()
    assert audit(path, LOOKS) is None
    for grants, rule in (
        ("reset/full+value", "does not grant the hidden oracle"),
        ("reset/full+hidden", "does not grant the value oracle"),
        ("root/full+value+hidden", "root control permits"),
    ):
        refused = audit(path, grants)
        assert refused is not None
        assert rule in refused.rule


@pytest.mark.parametrize("control", ["root", "visited", "reset"])
def test_audits_refuse_features_of_what_was_not_emitted(control: str, tmp_path: Path) -> None:
    async def look(session: Session) -> None:
        await session.layer_laws(Prefix(), 1)
        await session.layer_laws(Prefix((1,)), 1)
        await session.features([Prefix((1, END))])

    play(look, HIDDEN, generator=layered(), out=tmp_path, transcripts=True)
    (path,) = (tmp_path / "transcripts").iterdir()
    refused = audit(path, f"{control}/none+hidden")
    assert audit(path, HIDDEN) is None
    assert refused is not None
    first = {"root": 0, "visited": 1, "reset": 2}[control]
    assert refused.query.startswith(f"message {first}")


# ---- enumeration --------------------------------------------------------------------------------


def test_enumeration_goes_through_inner_states_and_values() -> None:
    """Draw a token, follow the first layer's mode, stop where the value says: the law in closed form."""
    stack = LayeredTree([Tabular.random(3, 2, seed=5), Tabular.random(3, 2, seed=6)])

    async def follow(session: Session) -> Prefix:
        token = int((await session.draws(session.root, 1)).first_tokens()[0])
        laws = await session.layer_laws(Prefix((token,)), 2)
        worth = await session.value(Prefix((token,)))
        return Prefix((token, int(laws[int(worth > 1)].argmax())))

    task = problem(max_tokens=2, value=lambda o: float(o.tokens[0]), demonstration=None)
    runs = enumerate_runs(as_learner(follow), task, stack, grants="visited/sample+value+hidden")
    expected: dict[Sequence[int], float] = {}
    for token, p in enumerate(np.exp(stack.log_laws((), [()])[0])):
        mode = stack.layers[int(token > 1)].log_laws((), [(token,)])[0].argmax()
        expected[token, int(mode)] = p
    assert output_law(runs) == pytest.approx(expected, abs=1e-12)
