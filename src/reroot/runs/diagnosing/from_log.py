"""A diagnosis from the log of a trainer alone: as far as rewards, texts and groups go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._version import __version__
from ...diagnosis.causes import Cause, Evidence, Ruling, RunningTest, rule
from ...diagnosis.first_signal import posterior
from ...diagnosis.intervals import clopper_pearson
from ...randomness import keyed_rng, stream_key
from .forecast import Seen, by_group
from .patient import FIRST, group_test
from .trainer_log import Row, TrainerLog

_NOTE = (
    "no model was asked: what the judge, the horizon, the law or access keep away cannot be told apart; "
    "name --model and --task for that"
)


def diagnose_log(
    log: TrainerLog, *, group: int, per_step: int, pass_at: float, seed: int
) -> dict[str, Any]:
    """The summary of a diagnosis, from a log with completions; without them its findings alone.

    Rates are those of the completions in their order, though the policy may have moved meanwhile.
    """
    prompts = list(log.by_prompt().items())
    found = [(prompt, rows, _ruling(rows, group, pass_at)) for prompt, rows in prompts]
    summary: dict[str, Any] = {
        "kind": "diagnose",
        "version": __version__,
        "model": "",
        "tasks": [log.kind],
        "grants": "nothing",
        "group": group,
        "per_step": per_step,
        "budget_tokens": 0,
        "remedy_tokens": None,
        "seed": seed,
        "tokens": 0,
        "notes": [_NOTE, *log.findings()],
        "trainer_log": log.to_json(),
        "shares": shares([ruling for _, _, ruling in found]),
        "problems": [_problem(prompt, rows, r, pass_at) for prompt, rows, r in found],
        "forecast": None,
        "remedies": [],
    }
    if prompts:
        first = [rows[:FIRST] for _, rows in prompts]
        passed = [sum(row.reward >= pass_at for row in rows) for rows in first]
        attempts = [len(rows) for rows in first]
        draws = posterior(passed, attempts, keyed_rng(stream_key(seed, "diagnosis", "log")))
        length = sum(len(row.completion) for row in log.rows) / len(log.rows)
        summary["forecast"] = by_group(Seen(passed, attempts), draws, group, per_step, length, seed)
    return summary


def _ruling(rows: Sequence[Row], group: int, pass_at: float) -> Ruling:
    hits = [row.reward >= pass_at for row in rows]
    test = group_test(group)
    fault, seen = "", dict[str, float]()
    for row in rows:
        if seen.setdefault(row.completion, row.reward) != row.reward:
            fault = f"one text got the rewards {seen[row.completion]:g} and {row.reward:g}"
    passes = RunningTest(test).feed(hits).claim
    fails = RunningTest(test).feed(not hit for hit in hits).claim
    return rule(Evidence(passes=passes, fails=fails, judge_fault=fault))


def shares(rulings: Sequence[Ruling]) -> dict[str, dict[str, Any]]:
    """Cause → share of problems, from the lower bound of the definite ones to the upper with all undecided."""
    count, causes = max(1, len(rulings)), [r.cause for r in rulings]
    unknown = causes.count(Cause.UNDETERMINED)
    found: dict[str, dict[str, Any]] = {}
    for cause in Cause:
        seen = causes.count(cause)
        most = seen + (0 if cause == Cause.UNDETERMINED else unknown)
        low, high = clopper_pearson(seen, count).low, clopper_pearson(most, count).high
        found[cause] = {"problems": seen, "share": seen / count, "interval": [low, high]}
    return found


def _problem(prompt: str, rows: Sequence[Row], ruling: Ruling, pass_at: float) -> dict[str, Any]:
    first = [row.reward >= pass_at for row in rows[:FIRST]]
    passed = [row for row in rows if row.reward >= pass_at]
    failed = [row for row in rows if row.reward < pass_at]
    low, high = clopper_pearson(sum(first), len(first))
    return {
        "id": prompt[-80:],
        "task": "",
        "cause": str(ruling.cause),
        "causes": [str(cause) for cause in ruling.causes],
        "why": ruling.why,
        "reach": sum(first) / len(first),
        "interval": [low, high],
        "how": f"{sum(first)} of {len(first)} completions",
        "first_rollouts": [sum(first), len(first)],
        "rollouts": len(rows),
        "passed": len(passed),
        "abstained": 0,
        "truncated": 0,
        "answer": "",
        "verifier_sound": False,
        "walks": [0, 0],
        "stuck": None,
        "forced_logprobs": None,
        "forced_cost": None,
        "cuts": {},
        "examples": [
            {"text": row.completion[-400:], "reward": row.reward, "passed": row.reward >= pass_at}
            for row in (*passed[:1], *failed[:2])
        ],
        "tokens_to_decide": None,
    }
