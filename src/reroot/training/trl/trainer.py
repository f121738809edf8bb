"""TRL's ``GRPOTrainer`` with advantages per token: an exact KL term, and strategies that give credit."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from trl.trainer.utils import add_fused_lm_head

from ...errors import InvalidInput
from ...types import PAD, FloatArray
from ..advantages import KL, padded_tokens, token_advantages
from ..group import Group
from .base_trainer import BaseTrainer
from .bridge import Rollouts
from .packing import MOST_LOGITS, log_probabilities, servable


class SessionTrainer(BaseTrainer):
    """``GRPOTrainer`` whose advantages are those of ``training.advantages``.

    All else is TRL's: data, optimizer, checkpoints, logging, distribution. With ``loss_type="dr_grpo"``
    and ``scale_rewards="none"`` the expected update is the gradient stated in
    ``training.advantages``, times 1/max_completion_length; other settings of TRL change the weights
    of rollouts and tokens, as TRL documents. With ``scale_rewards`` "group" or "batch" the reward
    part is TRL's own.

    Args:
        rollouts: made by ``rollouts_for_trl``.
        kl: the KL term; it takes the place of ``GRPOConfig.beta``.
        args, others: as for ``GRPOTrainer``; ``reward_funcs`` defaults to the sessions' rewards and
            ``train_dataset`` to the problems of ``rollouts``.

    Attributes:
        kl_estimate: nats per output, mean of Σ log π/P over the root rollouts of the last step;
            ``None`` where it was not needed.

    Raises:
        InvalidInput: ``args.beta`` is set as well, the KL needs root groups and there are none or an
            untruncated law, or a setting cannot be honoured (see ``rollouts_for_trl``).
        AccessDenied: the strategy requires more than is granted.
    """

    def __init__(self, *, rollouts: Rollouts, kl: KL | None = None, **others: Any) -> None:
        if kl is not None and kl.needs_root and not (rollouts.roots or rollouts.strategy.from_root):
            raise InvalidInput(
                "the KL is estimated on rollouts from the root: rollouts_for_trl(roots=…) must be at "
                f"least 1 with {rollouts.strategy}"
            )
        self.rollouts = rollouts
        others.setdefault("reward_funcs", [rollouts.reward])
        if "train_dataset" not in others:
            others["train_dataset"] = rollouts.dataset()
        others |= {"kl": kl, "rollout_func": rollouts}
        with warnings.catch_warnings():  # that rollout_func may change is ours to follow
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(**others)
        law = rollouts.contract(self).sampling
        assert law is not None
        if self.kl.needs_root and (law.top_k or law.top_p < 1.0):
            raise InvalidInput(
                f"the KL is of untruncated laws, and the trainer's is {law}: set top_k and top_p to "
                "0 and 1, or kl to k3_loss"
            )
        network = self._network()
        self._packs, self._vocab = servable(network), network.config.get_text_config().vocab_size
        self._reference = self._frozen() if self.kl.needs_root else None

    def _network(self) -> Any:
        """The network itself, without wrappers and adapters."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "peft_config") else model

    def _frozen(self) -> Any:
        """P: a copy of the weights that training starts from; ``None``: the model without adapters."""
        if hasattr(self.accelerator.unwrap_model(self.model), "peft_config"):
            return None
        reference = copy.deepcopy(self.accelerator.unwrap_model(self.model)).eval()
        # TRL has put a forward on the instance that calls the network it was made for
        reference.__dict__.pop("forward", None)
        add_fused_lm_head(reference, temperature=self.temperature)
        return reference.requires_grad_(False)

    # ---- advantages ----------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        batch = self.rollouts.batch
        if batch is None or not batch.training:
            return output
        mine = self.token_advantages(batch.groups, batch.first, batch.count)
        found = torch.zeros(output["completion_ids"].shape, dtype=torch.float32)
        row = 0
        for group, values in zip(batch.own, mine, strict=True):
            start = len(group.start.prefix)
            for value, tokens in zip(values, group.tokens, strict=True):
                own = torch.from_numpy(value[: len(tokens)]).float()
                found[row, start : start + len(tokens)] = own
                row += 1
        if self._scales and not self.rollouts.strategy.per_token:
            found += output["advantages"][:, None].cpu()
        output["advantages"] = found.to(output["completion_ids"].device)
        return output

    @property
    def _scales(self) -> bool:
        """Whether the reward part is TRL's own, divided by a deviation."""
        return self.scale_rewards not in ("none", False)

    def token_advantages(self, groups: list[Group], first: int, count: int) -> list[FloatArray]:
        """A_it of the groups of this process, ``count`` from the first on; without the reward part
        where TRL scales it."""
        ratios = self._ratios(groups, range(first, first + count)) if self.kl.needs_root else {}
        found = token_advantages(groups, ratios, self.kl.beta, centre=not self._scales)
        return found[first : first + count]

    def _ratios(self, groups: list[Group], own: range) -> dict[int, FloatArray]:
        """Log-ratios of the groups at ∅; those of other processes only count, as zeros."""
        moved = not self._is_base()
        ratios = {
            i: self._log_ratios(g)
            if moved and i in own
            else np.zeros(padded_tokens(g.tokens).shape)
            for i, g in enumerate(groups)
            if not g.start.prefix
        }
        mine = [float(r.sum(axis=1).mean()) for i, r in ratios.items() if i in own]
        self.kl_estimate = float(np.mean(mine)) if mine else None
        return ratios

    def _is_base(self) -> bool:
        """Whether the weights are those of P to the bit, so that all log-ratios are 0: before the first
        reward no step has moved them, and comparing weights costs less than passes of both networks."""
        if self._reference is None or self.accelerator.num_processes > 1:
            return False
        own = self.accelerator.unwrap_model(self.model).state_dict().values()
        base = self._reference.state_dict().values()
        return all(torch.equal(a, b) for a, b in zip(own, base, strict=True))

    @torch.no_grad()
    def _log_ratios(self, group: Group) -> FloatArray:
        """(n, L) nats: log π − log P of the tokens of a group at the root; 0 behind their ends."""
        tokens = padded_tokens(group.tokens)
        device = self.accelerator.device
        there = torch.from_numpy(tokens != PAD)
        prompt = torch.tensor(group.prompt).expand(len(tokens), -1)
        padding: Any = self._tokenizer.pad_token_id
        ids = torch.from_numpy(np.where(tokens == PAD, padding, tokens))
        ids = torch.cat([prompt, ids], dim=1).to(device)
        mask = torch.cat([torch.ones_like(prompt), there.long()], dim=1).to(device)
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        try:
            own = self._logprobs(model, ids, mask, tokens.shape[1])
            if self._reference is not None:
                base = self._logprobs(self._reference, ids, mask, tokens.shape[1])
            else:
                with model.disable_adapter():
                    base = self._logprobs(model, ids, mask, tokens.shape[1])
        finally:
            model.train(training)
        return ((own - base).double().cpu() * there).numpy()

    def _logprobs(self, model: Any, ids: Any, mask: Any, kept: int) -> Any:
        return self._get_per_token_logps_and_entropies(model, ids, mask, kept)[0]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **others: Any,
    ) -> tuple[Any, Any, Any]:
        """TRL's pass, with what the rows of a prompt have in common computed once."""
        scored = attention_mask[:, -logits_to_keep:].bool()
        entries = int(scored.sum()) * self._vocab
        if any(v is not None and v is not False for v in others.values()) or not (
            self._packs and entries <= MOST_LOGITS and scored[:, 0].all()
        ):
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                **others,
            )
        prompts = _rows(input_ids[:, :-logits_to_keep], attention_mask[:, :-logits_to_keep])
        completions = _rows(input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:])
        with self.accelerator.autocast():
            found = log_probabilities(
                model, prompts, completions, logits_to_keep, self.temperature, compute_entropy
            )
        return (*found, None)


def _rows(ids: Any, mask: Any) -> list[tuple[int, ...]]:
    """The tokens of each row that are not padding."""
    pairs = zip(ids.tolist(), mask.tolist(), strict=True)
    return [tuple(t for t, there in zip(row, kept, strict=True) if there) for row, kept in pairs]
