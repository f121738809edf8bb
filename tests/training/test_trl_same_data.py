"""With ``Root`` rows are TRL's: prompts token by token, columns, evaluation sets, streams; named where wrong."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import trl_pairs
import trl_toys
from reroot import InvalidInput, OracleError
from reroot.tasks.base import Problem
from reroot.training import rollouts_for_trl, strategies

TEMPLATE = (
    "{% for m in messages %}"
    "{{ {'system': 'h', 'user': 'e', 'assistant': 'f'}[m['role']] + m['content'] + 'g' }}"
    "{% endfor %}{% if add_generation_prompt %}f{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}gg{% endif %}"
)
"""Of letters: a turn of the user is e…g, of the assistant f…g; without thinking an answer begins with gg."""


def chatting() -> tuple[Any, Any]:
    model, tokenizer = trl_toys.fresh()
    tokenizer.chat_template = TEMPLATE
    return model, tokenizer


def share(completions: list[Any], wanted: list[str], **_: Any) -> list[float]:
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [t.count(w) / trl_toys.LENGTH for t, w in zip(texts, wanted, strict=True)]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TALKS = [
    [said("user", "ab")],
    [said("system", "dd"), said("user", "ab")],
    [said("user", "ab"), said("assistant", "c"), said("user", "b")],
    [said("user", "ba"), said("assistant", "cc")],
]


# ---- prompts -------------------------------------------------------------------------------------


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    "settings", [{}, {"chat_template_kwargs": {"enable_thinking": False}}], ids=str
)
def test_conversations_are_tokenized_by_the_trainer(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """System prompts, several turns, a last turn of the assistant; thinking off."""
    rows = [{"prompt": talk, "wanted": "c"} for talk in TALKS]
    ours, theirs = trl_pairs.both(
        tmp_path, lambda: rows, lambda: [share], pieces=chatting, max_steps=2, **settings
    )
    trl_pairs.assert_equal(ours, theirs)
    ends = {tuple(ids[-3:]) for batch in ours.prompts for ids in batch}
    assert all((end[-2:] == (10, 10)) == bool(settings) for end in ends)  # gg


@pytest.mark.slow(2)
def test_texts_are_tokenized_by_the_trainer(tmp_path: Path) -> None:
    def pieces() -> tuple[Any, Any]:
        model, tokenizer = trl_toys.fresh()
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        return model, tokenizer

    rows = [{"prompt": p, "wanted": "c"} for p in ("ab", " a?b", "b\nb", "a")]
    ours, theirs = trl_pairs.both(
        tmp_path, lambda: rows, lambda: [share], pieces=pieces, max_steps=2
    )
    trl_pairs.assert_equal(ours, theirs)
    assert {ids[-1] for batch in ours.prompts for ids in batch} == {1}


# ---- rows ----------------------------------------------------------------------------------------

TWINS = [
    {"prompt": "ab", "wanted": "c", "demonstration": "cccc"},
    {"prompt": "ab", "wanted": "d", "demonstration": "dddd"},
]


@pytest.mark.slow(2)
def test_rows_with_one_prompt_keep_their_own_columns(tmp_path: Path) -> None:
    ours, theirs = trl_pairs.both(tmp_path, lambda: TWINS, lambda: [share], max_steps=4)
    trl_pairs.assert_equal(ours, theirs)
    for call in ours.calls:
        assert [*call["wanted"][:4], *call["wanted"][4:]] in (
            ["c"] * 4 + ["d"] * 4,
            ["d"] * 4 + ["c"] * 4,
        )


def starts(rollouts: Any, columns: list[str]) -> list[tuple[str, tuple[int, ...]]]:
    """(what its row wants, start) of each group of the last batch."""
    return list(
        zip(columns[::4], [g.start.prefix.tokens for g in rollouts.batch.groups], strict=True)
    )


@pytest.mark.slow(2)
@pytest.mark.parametrize("column", ["demonstration", "completion", "solution", "tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_rows_with_one_prompt_start_in_their_own_demonstrations(
    column: str, stream: bool, tmp_path: Path
) -> None:
    rows = [
        {"prompt": r["prompt"], "wanted": r["wanted"], column: r["demonstration"]} for r in TWINS
    ]
    if column == "tokens":
        rows = [r | {column: [6 + (r["wanted"] == "d")] * 4} for r in rows]
    named = None if column in ("demonstration", "completion") else column
    rollouts = rollouts_for_trl(
        strategies.R3(stages=4, schedule="staged"), demonstration_column=named
    )
    seen: list[Any] = []

    def noted(completions: list[str], wanted: list[str], **_: Any) -> list[float]:
        seen.extend(starts(rollouts, wanted))
        return share(completions, wanted)

    given = streamed(rows)() if stream else rows
    trl_pairs.stock(tmp_path, given, [noted], rollouts, max_steps=4).train()
    assert sorted(set(seen)) == [("c", (6, 6, 6)), ("d", (7, 7, 7))]


@pytest.mark.slow(2)
def test_problems_with_one_prompt_are_told_apart_by_their_rows(tmp_path: Path) -> None:
    def wants(letter: str) -> Any:
        return lambda output: output.text.count(letter) / 4

    twins = [
        Problem(letter, "ab", 4, reward=wants(letter), demonstration=letter * 4) for letter in "cd"
    ]
    strategy = strategies.R3(stages=4, schedule="staged")
    rollouts = rollouts_for_trl(strategy, problems=twins)
    trainer = trl_pairs.stock(
        tmp_path, rollouts.dataset(), [rollouts.reward], rollouts, max_steps=3
    )
    trainer.train()
    for group in rollouts.batch.groups:  # type: ignore[union-attr]
        token = group.start.prefix.tokens[0]
        whole = [[*group.start.prefix, *tokens] for tokens in group.tokens]
        assert group.rewards == [row.count(token) / 4 for row in whole]
    assert {g.start.prefix.tokens[0] for g in rollouts.batch.groups} == {6, 7}  # type: ignore[union-attr]
    rollouts = rollouts_for_trl(strategy, problems=twins)
    with pytest.raises(InvalidInput, match="row 0: problems 'c' and 'd' have the same prompt"):
        trl_pairs.stock(tmp_path, [{"prompt": "ab"}] * 2, [rollouts.reward], rollouts).train()
    with pytest.raises(InvalidInput, match="two problems have the id 'c'"):
        rollouts_for_trl(strategy, problems=[twins[0], twins[0]])


def streamed(rows: list[dict[str, Any]]) -> Callable[[], Any]:
    from datasets import IterableDataset

    return lambda: IterableDataset.from_generator(lambda: iter(rows))


@pytest.mark.slow(2)
def test_streams(tmp_path: Path) -> None:
    rows = [{"prompt": p, "wanted": w} for p in trl_toys.PROMPTS for w in "cd"]
    ours, theirs = trl_pairs.both(tmp_path, streamed(rows), lambda: [share], max_steps=5)
    trl_pairs.assert_equal(ours, theirs)


# ---- evaluation ----------------------------------------------------------------------------------

HELD_OUT = [{"prompt": p, "wanted": "d", "level": 3} for p in ("bbb", "aa", "bbb")]


@pytest.mark.slow(2)
@pytest.mark.parametrize("kind", ["rows", "by name", "stream"])
def test_evaluation_sets_with_prompts_and_columns_of_their_own(kind: str, tmp_path: Path) -> None:
    from datasets import Dataset

    def made() -> Any:
        if kind == "stream":
            return streamed(HELD_OUT)()
        whole = Dataset.from_list(HELD_OUT)
        return {"easy": whole, "hard": whole.select([0])} if kind == "by name" else whole

    rows = [{"prompt": p, "wanted": "c"} for p in trl_toys.PROMPTS]
    settings: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_on_start": True,
        "per_device_eval_batch_size": 2,
        "num_generations_eval": 2,
        "max_steps": 2,
    }
    ours, theirs = trl_pairs.both(
        tmp_path,
        lambda: rows,
        lambda: [share],
        bridge={"grants": "chosen/sample"},
        evaluation=made(),
        **settings,
    )
    trl_pairs.assert_equal(ours, theirs)
    assert any("eval_reward" in str(line) for line in ours.logs)


@pytest.mark.slow(2)
def test_an_evaluation_first_does_not_say_what_sessions_grant(tmp_path: Path) -> None:
    """The evaluation's rows have no demonstrations; those that are trained on do."""
    rows = [{"prompt": p, "wanted": "c", "demonstration": "cccc"} for p in trl_toys.PROMPTS]
    strategy = strategies.R3(stages=4, schedule="staged", visits=1)
    rollouts = rollouts_for_trl(strategy, grants="chosen/logprob")
    trainer = trl_pairs.stock(
        tmp_path,
        rows,
        [share],
        rollouts,
        evaluation=HELD_OUT,
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
        per_device_eval_batch_size=4,
    )
    trainer.train()
    assert strategy.state() == {"seen": 4}
    assert rollouts.batch is not None
    assert not rollouts.batch.training
    assert all(not g.start.prefix and g.rewards for g in rollouts.batch.groups)


# ---- what is wrong is named ----------------------------------------------------------------------

SHOWN = {"prompt": "ab", "wanted": "c", "demonstration": "cccc"}
TALK = [said("user", "ab")]
LONG = "b" * 45  # and 4 tokens more: the model has 48 positions


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("row", "said_to_be"),
    [
        (
            SHOWN | {"demonstration": None},
            "row 2: it has no demonstration to start from .column 'demon",
        ),
        (
            SHOWN | {"demonstration": "ccccc"},
            r"row 2: problem 'ab': bad demonstration: .* 5 tokens",
        ),
        (SHOWN | {"prompt": LONG}, "row 2: .*45 prompt tokens . 4 generated tokens exceed .* 48"),
    ],
    ids=["none", "too long", "long prompt"],
)
def test_a_row_that_does_not_do_is_named_before_the_first_step(
    row: dict[str, Any], said_to_be: str, tmp_path: Path
) -> None:
    rollouts = rollouts_for_trl(strategies.AdaBack())
    trainer = trl_pairs.stock(tmp_path, [SHOWN, SHOWN, row, SHOWN], [share], rollouts)
    before = trl_toys.weights(trainer)
    with pytest.raises((InvalidInput, OracleError), match=said_to_be) as caught:
        trainer.train()
    assert "training data, row 2" in str(caught.value)
    assert trainer.state.global_step == 0
    assert all(torch.equal(v, before[k]) for k, v in trl_toys.weights(trainer).items())


@pytest.mark.slow(2)
def test_prompts_that_do_not_fit(tmp_path: Path) -> None:
    """Of texts, of conversations, of evaluation sets; and in a stream when it is come to."""
    rows = [{"prompt": "ab", "wanted": "c"}, {"prompt": LONG, "wanted": "c"}]
    short = [rows[0]]

    def train(given: Any, **more: Any) -> None:
        trl_pairs.stock(
            tmp_path, given, [share], rollouts_for_trl(strategies.Root()), **more
        ).train()

    with pytest.raises(InvalidInput, match="the training data, row 1: "):
        train(rows)
    with pytest.raises(InvalidInput, match="the evaluation data, row 1: "):
        train(short * 4, evaluation=rows, eval_strategy="steps")
    talks = [{"prompt": TALK, "wanted": "c"}, {"prompt": [said("user", "b" * 43)], "wanted": "c"}]
    with pytest.raises(InvalidInput, match=r"the training data, row 1: .*46 prompt tokens"):
        train(talks, pieces=chatting)
    with pytest.raises(InvalidInput, match=r"the row with the prompt 'bbbb.*exceed"):
        train(streamed(rows)())
    train([{"prompt": "b" * 44, "wanted": "c"}] * 4)  # one less fits


@pytest.mark.slow(1)
def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    rows = [{"prompt": "ab", "wanted": "c", "solution": "cccc"}] * 4
    for named, match in (
        (None, r"\['prompt', 'wanted', 'solution'\]; say which"),
        ("answer", "'answer': the"),
    ):
        rollouts = rollouts_for_trl(strategies.AdaBack(), demonstration_column=named)
        with pytest.raises(InvalidInput, match=match):
            trl_pairs.stock(tmp_path, rows, [share], rollouts).train()
    with pytest.raises(InvalidInput, match="demonstration_column='x' is of a data set"):
        rollouts_for_trl(
            strategies.AdaBack(), problems=trl_toys.problems(), demonstration_column="x"
        )


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    "shown",
    [
        [said("assistant", "cccc")],
        [*TALK, said("assistant", "cccc")],
        [{"role": "assistant", "content": [{"type": "text", "text": "cccc"}]}],
    ],
    ids=["answer", "whole", "blocks"],
)
def test_demonstrations_as_messages(shown: Any, tmp_path: Path) -> None:
    rows = [{"prompt": TALK, "wanted": "c", "completion": shown}] * 4
    rollouts = rollouts_for_trl(strategies.R3(stages=4, schedule="staged"))
    trl_pairs.stock(tmp_path, rows, [share], rollouts, pieces=chatting).train()
    assert {g.start.prefix.tokens for g in rollouts.batch.groups} == {(6, 6, 6)}  # type: ignore[union-attr]


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    "shown",
    [[said("user", "cccc")], [said("user", "b"), said("assistant", "c")], [], [0.5], 7],
    ids=str,
)
def test_messages_that_are_no_demonstration(shown: Any, tmp_path: Path) -> None:
    rows = [{"prompt": TALK, "wanted": "c", "completion": shown}] * 4
    rollouts = rollouts_for_trl(strategies.AdaBack())
    with pytest.raises(InvalidInput, match="row 0: column 'completion': a demonstration is"):
        trl_pairs.stock(tmp_path, rows, [share], rollouts, pieces=chatting).train()
