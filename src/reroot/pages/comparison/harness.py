"""A comparison as results of the lm-evaluation-harness, for what reads those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...runs.folder import write_json
from ..kit.formatting import judged


def harness_results(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of the harness's ``results_….json`` (its version 0.4), one entry per cell.

    An entry is named ``TASK/H8 | LEARNER | CONTRACT`` (without ``/H8`` where the task has no horizon), as the
    harness's tasks are by name. Given are:

    * ``results``: ``alias``, ``acc,none`` (the pass rate; each line counts once), ``acc_stderr,none``
      (s/√C over C lines; ``"N/A"``, as the harness writes it, of one), ``reward,none`` (the mean);
    * ``n-samples``: ``original``, the attempts, and ``effective``, those that were judged;
    * ``configs``: the learner, contract, control, horizon and number of lines, as ``metadata``;
    * ``versions``, ``n-shot``, ``higher_is_better``, ``group_subtasks``; ``config`` (model, beta, budget,
      seeds); ``model_name``, ``reroot_version``.

    What the harness alone knows (hashes, dates, seeds of libraries) is left out. Cells where nothing was
    judged have no ``acc,none``.
    """
    cells = {_name(cell): cell for cell in summary["cells"]}
    return {
        "results": {name: _result(cell) for name, cell in cells.items()},
        "group_subtasks": {name: [] for name in cells},
        "configs": {name: _config(name, cell) for name, cell in cells.items()},
        "versions": dict.fromkeys(cells, 0),
        "n-shot": dict.fromkeys(cells, 0),
        "higher_is_better": {name: {"acc": True, "reward": True} for name in cells},
        "n-samples": {
            name: {"original": cell["attempts"], "effective": judged(cell)}
            for name, cell in cells.items()
        },
        "config": {
            "model": "reroot",
            "model_args": f"model={summary['model']}",
            **{key: summary[key] for key in ("beta", "budget", "seeds", "problems", "command")},
        },
        "model_source": "reroot",
        "model_name": summary["model"],
        "reroot_version": summary["version"],
    }


def write_harness(summary: Mapping[str, Any], file: Path) -> Path:
    """Write ``harness_results`` to a file; its path (``RunFolderError`` where it cannot be)."""
    write_json(file, harness_results(summary))
    return file


def _name(cell: Mapping[str, Any]) -> str:
    at = f"/H{cell['horizon']}" if cell["horizon"] else ""
    return f"{cell['task']}{at} | {cell['short']} | {cell['contract']}"


def _result(cell: Mapping[str, Any]) -> dict[str, Any]:
    error = cell["pass_stderr"]
    found: dict[str, Any] = {"alias": f"{cell['short']}, {cell['control']}/{cell['report']}"}
    if cell["pass_rate"] is not None:
        found["acc,none"] = cell["pass_rate"]
        found["acc_stderr,none"] = "N/A" if error is None else error
    if cell["reward"] is not None:
        found["reward,none"] = cell["reward"]
    return found


def _config(name: str, cell: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("task", "horizon", "learner", "contract", "control", "report", "sampling", "clusters")
    metadata = {"version": 0, **{key: cell[key] for key in kept}}
    return {"task": name, "output_type": "generate_until", "metadata": metadata}
