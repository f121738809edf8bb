"""Tabular laws of different shapes, and a sampler chain written out step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reroot.probe.sampling_law import Drawn

ORDERS = {
    "llama.cpp": ("top_k", "top_p", "min_p", "temperature"),
    "transformers": ("temperature", "top_k", "top_p", "min_p"),
    "vLLM": ("temperature", "min_p", "top_k", "top_p"),
}
DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
"""Those of llama-server."""


def normal(logs: np.ndarray) -> np.ndarray:
    logs = np.sort(logs)[::-1]
    return logs - logs[0] - np.log(np.exp(logs - logs[0]).sum())


def flat(vocab: int, rng: np.random.Generator, power: float = 0.9) -> np.ndarray:
    """A power law: no few tokens have much of it."""
    noise = 0.5 * rng.standard_normal(vocab)
    return normal(-power * np.log(np.arange(vocab) + 9.0) + noise)


def peaked(vocab: int, top: float, rng: np.random.Generator) -> np.ndarray:
    """One likely token and a long tail."""
    return normal(np.append(np.log(top), np.log(1 - top) + flat(vocab - 1, rng, 1.0)))


def short(
    vocab: int, several: int, tail: float, rng: np.random.Generator, spread: float = 0.6
) -> np.ndarray:
    """Several tokens of like probability, and little else."""
    head = np.log(1 - tail) + normal(rng.normal(0, spread, several))
    return normal(np.append(head, np.log(tail) + flat(vocab - several, rng)))


def shapes(vocab: int, seed: int = 0) -> list[np.ndarray]:
    """Two flat laws, two peaked ones, an uneven and an even short one."""
    rng = np.random.default_rng(seed)
    return [
        flat(vocab, rng),
        flat(vocab, rng, 1.0),
        peaked(vocab, 0.3, rng),
        peaked(vocab, 0.5, rng),
        short(vocab, 6, 0.03, rng),
        short(vocab, 20, 0.02, rng, 0.3),
    ]


def sampled(
    logs: np.ndarray,
    temperature: float = 1.0,
    top_k: float = np.inf,
    top_p: float = 1.0,
    min_p: float = 0.0,
    order: str = "llama.cpp",
) -> np.ndarray:
    """Probabilities that a chain of samplers draws from; ``logs`` in any order."""
    rank = np.argsort(-logs, kind="stable")
    now, alive = logs[rank], np.ones(len(logs), dtype=bool)
    for step in ORDERS[order]:
        p = np.where(alive, np.exp(now - now[0]), 0.0)
        p /= p.sum()
        if step == "temperature":
            now = now / temperature
        elif step == "top_k":
            alive &= np.arange(len(now)) < top_k
        elif step == "top_p" and top_p < 1:
            alive &= np.cumsum(p) - p < top_p
        elif step == "min_p":
            alive &= p >= min_p * p[0]
    p = np.zeros(len(logs))
    p[rank] = np.where(alive, np.exp(now - now[0]), 0.0)
    return p / p.sum()


def penalized(
    logs: np.ndarray,
    used: Sequence[int],
    constant: float,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> np.ndarray:
    """Logits with penalties on them: ``logs + constant`` are the logits."""
    counts = np.bincount(np.array(used, dtype=int), minlength=len(logs))
    logits = logs + constant
    scaled = np.where(logits > 0, logits / repetition, logits * repetition)
    return np.where(counts > 0, scaled - presence, logits) - frequency * counts


def drawn(
    logs: np.ndarray,
    p: np.ndarray,
    n: int,
    rng: np.random.Generator,
    listed: int | None = None,
    prefix: Sequence[int] | None = None,
) -> Drawn:
    """n draws from p beside a stated list; the last token of the vocabulary stands in the prefix."""
    k, at = listed or len(logs), tuple(prefix) if prefix is not None else (len(logs) - 1,)
    return Drawn(np.arange(k), logs[:k], rng.choice(len(p), n, p=p), at, len(logs))


def everywhere(
    laws: Sequence[np.ndarray],
    counts: Sequence[int],
    seed: int,
    listed: int | None = None,
    **settings: float | str,
) -> list[Drawn]:
    """Draws at every law, with the same settings."""
    rng = np.random.default_rng(seed)
    return [
        drawn(logs, sampled(logs, **settings), n, rng, listed)  # type: ignore[arg-type]
        for logs, n in zip(laws, counts, strict=True)
    ]


def told_draws(one: Drawn, p: np.ndarray, n: int, rng: np.random.Generator) -> Drawn:
    """The same prefix with n other draws."""
    return replace(one, tokens=rng.choice(len(p), n, p=p))
