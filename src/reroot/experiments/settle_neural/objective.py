"""J_β of a small transformer from the root: its reach exactly, its KL from rollouts with exact laws."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...randomness import Key, keyed_rng
from ...types import FloatArray
from .base_policy import exact_reaches, prompt_tokens
from .traces import END

DRAWS = 4
"""Unpaid rollouts of each held-out prompt that a KL is measured on."""


class Value(NamedTuple):
    """What a policy is worth, mean over prompts.

    Attributes:
        value: J_β = reach − β·KL(π ‖ P).
        reach: probability that a rollout is right, exact.
        kl: estimate of KL(π ‖ P) of a whole output, nats.
        error: standard error of ``kl``, nats, the prompts held.
    """

    value: float
    reach: float
    kl: float
    error: float


class Objective:
    """J_β from the root over some prompts of ``running_parity``.

    Args:
        base: P, a causal language model of transformers in evaluation mode.
        tokenizer: one token per character of a prompt.
        task: whose reward it is.
        prompts: W bits and ``=`` each, all of one width W.
        horizon: H <= W, tokens of an output.
        beta: β > 0, reward per nat.

    Attributes:
        best: J*_β, exact: the mean over prompts of β·log E_P[e^{r/β}], as the objective is a mean over
            prompts, each of which has its own optimal law.

    Raises:
        InvalidInput: as ``exact_reaches``.
    """

    def __init__(
        self,
        base: Any,
        tokenizer: Any,
        task: str,
        prompts: Sequence[str],
        horizon: int,
        beta: float,
    ) -> None:
        self.base, self.horizon, self.beta = base, horizon, beta
        self._of = tokenizer, task, list(prompts)
        self._asked = prompt_tokens(tokenizer, prompts)[0]
        self.best = best_value(self._reaches(base), beta)

    def of(self, model: Any, key: Key, draws: int = DRAWS) -> Value:
        """What ``model``, in evaluation mode, is worth.

        Args:
            model: the present policy π.
            key: of the rollouts.
            draws: rollouts of each prompt.
        """
        kl, error = kl_from(self.base, model, self._asked, self.horizon, key, draws)
        reach = float(self._reaches(model).mean())
        return Value(reach - self.beta * kl, reach, kl, error)

    def _reaches(self, model: Any) -> FloatArray:
        """(n,) of each prompt."""
        return exact_reaches(model, *self._of)[:, self.horizon - 1]


def best_value(reaches: FloatArray, beta: float) -> float:
    """Mean of β·log(1 − ρ + ρ·e^{1/β}): J*_β of base policies that are right with probability ρ.

    Args:
        reaches: (n,) ρ of each prompt.
        beta: β > 0, reward per nat.
    """
    return float((beta * np.log1p(reaches * np.expm1(1 / beta))).mean())


@torch.inference_mode()
def kl_from(
    base: Any, model: Any, asked: Tensor, horizon: int, key: Key, draws: int
) -> tuple[float, float]:
    """(KL(π ‖ P) of an output, its standard error), nats: mean over prompts.

    Rollouts of π are drawn from the root, and the KL of the next-token laws is summed along each:
    unbiased, and with less variance than Σ log π/P of the tokens that were drawn.

    Args:
        base, model: P and π, in evaluation mode.
        asked: (n, W) tokens of prompts.
        horizon: most tokens of an output; it ends behind ``END`` as well.
        key: of the rollouts.
        draws: >= 2 rollouts of each prompt.
    """
    asked = asked.repeat_interleave(draws, 0)
    tokens = rollouts(model, asked, keyed_rng(key).random((len(asked), horizon)))
    whole = torch.cat([asked, tokens[:, :-1]], 1)
    own, other = (
        torch.log_softmax(m(whole, use_cache=False).logits[:, -horizon:].double(), -1)
        for m in (model, base)
    )
    ended = (tokens == END).long()
    running = ended.cumsum(1) - ended == 0
    sums = ((own.exp() * (own - other)).sum(-1) * running).sum(1)
    each = sums.view(-1, draws)
    error = each.var(1).div(draws).sum().sqrt() / len(each)
    return float(each.mean()), float(error)


def rollouts(model: Any, asked: Tensor, uniforms: FloatArray) -> Tensor:
    """(n, H) tokens drawn after ``asked`` (n, W) by inverting laws at ``uniforms`` (n, H); what is behind
    an ``END`` means nothing."""
    drawn: list[Tensor] = []
    tokens, past = asked, None
    for chance in torch.from_numpy(uniforms).unbind(1):
        out = model(tokens, past_key_values=past, use_cache=True)
        below = torch.softmax(out.logits[:, -1].double(), -1).cumsum(1)
        found = torch.searchsorted(below, chance[:, None].contiguous().to(below), right=True)
        tokens, past = found.clamp(max=below.shape[1] - 1), out.past_key_values
        drawn.append(tokens)
    return torch.cat(drawn, 1)


def weights_digest(model: Any) -> str:
    """16 hexadecimal digits of all weights, names and shapes."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
