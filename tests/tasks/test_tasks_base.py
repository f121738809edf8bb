"""Problems, the two judges that guard against bad oracles, and exact-text rewards."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reroot.errors import InvalidInput, OracleError
from reroot.tasks import Problem, check, score
from reroot.tasks.base import ExactText, TextPrefix
from reroot.types import Output

DONE = Output((1, 2), " 42", complete=True)


def problem(**changes: Any) -> Problem:
    fields: dict[str, Any] = {"id": "p7", "prompt": "", "max_tokens": 4, "reward": lambda o: 0.0}
    return Problem(**{**fields, **changes})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (0.25, 0.25),
        (-3.5, -3.5),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(2), 2.0),
        (np.bool_(True), 1.0),
        (Fraction(1, 4), 0.25),
    ],
)
def test_a_finite_number_is_a_reward(value: Any, expected: float) -> None:
    reward = score(problem(reward=lambda o: value), DONE)
    assert type(reward) is float
    assert reward == expected


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, np.float64("nan"), 10**400, "1.0", [1.0], 1j, np.ones(1)],
)
def test_anything_else_is_an_oracle_error_naming_problem_and_value(value: Any) -> None:
    with pytest.raises(OracleError) as caught:
        score(problem(reward=lambda o: value), DONE)
    assert "'p7'" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_raising_reward_is_an_oracle_error_with_its_type_and_message() -> None:
    def broken(output: Output) -> float:
        raise KeyError("no such column")

    with pytest.raises(
        OracleError, match=r"'p7'.*reward raised KeyError.*no such column"
    ) as caught:
        score(problem(reward=broken), DONE)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_interrupt_inside_a_reward_passes_through() -> None:
    def interrupted(output: Output) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(problem(reward=interrupted), DONE)


@pytest.mark.parametrize("value", [True, False, np.bool_(True), np.bool_(False)])
def test_a_truth_value_is_a_verdict(value: Any) -> None:
    verdict = check(problem(verifier=lambda o: value), DONE)
    assert verdict is bool(value)


@pytest.mark.parametrize("value", [None, 1, 0.0, "yes", np.float64(1.0), []])
def test_any_other_verdict_is_an_oracle_error(value: Any) -> None:
    with pytest.raises(OracleError, match="'p7': the verifier must return True or False") as caught:
        check(problem(verifier=lambda o: value), DONE)
    assert repr(value) in str(caught.value)


def test_a_raising_or_missing_verifier_is_told() -> None:
    with pytest.raises(OracleError, match="'p7': the verifier raised ZeroDivisionError"):
        check(problem(verifier=lambda o: bool(1 / 0)), DONE)
    with pytest.raises(InvalidInput, match="'p7' has no process verifier"):
        check(problem(), DONE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "non-empty text as id, got ''"),
        ({"id": 3}, "non-empty text as id, got 3"),
        ({"prompt": None}, "prompt must be text or tokens"),
        ({"prompt": (1, 2.5)}, "prompt must be text or tokens.*2.5"),
        ({"max_tokens": 0}, "max_tokens must be an integer in 1…1,000,000,000, got 0"),
        ({"max_tokens": True}, "max_tokens must be an integer in 1…1,000,000,000, got True"),
        ({"max_tokens": 2.0}, "max_tokens must be an integer in 1…1,000,000,000, got 2.0"),
        ({"horizon": -1}, "horizon must be an integer in 0…1,000,000,000, got -1"),
        ({"reward": 1.0}, "reward must be a function of an Output, got 1.0"),
        ({"verifier": "yes"}, "verifier must be a function of an Output or None, got 'yes'"),
        ({"demonstration": 5}, "demonstration must be text or tokens"),
        ({"unique": True}, "unique=True needs a demonstration"),
        ({"stop": "\n"}, r"stop must be a tuple of non-empty texts, got '\\n'"),
        ({"stop": ("",)}, "stop must be a tuple of non-empty texts"),
        ({"pass_at": math.nan}, "pass_at must be a finite number, got nan"),
        ({"answer": 4}, "answer must be text, got 4"),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        problem(**changes)


def test_fields_are_normalized() -> None:
    made = problem(
        prompt=[np.int64(3), 4], max_tokens=np.int32(5), demonstration=[1], stop=["a", "b"]
    )
    assert (made.prompt, made.max_tokens, made.demonstration, made.stop) == (
        (3, 4),
        5,
        (1,),
        ("a", "b"),
    )
    assert type(made.max_tokens) is int


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("answer", ["1 2", "1", "11"])
def test_the_verifier_is_the_existence_of_a_right_extension(answer: str, strict: bool) -> None:
    """Enumeration: every text of at most 5 characters over {1, 2, space}, and every extension of it.

    An extension by len(answer) characters suffices: the answer can follow white space.
    """
    reward, verifier = ExactText(answer, strict), TextPrefix(answer, strict)
    texts = ["".join(t) for n in range(6) for t in itertools.product("12 ", repeat=n)]
    rights = {t for n in range(9) for t in map("".join, itertools.product("12 ", repeat=n))}
    rights = {t for t in rights if reward(Output((), t, complete=True)) == 1.0}
    assert rights
    for text in texts:
        can = any(right.startswith(text) for right in rights)
        assert verifier(Output((), text, complete=False)) == can, text
        assert verifier(Output((), text, complete=True)) == (text in rights), text
        assert reward(Output((), text, complete=False)) == 0.0


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("stop", [("</",), (" <", "/é"), ("\n\n", "1<")])
def test_half_a_stop_text_can_still_end_a_right_answer(strict: bool, stop: tuple[str, ...]) -> None:
    """Against every text of up to five characters that holds no stop text."""
    answer, letters = "1", sorted({*"1< ", *"".join(stop)})
    spaces = ["".join(t) for n in range(6) for t in itertools.product(" \n", repeat=n)]
    verifier, reward = TextPrefix(answer, strict, stop), ExactText(answer, strict)
    rights = {a + answer + b + s for a in spaces for b in spaces for s in ("", *stop)}
    rights = {t for t in rights if reward(Output((), cut(t, stop), complete=True)) == 1.0}
    begun = {right[:n] for right in rights for n in range(6)}
    texts = ("".join(t) for n in range(6) for t in itertools.product(letters, repeat=n))
    for text in texts:
        if not any(s in text for s in stop):
            assert verifier(Output((), text, complete=False)) == (text in begun), text


def cut(text: str, stop: tuple[str, ...]) -> str:
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def test_half_a_character_of_a_stop_text_can_still_become_one() -> None:
    verifier = TextPrefix("ab", stop=("\né", "!"))
    assert verifier(Output((), " ab \n\ufffd", complete=False))
    assert not verifier(Output((), " ab\ufffd", complete=False))
    assert not verifier(Output((), " a\ufffd", complete=False))
    assert TextPrefix("ab", stop=("é",))(Output((), "ab\ufffd", complete=False))


def test_half_a_character_can_still_become_the_right_one() -> None:
    """Byte-level tokens may end inside a character; decoders show U+FFFD for it."""
    verifier = TextPrefix("2 × 3", strict_end=True)
    assert verifier(Output((), " 2 \ufffd", complete=False))
    assert not verifier(Output((), " 2\ufffd", complete=False))  # a space is due, not a ×
    assert not verifier(Output((), " 3 \ufffd", complete=False))
    assert not verifier(Output((), " 2 × 3\ufffd", complete=False))
    assert not verifier(Output((), " 2 \ufffd", complete=True))
