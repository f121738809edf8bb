"""Answers in outputs, and when two are the same: a table of verdicts for every kind of rule."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from reroot.errors import InvalidInput
from reroot.tasks import equal
from reroot.tasks.answers import GivesAnswer, MayGiveAnswer, extract, rule
from reroot.types import Output

NUMBERS = [
    ("1,200", "1200", True),
    ("1,200", "$1,200", True),
    ("1,200", "1,200.", True),
    ("1,200", "48 per crate, so 25*48.\n#### 1,200", True),
    ("1200", r"\boxed{1200}", True),
    ("1200", r"$\boxed{1{,}200}$", True),
    ("1200", r"\$1,200", True),
    ("1200", "12000", False),
    ("1200", "1.200", False),
    ("1200", "1 200", False),
    ("36", "12+24=<<12+24=36>>36 rolls.\n#### 36", True),
    ("36", "The answer is 36 because 3*12=36 and 40 is more.", True),
    ("36", "I think 36 or 12", False),
    ("36", "**Answer:** 36", True),
    ("36", "#### 35\nNo, that is wrong.\n#### 36", True),
    ("36", "#### 36\nNo, that is wrong.\n#### 35", False),
    ("-5", "x = -5", True),
    ("-5", "x = −5", True),
    ("5", "10-5", True),
    ("5", "-5", False),
    ("0.5", "1/2", True),
    ("5/6", "0.8333", False),
    ("5/6", "10/12", True),
    ("30", "$30.00", True),
    ("30", "30 dollars", True),
    ("50", "50%", True),
    ("0.5", "50%", True),
    ("5", "50%", False),
    ("1e3", "1000", True),
    (".5", "0.50", True),
    ("12", "<answer>12</answer> I hope it is not 13", True),
    ("12", "<answer>12", True),
    ("18", r"The answer is \boxed{18} dollars", True),
    ("3", "3.0", True),
    ("025", "25", True),
    ("7", "", False),
    ("7", "seven", False),
    ("7", "1/0", False),
    ("12 apples", "12", True),
    ("12 km", "It is 12 km.", True),
    ("12", "The answer is: 12.", True),
    ("12", "```\n12\n```", True),
    ("12", r"\boxed{\boxed{12}}", True),
    ("12", r"\boxed{12\text{ apples}}", True),
    ("12", "The answer is 12, not 13.", True),
    ("-12", "-$12", True),
    ("45", "45°", True),
    ("45", r"$45^\circ$", True),
    ("1.5", "1 1/2", True),
    ("1 1/2", "3/2", True),
    ("1 1/2", "1/2", False),
    ("2", "I ate 2 1/2", False),
    ("50%", "50", True),
    ("50%", "0.5", True),
    ("0.5", "50", False),
    ("12 000", "12000", True),
    ("12 000", "#### 12 000", True),
    ("12 000", "12", False),
    ("12000", "12\u00a0000", True),
    ("1,2", "12", False),
]
MATH = [
    (r"\frac{5}{6}", r"\frac{5}{6}", True),
    (r"\frac{5}{6}", "5/6", True),
    (r"\frac{5}{6}", "5/6.", True),
    (r"\frac{5}{6}", r"The sum is $\frac{5}{6}$.", True),
    (r"\frac{5}{6}", "0.8333", False),
    (r"\frac{5}{6}", r"The sum is $\boxed{\dfrac56}$.", True),
    (r"\frac{1}{4}", "0.25", True),
    (r"4\pi", r"$4\pi$", True),
    (r"4\pi", "12.57", False),
    ("(1,2)", "(1, 2)", True),
    ("(1,2)", "(2,1)", False),
    (r"\{1,2\}", r"\{2,1\}", True),
    ("3", "x=3", True),
    ("1024", "2^{10}", True),
    (r"\sqrt{8}", r"2\sqrt2", True),
    (r"x^2+2x+1", "(x+1)^2", True),
    (r"\text{even}", "even", True),
    ("1200", "So the total is 1200.", True),
    ("5", "I do not know", False),
    ("Evelyn", r"\boxed{\text{Evelyn}}", True),
    (r"\text{Evelyn}", "The answer is Evelyn.", True),
    (r"\text{Evelyn}", r"\boxed{Briana}", False),
    (r"\text{June 20}", "June 20", True),
    (r"\text{(B)}", r"\boxed{B}", True),
    (r"\text{(B)}", r"\boxed{C}", False),
    ("1 1/2", "3/2", True),
    (r"45^\circ", "45°", True),
    ("45°", "45", True),
    ("[1,2)", "[1, 2)", True),
    ("[1,2)", "(1,2]", False),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}", True),
    ("10000", r"10\,000", True),
    ("10,000", r"10{,}000", True),
    (r"\sqrt{2}", "√2", True),
    (r"\emptyset", r"\varnothing", True),
    ("1200", "The answer is 1,200 dollars.", True),
    ("4", "The answer is 5 dollars.", False),
    (r"-\frac{2}{3}", "−2/3", True),
    ("2516_8", r"\boxed{2516_8}", True),
    ("2516_8", r"\boxed{2516_{8}}", True),
    ("2516_8", "2516", True),
    ("2516_8", "2516_9", False),
    ("8", "a\n\n# Answer\n\n8", True),
]
CHOICES = [
    ("B", "(B)", True),
    ("B", "The answer is B.", True),
    ("B", "B. because A is wrong", True),
    ("A", "A good idea is C", False),
    ("B", "b", True),
    ("B", "<answer>B</answer>", True),
    ("B", "C", False),
    ("B", "It is (B), not (C)", False),
    ("B", r"\boxed{\text{B}}", True),
    ("B", "", False),
    ("(B)", "B", True),
    ("B)", "The answer is (B).", True),
    ("A", "The answer is A because it is so", True),
    ("C", "The answer is C, since both A and B are wrong.", True),
    ("C", "The answer is B, since C is wrong.", False),
    ("B", "`B`", True),
    ("B", "The answer is I think B", True),
    ("B", "The answer is A or B? B.", True),
    ("I", "The answer is (I).", True),
    ("B", '"B"', True),
    ("B", "**Answer:** (B) two", True),
    ("B", r"$\boxed{\textbf{(B)}\ 12}$", True),
    ("two", "The answer is two.", True),
]
OTHERS = [
    ("exact", "a b", "  a b\n", True),
    ("exact", "a b", "a  b", False),
    ("exact", "4", "4.0", False),
    (r"regex:ANSWER=(\d+)", "42", "ANSWER=41 ANSWER=42", True),
    (r"regex:ANSWER=(\d+)", "ANSWER=42", "ANSWER=42", True),
    (r"regex:ANSWER=(\d+)", "42", "42", False),
    (r"regex:[a-z]+", "cat", "42 cat", True),
]
PAIRS = [
    *(("number", *pair) for pair in NUMBERS),
    *(("math", *pair) for pair in MATH),
    *(("choice", *pair) for pair in CHOICES),
    *OTHERS,
]


@pytest.mark.slow(1)
@pytest.mark.parametrize(("kind", "answer", "output", "verdict"), PAIRS)
def test_verdicts(kind: str, answer: str, output: str, verdict: bool) -> None:
    if kind == "math":
        pytest.importorskip("math_verify")
    assert equal(kind, answer, output) is verdict


def test_the_table_is_long_enough_and_says_both() -> None:
    assert len(PAIRS) >= 60
    assert {verdict for *_, verdict in PAIRS} == {True, False}


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed 7 .", "7"),
        (r"\boxed{1} then \boxed{2", "1"),  # the last one does not close
        (r"\fbox{x\}y}", r"x\}y"),
        ("none", None),
    ],
)
def test_boxes_by_their_braces(text: str, inside: str | None) -> None:
    assert extract.boxed(text) == inside


def test_mathematics_is_compared_in_any_thread_and_a_power_tower_ends() -> None:
    pytest.importorskip("math_verify")
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(equal("math", r"\frac34", "0.75")))
    thread.start()
    thread.join()
    assert said == [True]


@pytest.mark.slow(6)
def test_what_takes_too_long_is_not_equal_and_the_next_is_judged() -> None:
    pytest.importorskip("math_verify")
    assert not equal("math", "10^{10^{10}}", "9^{9^{9^{9}}}")
    assert equal("math", "10", "2*5")


def test_an_own_rule_sees_both_texts_and_may_give_part_of_the_reward(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def near(answer, output):\n    return 1 - abs(float(answer) - float(output))\n"
    )
    kind = f"{file}:near"
    assert equal(kind, "1", "1")
    assert not equal(kind, "1", "0.5")
    reward = GivesAnswer(rule(kind), ("1",))
    assert reward(Output((), "0.75", complete=True)) == 0.75
    file.write_text("def near(answer, output):\n    return 'yes'\n")
    with pytest.raises(InvalidInput, match=r"must return True, False or a number, got 'yes'"):
        equal(kind, "1", "1")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nubmer", "Did you mean 'number'"),
        ("regex:(", "not a regular expression"),
        ("", "answer must be one of exact, number"),
        (3, "got 3"),
        ("nowhere.py:f", "cannot read the file"),
    ],
)
def test_kinds_that_are_none(kind: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        equal(kind, "1", "1")
    with pytest.raises(InvalidInput, match="output must be text, got 1"):
        equal("exact", "1", 1)  # type: ignore[arg-type]


def test_reward_and_verifier_use_one_rule() -> None:
    by = rule("number")
    reward, verifier = GivesAnswer(by, ("36",)), MayGiveAnswer(by, ("36",))
    for text in ("36", "35", "", "#### 36"):
        done = Output((), text, complete=True)
        assert verifier(done) is (reward(done) >= 1.0)
        assert verifier(Output((), text, complete=False))  # it can still come to say 36
        assert reward(Output((), text, complete=False)) == 0.0
    assert GivesAnswer(by, ("1", "36"))(Output((), "36", complete=True)) == 1.0
