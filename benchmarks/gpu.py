"""The prefix-tree engine on an accelerator: are its laws and draws right there, and how fast is it?

    python benchmarks/gpu.py [--shapes 135M,1B] [--device cuda] [--minutes 6]

Random weights of two shapes; nothing is downloaded, and nothing but torch, transformers, NumPy, SciPy
and this repository is needed (PYTHONPATH=src). Laws are compared with plain forward passes of the
strings one by one, draws with the laws, and times with ``generate`` and with one forward each, in this
process on the same weights. What a time limit leaves no room for is said. Results go to
``benchmarks/results/gpu-CARD.json``; the exit status is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import interleaved, text_tokens, tree_levels
from scipy.stats import chisquare
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from reroot.generators.base import Request
from reroot.generators.transformers import Transformers

RESULTS = Path(__file__).parent / "results"
PROMPT = 200
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2},
    "135M": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3},
    "1B": {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8},
}  # fmt: skip
MOST = {"float32": 1e-3, "bfloat16": 1.0}
"""Largest difference of a law's log-probabilities from a plain pass, nats, at the 99.9th percentile."""
DRAWS = 20_000
LEAST = 1e-4
"""p-value below which draws do not follow their law: each check errs once in 10,000."""

Found = dict[str, Any]


class Side:
    """One shape in one dtype: the engine, and the model that it serves."""

    def __init__(self, shape: str, dtype: str, device: str) -> None:
        self.vocab = SHAPES[shape]["vocab_size"]
        config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048, pad_token_id=0)  # type: ignore[arg-type]
        torch.manual_seed(0)
        with torch.device(device):
            model = LlamaForCausalLM(config)
        for name, weight in model.named_parameters():
            if weight.ndim > 1:  # laws that are not flat
                torch.nn.init.normal_(
                    weight, std=1.0 if "embed" in name else weight.shape[1] ** -0.5
                )
        self.plain: Any = model.to(getattr(torch, dtype)).eval()
        words = {f"w{i}": i for i in range(self.vocab)}
        rules = Tokenizer(models.WordLevel(words, unk_token="w0"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, pad_token="w0", eos_token="w1")
        self.engine = Transformers((self.plain, tokenizer), cache_bytes=4 << 30)
        self.device = device

    @torch.inference_mode()
    def law(self, tokens: list[int]) -> np.ndarray[Any, Any]:
        """(K,) nats, by a plain pass of one string."""
        ids = torch.tensor([tokens], device=self.device)
        logits = self.plain(input_ids=ids, logits_to_keep=1).logits[0, -1]
        return torch.log_softmax(logits.double(), dim=-1).cpu().numpy()

    def wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def tokens_below(vocab: int, count: int) -> list[int]:
    return [t % (vocab - 200) + 100 for t in text_tokens(count)]


def laws(side: Side, dtype: str) -> Found:
    """64 of 256 branching prefixes after a prompt, asked level by level, beside plain passes."""
    prompt, levels = tokens_below(side.vocab, PROMPT), tree_levels(side.vocab)
    ours = np.concatenate([side.engine.log_laws(prompt, level) for level in levels])
    every = [u for level in levels for u in level]
    places = range(0, len(every), 4)
    apart = [np.abs(ours[i] - side.law([*prompt, *every[i]])) for i in places]
    tail = float(np.quantile(np.concatenate(apart), 0.999))
    variation = max(
        0.5 * float(np.abs(np.exp(ours[i]) - np.exp(side.law([*prompt, *every[i]]))).sum())
        for i in list(places)[:8]
    )
    return {
        "laws": len(apart),
        "largest, nats": float(max(a.max() for a in apart)),
        "99.9th percentile, nats": tail,
        "largest total variation of 8": variation,
        "right": tail <= MOST[dtype],
    }


def draws(side: Side) -> Found:
    """Draws at one prefix beside its law, and the same draws asked in two parts."""
    prompt = tuple(tokens_below(side.vocab, PROMPT))
    side.engine.clear()
    whole = side.engine.answer([Request(prompt, (7,), DRAWS, key=(1, 1))])[0].first_tokens()
    half = DRAWS // 2
    parts = [Request(prompt, (7,), half, key=(1, 1), first=i) for i in (0, half)]
    split = np.concatenate([r.first_tokens() for r in side.engine.answer(parts)])
    law = np.exp(side.engine.log_laws(prompt, [(7,)])[0])
    law /= law.sum()
    expected = DRAWS * law
    seen = np.bincount(whole, minlength=len(law)).astype(float)
    alone = expected >= 10  # the others are one bin
    observed = np.append(seen[alone], seen[~alone].sum())
    wanted = np.append(expected[alone], expected[~alone].sum())
    kept = wanted > 0
    p = float(chisquare(observed[kept], wanted[kept] * observed.sum() / wanted[kept].sum()).pvalue)
    surprisal = -np.log(np.maximum(law, 1e-300))
    mean, square = float((law * surprisal).sum()), float((law * surprisal**2).sum())
    z = (float(surprisal[whole].mean()) - mean) / ((square - mean**2) / DRAWS) ** 0.5
    same = float((whole == split).mean())
    return {"draws": DRAWS, "bins": int(kept.sum()), "p": p, "surprisal z": z, "same in two parts": same,
            "right": p >= LEAST and same == 1.0}  # fmt: skip


def speed(side: Side, repeats: int) -> Found:
    """64 rollouts of 64 tokens beside ``generate``; 256 laws of a tree beside one forward each."""
    prompt = tokens_below(side.vocab, PROMPT)
    levels = tree_levels(side.vocab)
    few = [u for level in levels for u in level][::16]
    request = Request(tuple(prompt), n=64, length=64, key=(0, 1))
    ids = torch.tensor([prompt] * 64, device=side.device)

    def cold(work: Callable[[], object]) -> Callable[[], Callable[[], object]]:
        def prepare() -> Callable[[], object]:
            side.engine.clear()
            side.wait()
            return lambda: (work(), side.wait())

        return prepare

    @torch.inference_mode()
    def generate() -> object:
        return side.plain.generate(ids, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                                   max_new_tokens=64, min_new_tokens=64, pad_token_id=0)  # fmt: skip

    works = {
        "rollouts": cold(lambda: side.engine.answer([request])),
        "generate": cold(generate),
        "tree": cold(lambda: [side.engine.log_laws(prompt, level) for level in levels]),
        "forwards": cold(lambda: [side.law([*prompt, *u]) for u in few]),
    }
    found = interleaved(works, repeats)
    found["forwards"] *= sum(map(len, levels)) / len(few)
    return {
        "seconds": found,
        "rollouts / generate": found["rollouts"] / found["generate"],
        "tree / one forward each": found["tree"] / found["forwards"],
        "rollout tokens per second": 64 * 64 / found["rollouts"],
    }


def card(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"


def measure(
    shapes: list[str], dtypes: list[str], device: str, minutes: float, repeats: int
) -> Found:
    """Everything that fits the time; what does not is said."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    ends = time.perf_counter() + 60 * minutes
    versions = {n: importlib.metadata.version(n) for n in ("torch", "transformers", "numpy")}
    found: Found = {"card": card(device), "versions": versions, "left out": []}
    for shape in shapes:
        for dtype in dtypes:
            name = f"{shape} {dtype}"
            if time.perf_counter() > ends - 20:
                found["left out"].append(name)
                continue
            side = Side(shape, dtype, device)
            mine: Found = {"laws": laws(side, dtype), "draws": draws(side)}
            if time.perf_counter() < ends - 20:
                mine["speed"] = speed(side, repeats)
            found[name] = mine
            print(name, json.dumps(mine, indent=1), flush=True)
            del side
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shapes", default="135M,1B", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = measure(
        options.shapes.split(","), options.dtypes.split(","), options.device, options.minutes, options.repeats
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"gpu-{re.sub('[^A-Za-z0-9]+', '-', found['card'])}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(path)
    checks = [part for mine in found.values() if isinstance(mine, dict) and "laws" in mine
              for part in (mine["laws"], mine["draws"])]  # fmt: skip
    raise SystemExit(0 if checks and all(part["right"] for part in checks) else 1)


if __name__ == "__main__":
    main()
