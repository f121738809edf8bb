"""A small transformer that takes each step of a parity task rightly with probability p.

It is trained from scratch by maximum likelihood on noisy traces: W random bits and ``=`` as the
prompt, and W steps, each of which follows the task's local rule with probability p and its opposite
with 1 − p, whatever was written before. A right output of H steps then has probability p^H up to a
few percent (``exact_reach`` measures it) for every H ≤ W in one and the same network: the horizon is
only where an output ends.

Three things make training short; the maximizer of the likelihood is the same without them.

* The law of the next token of a trace is known. The loss is the cross-entropy against that law, not
  against the token drawn from it: the same expectation, less variance. Only output tokens count.
* The first traces are lopsided: their bits, written ones too, are 1 with a probability below 1/2.
  Parities then correlate with single bits, which a gradient sees; of fair bits it sees nothing at
  first. The targets are the same law.
* Position embeddings start with one code for a step and for the prompt bit that it is about (as in
  abacus embeddings, McLeish et al., arXiv 2405.17399), and queries equal to keys, so that attention
  starts with what belongs together.

No weight is frozen, here or in what is saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...checks import check_between, check_int
from ...errors import InvalidInput, MissingDependency
from ...generators.models import Progress, build_once, cache_folder, quiet, say
from ...randomness import stream_key
from ...types import FloatArray

try:
    import torch
    from torch import Tensor
    from transformers.models.gpt2 import GPT2Config, GPT2LMHeadModel
except ImportError as error:
    raise MissingDependency(
        f"language models need torch and transformers ({error}): pip install 'reroot[lm]'"
    ) from None
from .traces import (
    END,
    ONE,
    PAD,
    VOCABULARY,
    ZERO,
    Traces,
    has_free_bits,
    lopsided_traces,
    noisy_traces,
    tokenizer,
)

_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_VERSION = 1  # of the training code: part of what a cached folder is named by
_HEAD = 0.02  # scale of the output layer at the beginning: laws are nearly uniform there


@dataclass(frozen=True, slots=True)
class Recipe:
    """What training depends on besides task, p and seed.

    Attributes:
        width: W, bits of a prompt and most steps of an output.
        layers, hidden, heads, inner: size of the network; ``inner`` units in an MLP.
        role, sharp: scales at the beginning, of what tells positions of one step apart, and of
            queries and keys; embeddings and codes of steps have scale 1.
        lowest: of the angular frequencies in a step's code, as a share of the highest.
        steps, batch: optimizer steps, and traces in each.
        rate, warm: learning rate of AdamW at its peak, and steps until it is reached; it then falls
            to 0 along a cosine.
        places: learning rate of the position embeddings, as a share of the others'.
        lopsided, least: share of the steps that see lopsided traces, and the least probability of
            a 1 there.
    """

    width: int = 32
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    inner: int = 256
    role: float = 0.3
    sharp: float = 2.0
    lowest: float = 1 / 40
    steps: int = 800
    batch: int = 8
    rate: float = 6e-3
    warm: int = 50
    places: float = 0.1
    lopsided: float = 0.4
    least: float = 0.1


RECIPE = Recipe()


def base_policy(
    task: str,
    *,
    seed: int = 0,
    p: float = 0.6,
    recipe: Recipe = RECIPE,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of the base policy, in the Hugging Face format; trained once, then kept.

    Args:
        task: ``running_parity`` or ``chain_of_parities``.
        seed: of weights and traces.
        p: probability of a right step.
        recipe: network and training.
        folder: where to keep it, in a folder named by all of the above; ``None``: in
            ``models.cache_folder()``.
        progress: told what takes time.

    Raises:
        InvalidInput: unknown task, negative seed, p outside (0, 1), or no step to train.
        BackendError: the folder cannot be written.
    """
    has_free_bits(task)
    seed, p = check_int("seed", seed), check_between("p", p, 0.0, 1.0)
    check_int("steps", recipe.steps, 1)
    named = json.dumps([_VERSION, VOCABULARY, task, seed, p, asdict(recipe)])
    digest = hashlib.blake2b(named.encode(), digest_size=8).hexdigest()
    target = (folder or cache_folder() / "settle-neural") / digest

    def build(partial: Path) -> None:
        say(progress, f"training the base policy of {task} once (about 30 s)")
        started = time.perf_counter()
        model = train_base(task, seed=seed, p=p, recipe=recipe)
        with quiet():
            model.save_pretrained(partial)
        tokenizer().save_pretrained(partial)
        say(progress, f"trained in {time.perf_counter() - started:.0f} s")

    if not _is_complete(target):
        build_once(target, _is_complete, build)
    return target


# ---- training ------------------------------------------------------------------------------------


def train_base(
    task: str, *, seed: int = 0, p: float = 0.6, recipe: Recipe = RECIPE
) -> GPT2LMHeadModel:
    """The trained network, in evaluation mode; the same arguments give the same weights.

    It computes on one thread, so that sums are rounded in one order.
    """
    generator = _generator(seed, task, f"base policy {p}")
    model = new_network(task, recipe, generator)
    places = model.transformer.wpe.weight
    others = [w for w in model.parameters() if w is not places]
    optimizer = torch.optim.AdamW(
        [{"params": others}, {"params": [places]}], betas=(0.9, 0.98), weight_decay=0.0
    )
    with one_thread():
        for step in range(recipe.steps):
            rate = _rate(recipe, step)
            for group, share in zip(optimizer.param_groups, (1.0, recipe.places), strict=True):
                group["lr"] = rate * share
            optimizer.zero_grad()
            _loss(model, _batch(task, p, recipe, step, generator)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model.eval()


def _rate(recipe: Recipe, step: int) -> float:
    rise = min(1.0, (step + 1) / recipe.warm)
    return recipe.rate * rise * (1 + math.cos(math.pi * step / recipe.steps)) / 2


def _batch(task: str, p: float, recipe: Recipe, step: int, generator: torch.Generator) -> Traces:
    if step < recipe.lopsided * recipe.steps:
        return lopsided_traces(task, recipe.batch, recipe.width, p, recipe.least, generator)
    return noisy_traces(task, recipe.batch, recipe.width, p, generator)


def _loss(model: Any, traces: Traces) -> Tensor:
    """Mean cross-entropy of an output token, nats."""
    kept = traces.ones.shape[1]
    logits = model(traces.tokens[:, :-1], use_cache=False, logits_to_keep=kept).logits
    laws = torch.log_softmax(logits, -1)
    return -((1 - traces.ones) * laws[..., ZERO] + traces.ones * laws[..., ONE]).mean()


def new_network(task: str, recipe: Recipe, generator: torch.Generator) -> GPT2LMHeadModel:
    """The network as training begins."""
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(
        vocab_size=len(VOCABULARY),
        n_positions=recipe.width * (3 if has_free_bits(task) else 2) + 2,
        n_embd=recipe.hidden,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_inner=recipe.inner,
        activation_function="relu",
        tie_word_embeddings=False,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=PAD,
        **drops,
    )
    with torch.random.fork_rng(devices=[]):  # the constructor draws weights that are not kept
        model = GPT2LMHeadModel(config)
    with torch.no_grad():
        _initialize(model, task, recipe, generator)
    return model


def _initialize(model: Any, task: str, recipe: Recipe, generator: torch.Generator) -> None:
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.normal_(0.0, len(weight) ** -0.5, generator=generator)
    model.lm_head.weight.normal_(0.0, _HEAD, generator=generator)
    model.transformer.wte.weight.normal_(generator=generator)
    model.transformer.wpe.weight.copy_(_places(task, recipe, generator))
    for block in model.transformer.h:
        query, key, _ = block.attn.c_attn.weight.chunk(3, dim=1)
        key.copy_(query.mul_(recipe.sharp))


def _places(task: str, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """(positions, hidden) embeddings: the code of a step and the position's role in it.

    Position W + t, where output token t is drawn, belongs to the step of that token.
    """
    size = 1 + has_free_bits(task)
    codes = _codes(recipe)
    roles = recipe.role * torch.randn(1 + size, recipe.hidden, generator=generator)
    output = (codes[:, None] + roles[1:]).flatten(0, 1)
    return torch.cat([codes[: recipe.width] + roles[0], output[: size * recipe.width + 2]])


def _codes(recipe: Recipe) -> Tensor:
    """(W + 2, hidden) sines and cosines of the number of a step, mean square 1."""
    half = recipe.hidden // 2
    frequencies = 0.9 * math.pi * recipe.lowest ** (torch.arange(half) / half)
    angles = torch.arange(recipe.width + 2)[:, None] * frequencies
    return math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], 1)


# ---- reach ---------------------------------------------------------------------------------------


def exact_reach(
    model: Any,
    tokenizer: Any,
    task: str,
    prompts: Sequence[str],
    *,
    draws: int = 1,
    seed: int = 0,
) -> FloatArray:
    """(W,) entry H − 1: mean over prompts of the probability that a rollout of H steps is right.

    Arguments and errors: as for ``exact_reaches``.
    """
    return exact_reaches(model, tokenizer, task, prompts, draws=draws, seed=seed).mean(axis=0)


def exact_reaches(
    model: Any,
    tokenizer: Any,
    task: str,
    prompts: Sequence[str],
    *,
    draws: int = 1,
    seed: int = 0,
) -> FloatArray:
    """(n, W) the probability that a rollout of H steps is right, of each prompt, at column H − 1.

    Exact for running_parity. For chain_of_parities an unbiased estimate: free bits are drawn from
    the model behind right steps, and what else must happen is multiplied exactly.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: one token per character of a prompt.
        task: ``running_parity`` or ``chain_of_parities``.
        prompts: W bits and ``=`` each, all of one width W.
        draws: of the free bits, per prompt.
        seed: of the draws.

    Raises:
        InvalidInput: unknown task, prompts of another form, or several characters in a token.
    """
    free, draws = has_free_bits(task), check_int("draws", draws, 1)
    asked, bits = (a.to(model.device) for a in prompt_tokens(tokenizer, prompts))
    zero_one = tokenizer.convert_tokens_to_ids(["0", "1"])
    reader = _Reader(model, torch.tensor(zero_one, device=model.device))
    with torch.inference_mode():
        if free:
            asked, bits = (a.repeat_interleave(draws, 0) for a in (asked, bits))
            steps = reader.chain(asked, bits, _generator(seed, task, "reach"))
        else:
            steps = reader.running(asked, bits)
    right = steps.double().cumsum(1).exp().cpu().numpy()
    return right.reshape(len(prompts), -1, right.shape[1]).mean(axis=1)


class _Reader(NamedTuple):
    """A model, and its tokens for 0 and 1. Logarithms are natural."""

    model: Any
    digits: Tensor

    def running(self, asked: Tensor, bits: Tensor) -> Tensor:
        """(n, W) log-probability of each right step behind right steps."""
        right = self.digits[bits.cumsum(1) % 2]
        tokens = torch.cat([asked, right[:, :-1]], 1)
        laws = torch.log_softmax(self.model(tokens, use_cache=False).logits.float(), -1)
        return laws[:, asked.shape[1] - 1 :].gather(2, right[..., None])[..., 0]

    def chain(self, asked: Tensor, bits: Tensor, generator: torch.Generator) -> Tensor:
        """(n, W) log-probability of: a free bit is a bit, and the step behind it is right."""
        z, steps = torch.zeros_like(bits[:, 0]), []
        law, past = self._next(asked, None)
        for x in bits.unbind(1):
            pair = law[:, self.digits]
            a_bit = pair.logsumexp(1)
            chance = (pair[:, 1] - a_bit).exp().cpu()
            y = (torch.rand(len(chance), generator=generator) < chance).long().to(bits.device)
            z = z ^ y ^ x
            law, past = self._next(self.digits[y][:, None], past)
            steps.append(a_bit + law.gather(1, self.digits[z][:, None])[:, 0])
            law, past = self._next(self.digits[z][:, None], past)
        return torch.stack(steps, 1)

    def _next(self, tokens: Tensor, past: Any) -> tuple[Tensor, Any]:
        """The law behind ``tokens``, and the cache to go on with."""
        out = self.model(tokens, past_key_values=past, use_cache=True)
        return torch.log_softmax(out.logits[:, -1].float(), -1), out.past_key_values


def prompt_tokens(tokenizer: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(n, W + 1) tokens and (n, W) bits of prompts."""
    bad = next((t for t in prompts if not re.fullmatch("[01]+=", t)), None)
    if bad is not None or len({*map(len, prompts)}) != 1:
        raise InvalidInput(
            f"prompts must be texts such as '0110=', all of one length; got {bad or prompts!r}"
        )
    tokens = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    if {*map(len, tokens)} != {len(prompts[0])}:
        raise InvalidInput("exact_reach needs a tokenizer with a token for each character")
    return torch.tensor(tokens), torch.tensor([[int(c) for c in t[:-1]] for t in prompts])


# ---- what is small -------------------------------------------------------------------


def _is_complete(folder: Path) -> bool:
    return all((folder / file).is_file() for file in _FILES)


def _generator(seed: int, task: str, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_key(seed, task, purpose)[0])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The same numbers whatever the machine; and workers run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
