"""The prefix-tree engine beside its peers, on SmolLM2-135M: medians of interleaved repeats, ratios.

    python benchmarks/engine.py [--dtype float32] [--repeats 3] [--only tree,shared,…]

All sides run in this process, on the same weights and threads. The peer ``genlm-backend`` is optional
(``pip install genlm-backend==0.3.1``); without it its rows are left out. Results go to
``benchmarks/results/engine-DTYPE.json``; ``docs/performance.md`` is made of them.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import gc
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reroot.contract import Report
from reroot.generators.base import Request
from reroot.generators.models import load
from reroot.generators.transformers import Transformers

RESULTS = Path(__file__).parent / "results"
PROMPT = 200
CACHE = 1 << 30
LEVELS = (4, 12, 28, 52, 70, 90)  # 256 prefixes of a tree, depths 1 … 6
Measured = dict[str, Any]
Work = Callable[[], Callable[[], object]]
"""Prepares a round and returns what is timed."""


def text_tokens(n: int) -> list[int]:
    """Tokens of no particular text."""
    return np.random.default_rng(0).integers(100, 40_000, size=n).tolist()


def tree_levels(vocab: int) -> list[list[tuple[int, ...]]]:
    """256 prefixes, level by level; each has its parent in the level above."""
    rng = np.random.default_rng(1)
    levels: list[list[tuple[int, ...]]] = [[()]]
    for size in LEVELS:
        found: dict[tuple[int, ...], None] = {}
        while len(found) < size:
            parent = levels[-1][rng.integers(len(levels[-1]))]
            found[(*parent, int(rng.integers(100, vocab - 100)))] = None
        levels.append(list(found))
    return levels[1:]


class Sides:
    """The same model as each side wants it: through the tree, plain, and the peer's wrapper."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.plain, self.tokenizer = load("smollm2", dtype=dtype)
        self.plain.eval()
        self.engine = Transformers("smollm2", dtype=dtype, cache_bytes=CACHE)
        self.vocab = self.engine.vocab_size

    def peer(self, batch_size: int) -> Any:
        from genlm.backend.llm.hf import AsyncTransformer  # pyright: ignore

        return AsyncTransformer(self.plain, self.tokenizer, batch_size=batch_size)


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(works: dict[str, Work], repeats: int) -> dict[str, float]:
    """Median seconds of each work, all of them once per round; what prepares it is not timed."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work()))
    return {name: statistics.median(each) for name, each in times.items()}


# ---- works ---------------------------------------------------------------------------------------


@torch.inference_mode()
def plain_law(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([list(tokens)]), logits_to_keep=1).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def tree(sides: Sides, repeats: int) -> Measured:
    """256 distinct next-token laws in a tree over a 200-token prompt that is cached on both sides."""
    prompt, levels = text_tokens(PROMPT), tree_levels(sides.vocab)
    every = [u for level in levels for u in level]
    few = every[:: len(every) // 8]

    def cached() -> Transformers:
        sides.engine.clear()
        sides.engine.log_laws(prompt, [()])
        return sides.engine

    def level_by_level() -> Callable[[], object]:
        engine = cached()
        return lambda: [engine.log_laws(prompt, level) for level in levels]

    def known() -> Callable[[], object]:
        engine = cached()
        return lambda: engine.log_laws(prompt, every)

    def one_by_one() -> Callable[[], object]:
        return lambda: [plain_law(sides.plain, [*prompt, *u]) for u in few]

    def genlm(batch_size: int) -> Work:
        def prepare() -> Callable[[], object]:
            peer = sides.peer(batch_size)
            peer.cache_kv(prompt)

            async def ask() -> None:
                for level in levels:
                    asked = (peer.next_token_logprobs([*prompt, *u]) for u in level)
                    await asyncio.gather(*asked)

            return lambda: asyncio.run(ask())

        return prepare

    works: dict[str, Work] = {
        "engine, level by level": level_by_level,
        "engine, tree known in advance": known,
        "transformers, one forward each": one_by_one,
    }
    if has_peer():
        works |= {f"genlm-backend, batches of {b}": genlm(b) for b in (8, 20, 64)}
    found = interleaved(works, repeats)
    found["transformers, one forward each"] *= len(every) / len(few)
    return {"laws": len(every), "plain_measured_on": len(few), "seconds": found}


def shared(sides: Sides, repeats: int) -> Measured:
    """64 one-step queries after one shared prefix of 256 tokens that is cached on both sides."""
    prompt, ids = text_tokens(256), text_tokens(1000)[-64:]
    with torch.inference_mode():
        past = sides.plain(input_ids=torch.tensor([prompt]), use_cache=True).past_key_values

    @torch.inference_mode()
    def copied() -> None:
        rows = copy.deepcopy(past)
        rows.batch_repeat_interleave(64)
        logits = sides.plain(input_ids=torch.tensor(ids)[:, None], past_key_values=rows).logits
        torch.log_softmax(logits[:, -1].float(), dim=-1)

    def ours() -> Callable[[], object]:
        sides.engine.clear()
        sides.engine.log_laws(prompt, [()])
        return lambda: sides.engine.log_laws(prompt, [(token,) for token in ids])

    works: dict[str, Work] = {"engine": ours, "transformers, KV copied per row": lambda: copied}
    return {"seconds": interleaved(works, 3 * repeats)}


def rollouts(sides: Sides, repeats: int) -> Measured:
    """64 rollouts of 64 tokens at T = 1 from one prompt of 200 tokens, the prompt included."""
    prompt = text_tokens(PROMPT)
    request = Request(tuple(prompt), n=64, length=64, report=Report.SAMPLE, key=(0, 1))

    def ours() -> Callable[[], object]:
        sides.engine.clear()
        return lambda: sides.engine.answer([request])

    @torch.inference_mode()
    def generate() -> None:
        sides.plain.generate(
            torch.tensor([prompt] * 64), do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
            max_new_tokens=64, min_new_tokens=64, pad_token_id=0,
        )  # fmt: skip

    works: dict[str, Work] = {"engine": ours, "transformers generate": lambda: generate}
    return {"tokens": 64 * 64, "seconds": interleaved(works, repeats)}


def step(sides: Sides, repeats: int) -> Measured:
    """One decode step at batch 64 against the floor: the weights alone, as a chain of products."""
    prompt = tuple(text_tokens(PROMPT))
    weights = [m.weight.detach() for m in sides.plain.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {w.shape[1]: torch.randn(64, w.shape[1]).to(w.dtype) for w in weights}
    starts = np.random.default_rng(2).integers(100, 40_000, size=64).tolist()

    @torch.inference_mode()
    def floor() -> None:
        for w in weights:
            torch.nn.functional.linear(inputs[w.shape[1]], w)

    def ours() -> Callable[[], object]:
        sides.engine.clear()
        sides.engine.log_laws(prompt, [(a,) for a in starts])
        asked = [Request(prompt, (a, 7), key=(1, i)) for i, a in enumerate(starts)]
        return lambda: sides.engine.answer(asked)

    return {"seconds": interleaved({"engine": ours, "floor": lambda: floor}, 3 * repeats)}


def draws(sides: Sides, repeats: int) -> Measured:
    """1,000 conditional draws at one prefix against one law there."""
    prompt = tuple(text_tokens(PROMPT))

    def cached() -> Transformers:
        sides.engine.clear()
        sides.engine.log_laws(prompt, [()])
        return sides.engine

    def law() -> Callable[[], object]:
        engine = cached()
        return lambda: engine.log_laws(prompt, [(7,)])

    def draw() -> Callable[[], object]:
        engine, request = cached(), Request(prompt, (7,), 1000, key=(1, 1))
        return lambda: engine.answer([request])

    return {"seconds": interleaved({"one law": law, "1,000 draws": draw}, 5 * repeats)}


def growth(sides: Sides, repeats: int) -> Measured:
    """Queries 64 → 4,096 in one tree of ever deeper levels: seconds per query, and memory."""
    prompt, rng, found = text_tokens(PROMPT), np.random.default_rng(3), list[Measured]()
    for total in (64, 256, 1024, 4096):
        sides.engine.clear()
        sides.engine.log_laws(prompt, [()])
        level: list[tuple[int, ...]] = [()]
        started = time.perf_counter()
        for _ in range(total // 64):
            ids = rng.integers(100, 40_000, size=64).tolist()
            level = [(*level[rng.integers(len(level))], token) for token in ids]
            sides.engine.log_laws(prompt, level)
        spent, peak = time.perf_counter() - started, sides.engine.physical().peak_bytes
        found.append({"queries": total, "seconds_per_query": spent / total, "peak_bytes": peak})
    return {"growth": found, "cache_bytes": CACHE}


WORKS: dict[str, Callable[[Sides, int], Measured]] = {
    "tree": tree, "shared": shared, "rollouts": rollouts, "step": step, "draws": draws, "growth": growth,
}  # fmt: skip


# ---- running -------------------------------------------------------------------------------------


def has_peer() -> bool:
    try:
        return bool(importlib.metadata.version("genlm-backend"))
    except importlib.metadata.PackageNotFoundError:
        return False


def machine() -> dict[str, str]:
    names = ("torch", "transformers", "numpy", "genlm-backend")
    versions = {
        n: importlib.metadata.version(n) for n in names if n != "genlm-backend" or has_peer()
    }
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.processor(),
    ) if Path("/proc/cpuinfo").exists() else platform.processor()  # fmt: skip
    return {"cpu": cpu, "threads": str(torch.get_num_threads()), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORKS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sides = Sides(options.dtype)
    found: Measured = {"dtype": options.dtype, "machine": machine()}
    for name in options.only.split(","):
        found[name] = WORKS[name](sides, options.repeats)
        print(name, json.dumps(found[name], indent=1), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"engine-{options.dtype}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
