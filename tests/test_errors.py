"""Errors: one root, useful messages, and the same error after a trip between processes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot import errors
from reroot.errors import (
    AccessDenied,
    AccountExceeded,
    BudgetExceeded,
    InvalidInput,
    MissingDependency,
    RerootError,
    nearest,
)

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, RerootError)]
EXAMPLES = [
    AccessDenied("Query(1 x length 1 from [3], full)", "the contract says no", "chosen/full"),
    BudgetExceeded("tokens", 12_000, 345),
    AccountExceeded("tokens", 12_000, 345),
    *(
        c("what went wrong")
        for c in CLASSES
        if c not in (AccessDenied, BudgetExceeded, AccountExceeded)
    ),
]


def test_the_examples_are_all_the_errors() -> None:
    assert {type(e) for e in EXAMPLES} == set(CLASSES)
    assert len(CLASSES) >= 8


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_errors_survive_pickling_and_copying(error: RerootError) -> None:
    protocols = [pickle.loads(pickle.dumps(error, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*protocols, copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_refusals_say_what_and_why() -> None:
    denied, exceeded, account = EXAMPLES[:3]
    assert str(denied) == (
        "refused Query(1 x length 1 from [3], full): the contract says no. "
        "The weakest contract that allows it: chosen/full."
    )
    assert str(exceeded) == ("the request may cost 12,000 tokens, but 345 are left of the budget")
    assert str(account).endswith("345 are left of the key's account")
    assert (
        vars(account)
        == vars(exceeded)
        == {"currency": "tokens", "requested": 12_000, "remaining": 345}
    )


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(InvalidInput, ValueError)
    assert issubclass(MissingDependency, ImportError)
    for error in CLASSES:
        assert issubclass(error, RerootError)
        assert error.__doc__


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("plurality_wlak", " Did you mean 'plurality_walk'?"),
        ("best_of", " Did you mean 'best_of_n'?"),
        ("best_of_n", " Did you mean 'best_of_n'?"),
        ("xyzzy", " Known: best_of_n, plurality_walk."),
        ("", " Known: best_of_n, plurality_walk."),
    ],
)
def test_the_nearest_name_is_suggested(name: str, hint: str) -> None:
    assert nearest(name, ["plurality_walk", "best_of_n"]) == hint
    assert nearest(name, iter(["plurality_walk", "best_of_n"])) == hint


def test_nothing_known_nothing_suggested() -> None:
    assert nearest("anything", []) == ""


@given(st.text(max_size=20), st.lists(st.text(max_size=10), max_size=5))
def test_a_suggestion_is_one_of_the_known_names(name: str, known: list[str]) -> None:
    hint = nearest(name, known)
    suggested: list[Any] = [k for k in known if hint == f" Did you mean {k!r}?"]
    assert suggested or hint == (f" Known: {', '.join(sorted(known))}." if known else "")
