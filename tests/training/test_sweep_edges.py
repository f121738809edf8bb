"""What a sweep is, at its edges: names, numbers, what is of the whole sweep, medians of what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")

from reroot.errors import InvalidInput
from reroot.runs.executors.on_ray import OnRay
from reroot.runs.shared import stored
from reroot.training.trl import sweep as module
from reroot.training.trl.sweep import run_sweep, sweep_runs, sweep_summary

WHOLE: dict[str, Any] = {
    "model": "smollm2",
    "task": "copy",
    "steps": 4,
    "arms": {"root": {"strategy": "root"}},
    "seeds": [0],
    "horizons": [2],
}


def arm(name: Any, **settings: Any) -> dict[str, Any]:
    return {"arms": {name: {"strategy": "root", **settings}}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (arm(".hidden"), "an arm's name is of letters"),
        (arm("a" * 61), "an arm's name is of letters"),
        (arm(""), "an arm's name is of letters"),
        (arm(3), "got 3 .YAML reads it so: put it in quotes."),
        ({"arms": {}}, "arms must map names to settings, got {}"),
        ({"arms": ["root"]}, "arms must map names to settings"),
        *((arm("a", **{name: [1]}), f"arm a: {name} is of the whole sweep")
          for name in ("horizon", "seed", "seeds", "horizons", "arms")),
        *(({name: 3}, f"{name} is 3: a sweep has {name}s") for name in ("seed", "horizon")),
        ({"horizons": [2, 4, 2]}, r"horizons repeat: \[2, 4, 2\]"),
        ({"horizons": []}, "horizons must be as in"),
        ({"horizons": [2.0]}, "horizons must be an integer >= 1"),
        ({"seeds": [-1]}, "seeds must be an integer >= 0, got -1"),
        ({"seeds": []}, "seeds must be as in"),
        ({"seeds": True}, "seeds must be"),
        ({"seeds": 100_001}, "seeds must be an integer in 1…100,000"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_no_sweep_is_refused_by_name(more: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sweep_runs({**WHOLE, **more}, "here")


def test_as_many_runs_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 6)
    several = {**WHOLE, "arms": {"a" * 60: {}, "b.c+d-e_f": {"beta": 0.1}}, "seeds": 3}
    found = sweep_runs({**several, "horizons": [1]})
    assert [(run.arm[:2], run.horizon, run.seed) for run in found] == [
        *(("aa", 1, seed) for seed in range(3)),
        *(("b.", 1, seed) for seed in range(3)),
    ]
    with pytest.raises(InvalidInput, match="asks for 12 runs; at most 6"):
        sweep_runs({**several, "horizons": [1, 2]})


def test_runs_of_no_or_of_one_name_are_refused(tmp_path: Path) -> None:
    runs = sweep_runs(WHOLE)
    for wrong in ([], [*runs, *runs]):
        with pytest.raises(InvalidInput, match="runs of different names"):
            run_sweep(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_failed_is_told_and_made_again_and_a_lost_worker_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of one run are its own, but for those that are faults of the program."""
    errors: list[BaseException | None] = [ValueError("a  b\nc"), RuntimeError("x" * 600), None]

    def train_run(config: Any, folder: Path) -> dict[str, Any]:
        error = errors.pop(0)
        if error is not None:
            raise error
        return {"reason": "steps", "steps": 4, "spent": {"tokens": 8}, "evaluation": None}

    monkeypatch.setattr(module, "train_run", train_run)
    runs, said = sweep_runs({**WHOLE, "seeds": 3}), list[str]()
    swept = run_sweep(runs, tmp_path / "out", on_run=said.append)
    assert swept.summary["failed"] == {
        "root-H2-s0": "ValueError: a b c",
        "root-H2-s1": f"RuntimeError: {'x' * 500}",
    }
    assert said == ["root-H2-s0: ValueError: a b c", f"root-H2-s1: RuntimeError: {'x' * 500}",
                    "root-H2-s2: steps"]  # fmt: skip
    (row,) = swept.summary["rows"]
    assert (row["planned"], row["made"], row["failed"], row["pass_at_1"]) == (3, 1, 2, None)
    errors += [None, KeyError("a fault")]
    with pytest.raises(KeyError):
        run_sweep(runs, tmp_path / "out")


def line(**more: Any) -> dict[str, Any]:
    return {"failed": "", "reason": "steps", "steps": 4, "tokens": 8, "pass_at_1": None, **more}


def test_rows_are_medians_of_what_is_made() -> None:
    place = {"arm": "a", "horizon": 2, "seed": 0, "settings": {}}
    config = {"runs": {**{f"a{i}": place for i in range(5)}, "b0": {**place, "arm": "b"}}}
    lines = {
        "a0": line(reason="target", steps=2, tokens=10, pass_at_1=0.5),
        "a1": line(steps=4, tokens=40, pass_at_1=0.25),
        "a2": line(steps=9, tokens=20),
        "a3": {"name": "a3", "failed": "no"},
    }
    first, second = sweep_summary(config, lines)["rows"]
    assert first == {
        "arm": "a",
        "horizon": 2,
        "planned": 5,
        "made": 3,
        "failed": 1,
        "target": 1,
        "steps": 4,
        "tokens": 20,
        "pass_at_1": 0.375,
    }
    empty = dict.fromkeys(("steps", "tokens", "pass_at_1"))
    assert second == {"arm": "b", "horizon": 2, "planned": 1, "made": 0, "failed": 0, "target": 0, **empty}  # fmt: skip


def test_a_cluster_does_not_see_the_copy_of_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REROOT_CACHE", str(tmp_path / "cache"))
    address = f"file://{tmp_path}/store"
    with (
        stored(address) as folder,
        pytest.raises(InvalidInput, match=f"a path that they all see, got {address}"),
    ):
        run_sweep(sweep_runs(WHOLE), folder, executor=OnRay("127.0.0.1:1", 2))
