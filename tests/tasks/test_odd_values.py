"""Values that no file, key or array can hold are refused by name: in problems, JSONL and families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reroot import InvalidInput, Problem, families
from reroot.checks import check_int
from reroot.tasks import get_task

LONG = "9" * 5000
LINE = '{"prompt": "a", "answer": "b", "max_tokens": 4}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINE.replace("4", LONG), "line 1: not a JSON object"),
        (LINE.replace("4", LONG).replace("max_tokens", "id"), "line 1: not a JSON object"),
        (
            LINE.replace("4", LONG[:4000]),
            "max_tokens must be an integer in 1…1,000,000,000, got one of 13,288 bits",
        ),
        ('{"prompt": "\\ud800", "answer": "b"}', "line 1: prompt has a lone surrogate"),
        ('{"prompt": "a", "answer": "x\\udfff"}', "line 1: answer has a lone surrogate"),
        ('{"prompt": "a", "answer": "b", "id": "\\ud800"}', "line 1: id has a lone surrogate"),
        ('{"prompt": "a", "answer": "b", "stop": "\\ud800"}', "line 1: a stop text has a lone"),
    ],
)
def test_lines_that_no_file_can_hold(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "t.jsonl").write_text(line)
    with pytest.raises(InvalidInput, match=said):
        get_task(str(tmp_path / "t.jsonl"))


@pytest.mark.parametrize("name", ["a\0.jsonl", "a\0.py:f", "copy\t", "running_parity:width=3\0"])
def test_names_with_control_characters(name: str) -> None:
    with pytest.raises(InvalidInput, match="control character"):
        get_task(name)


@pytest.mark.parametrize("value", [3, None, b"hidden_path", ["hidden_path"]])
def test_families_are_named_by_text(value: Any) -> None:
    with pytest.raises(InvalidInput, match="a family is named by text"):
        families.parse(value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("noisy_parity\t:H=12", "control character"),
        (f"noisy_parity:H=12,alpha={LONG}", "is too large"),
        (f"noisy_parity:H={LONG}", "is too large"),
        ("noisy_parity:H=none", "H must be an integer"),
        ("hidden_path:K=4,H=4,p=true", "p must be a finite number"),
        ("hidden_path:K=4,H=4,p=nan", "p must be a finite number"),
    ],
)
def test_odd_specs_of_families(spec: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        families.parse(spec)


ODD = [np.ones(2), np.ones((2, 2)), float("nan"), {"a"}, 10**400, "\ud800"]


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "field",
    ["id", "prompt", "max_tokens", "reward", "verifier", "demonstration", "unique", "stop", "horizon", "pass_at", "answer", "value"],
)  # fmt: skip
def test_odd_fields_of_problems(field: str, value: Any) -> None:
    plain: dict[str, Any] = {"id": "a", "prompt": "p", "max_tokens": 3, "reward": print}
    with pytest.raises(InvalidInput, match=field):
        Problem(**{**plain, field: value})


def test_integers_that_are_too_long_for_a_text() -> None:
    with pytest.raises(InvalidInput, match=r"n must be an integer in 0…9, got one of 16,610 bits"):
        check_int("n", 10**5000, 0, 9)
    assert check_int("n", 10**5000) == 10**5000
