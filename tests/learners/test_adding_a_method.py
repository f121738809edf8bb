"""``docs/adding_a_method.md``: its example is run as it stands there, with its registry line and its case."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import test_learners_contracts as contracts

import reroot
from reroot import Budget
from reroot.certify import cases as all_cases
from reroot.certify import certify
from reroot.certify.toys import SHORT
from reroot.cli import main
from reroot.learners import LearnerFactory, get_learner, registry

PAGE = Path(__file__).parents[2] / "docs" / "adding_a_method.md"
METHOD, _, CASE = re.findall(
    r"```python[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
)


def made(method: str = METHOD) -> dict[str, Any]:
    """Both files of the page, as one module."""
    module: dict[str, Any] = {"__name__": "adding_a_method"}
    exec(compile(method + CASE, str(PAGE), "exec"), module)
    return module


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The example, with its registry line and its case."""
    module = made()
    monkeypatch.setattr(registry, "_LEARNERS", (*registry._LEARNERS, module["agreement"]))
    monkeypatch.setattr(all_cases, "_CASES", (*all_cases._CASES, module["agreement_cases"]))
    return module


def test_the_example_has_ten_lines() -> None:
    """Of code: decorator, head and body without the docstring."""
    (function,) = (x for x in ast.parse(METHOD).body if isinstance(x, ast.AsyncFunctionDef))
    docstring, last = function.body[0], function.end_lineno
    assert docstring.end_lineno is not None
    assert last is not None
    assert len(function.decorator_list) + 1 + last - docstring.end_lineno <= 10


def test_the_file(module: dict[str, Any]) -> None:
    """It runs on a toy under what it requires, and ends where its budget does."""
    agreement = module["agreement"]
    assert isinstance(agreement, LearnerFactory)
    problem, grants = SHORT.problem(), agreement().requires
    (attempt,) = reroot.run(agreement(), [problem], SHORT.generator, grants=grants).attempts
    assert attempt.output is not None
    assert attempt.output.tokens in SHORT.tree.outputs
    assert attempt.cost.rollouts % 2 == 0
    budget = Budget(rollouts=3)
    (short,) = reroot.run(
        agreement(tries=50), [problem], SHORT.generator, grants=grants, budget=budget
    ).attempts
    assert short.error is None
    assert short.cost.rollouts <= 3


def test_the_registry_line(module: dict[str, Any]) -> None:
    assert get_learner("agreement:tries=3").params == {"tries": 3}


def test_it_is_held_to_its_contract_like_every_other_one(module: dict[str, Any]) -> None:
    contracts.test_runs_under_exactly_what_it_requires("agreement", contracts.ENDING)
    contracts.test_is_refused_under_anything_less("agreement")
    contracts.test_requires_no_more_than_it_uses("agreement")
    contracts.test_stronger_contracts_change_nothing("agreement")
    contracts.test_budgets_are_kept_and_what_was_found_is_returned("agreement")
    contracts.test_registry_lists_learners_with_their_summaries()


@pytest.mark.slow(1)
def test_the_case(module: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = map(certify, all_cases.cases_of("agreement"))
    assert found.holds
    assert found.stated is not None
    assert found.stated.tv < 1e-12
    assert found.aimed is not None
    assert 0 < found.aimed.tv < 0.1
    main(["certify", "agreement"])
    assert "1 method, 1 case: 1 hold" in capsys.readouterr().out


def test_the_break_that_the_page_proposes_is_seen() -> None:
    assert "with `first != second`" in PAGE.read_text(encoding="utf-8")
    (case,) = made(METHOD.replace("first == second", "first != second"))["agreement_cases"]()
    assert certify(case).holds is False


def test_all_that_the_page_names_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("registry.py", "learners/common.py", "cases/chains.py", "cases/weighted.py"):
        assert name in text
        assert list(Path(reroot.__file__).parent.rglob(f"**/{name}"))
