"""The bridge to TRL: what the trainer gets is what the sessions gave, and nothing else is trained on."""

# ruff: noqa: E402
from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import trl_toys
from reroot import AccessDenied, Budget, InvalidInput
from reroot.errors import BackendError, OracleError, RunFolderError
from reroot.tasks.registry import get_task
from reroot.training import KL, rollouts_for_trl, strategies
from reroot.training.advantages import padded_tokens, token_advantages
from reroot.training.groups import BudgetSpent
from reroot.training.trl.checkpoints import STATE
from reroot.types import Cost

pytestmark = pytest.mark.slow


def generated(trainer: Any) -> dict[str, Any]:
    """The batch of a first step, not trained on."""
    trainer.model.train()
    rows = [{"prompt": p} for p in trl_toys.PROMPTS[:2] for _ in range(4)]
    return trainer._generate_and_score_completions(rows)


def test_tokens_reach_the_trainer_as_they_were_generated(tmp_path: Path) -> None:
    trainer = trl_toys.session_trainer(tmp_path, strategies.R3(stages=4), grants="chosen/logprob")
    batch = generated(trainer)
    groups = trainer.rollouts.batch.groups
    encode = trainer.processing_class
    assert any(g.start.prefix for g in groups)
    row = 0
    for g, prompt in zip(groups, trl_toys.PROMPTS, strict=False):
        start = list(g.start.prefix)
        assert list(g.prompt) == encode(prompt)["input_ids"]
        assert start == encode("cccc")["input_ids"][: len(start)]
        for tokens, logprobs in zip(g.tokens, g.logprobs or [], strict=True):
            kept = batch["prompt_mask"][row].bool()
            assert batch["prompt_ids"][row][kept].tolist() == list(g.prompt)
            kept = batch["completion_mask"][row].bool()
            assert batch["completion_ids"][row][kept].tolist() == start + tokens
            assert batch["tool_mask"][row][kept].tolist() == [0] * len(start) + [1] * len(tokens)
            known = forced(trainer.model, [*g.prompt, *start], tokens)
            assert logprobs == pytest.approx(known, abs=1e-4)
            row += 1
    assert row == 8


def moved(model: Any) -> None:
    """Away from its weights, by always the same."""
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))


def forced(model: Any, before: list[int], tokens: list[int]) -> list[float]:
    """Teacher-forced nats of each token."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.tensor([before + tokens])).logits[0, len(before) - 1 : -1]
    laws = torch.log_softmax(logits.double(), dim=-1)
    return laws[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()


def followed(trainer: Any, coefficients: Any) -> dict[str, Any]:
    """(1/B)·Σ A_it·∇ log π by plain forward passes, one rollout at a time; divided by H."""
    trainer.model.zero_grad()
    trainer.model.eval()
    groups = trainer.rollouts.batch.groups
    count = sum(len(g.tokens) for g in groups)
    for g, values in zip(groups, coefficients, strict=True):
        for tokens, row in zip(g.tokens, values, strict=True):
            before = [*g.prompt, *g.start.prefix]
            logits = trainer.model(torch.tensor([before + tokens])).logits[0, len(before) - 1 : -1]
            laws = torch.log_softmax(logits, dim=-1)
            own = laws[torch.arange(len(tokens)), torch.tensor(tokens)]
            (own @ torch.tensor(row[: len(tokens)], dtype=torch.float32) / count).backward()
    found = {n: p.grad.clone() / trl_toys.LENGTH for n, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    return found


def loss_gradient(trainer: Any, batch: dict[str, Any]) -> dict[str, Any]:
    trainer.model.zero_grad()
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(trainer.model, batch).backward()
    found = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    return found


def assert_close(found: dict[str, Any], known: dict[str, Any], sign: float = 1.0) -> None:
    scale = max(float(v.abs().max()) for v in known.values())
    assert scale > 1e-4
    for name, value in known.items():
        assert float((found[name] - sign * value).abs().max()) < 1e-4 * scale, name


@pytest.mark.parametrize(
    "strategy",
    [strategies.Root(), strategies.R3(stages=4), strategies.VineValues(samples=2)],
    ids=str,
)
@pytest.mark.parametrize("packs", [True, False])
def test_the_loss_has_the_stated_gradient(tmp_path: Path, strategy: Any, packs: bool) -> None:
    """By packed passes, and by TRL's own."""
    trainer = trl_toys.session_trainer(tmp_path, strategy)
    assert trainer._packs
    trainer._packs = packs
    trainer.rollouts._seed = 5  # under which rewards differ within a group for each of them
    batch = generated(trainer)
    known = followed(trainer, token_advantages(trainer.rollouts.batch.groups, {}, 0.0))
    assert_close(loss_gradient(trainer, batch), known, sign=-1.0)


def test_with_scaled_rewards_the_reward_part_is_trls_own(tmp_path: Path) -> None:
    trainer = trl_toys.session_trainer(tmp_path, strategies.R3(stages=4), scale_rewards="group")
    batch = generated(trainer)
    row = 0
    for g in trainer.rollouts.batch.groups:
        above = np.array(g.rewards) - np.mean(g.rewards)
        known = above / (np.std(g.rewards, ddof=1) + 1e-4)
        for value, tokens in zip(known, g.tokens, strict=True):
            start = len(g.start.prefix)
            own = batch["advantages"][row, start : start + len(tokens)].tolist()
            assert own == pytest.approx([value] * len(tokens), abs=1e-5)
            row += 1


@pytest.mark.parametrize("packs", [True, False])
def test_the_kl_is_that_of_root_rollouts(tmp_path: Path, packs: bool) -> None:
    """Away from P, with a prefix group beside a root group."""
    kl = KL(beta=0.5)
    trainer = trl_toys.session_trainer(tmp_path, strategies.R3(stages=2), kl=kl, roots=1)
    trainer._packs = packs
    moved(trainer.model)
    batch = generated(trainer)
    groups = trainer.rollouts.batch.groups
    assert groups[0].start.prefix or groups[0].start.share == 0
    roots = [i for i, g in enumerate(groups) if not g.start.prefix]
    ratios: dict[int, Any] = {}
    base, _ = trl_toys.fresh()
    for i in roots:
        tokens = padded_tokens(groups[i].tokens)
        ratios[i] = np.zeros(tokens.shape)
        for j, row in enumerate(groups[i].tokens):
            prompt = list(groups[i].prompt)
            own = np.array(forced(trainer.model, prompt, row))
            ratios[i][j, : len(row)] = own - np.array(forced(base, prompt, row))
    mean = float(np.mean([ratios[i].sum(axis=1).mean() for i in roots]))
    assert trainer.kl_estimate == pytest.approx(mean, abs=1e-3)
    known = followed(trainer, token_advantages(groups, ratios, 0.5))
    assert_close(loss_gradient(trainer, batch), known, sign=-1.0)


def test_k3_in_the_loss_is_trls(tmp_path: Path) -> None:
    """Against the weights that the model was loaded from: e^(−l) − 1 + l of every trained token."""
    from reroot.generators.models import load

    folder = trl_toys.save_parity_model(tmp_path / "model")
    what = get_task("running_parity").problems(4, 2, 0)
    trainer = trl_toys.session_trainer(
        tmp_path, strategies.R3(stages=4), kl=KL(0.5, "k3_loss"), what=what, pieces=load(folder)
    )
    moved(trainer.model)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(
        [{"prompt": p.prompt} for p in what for _ in range(4)]
    )
    trainer.current_gradient_accumulation_steps = 1
    found = float(trainer.compute_loss(trainer.model, batch))
    base, total = load(folder)[0], 0.0
    groups = trainer.rollouts.batch.groups
    for g, values in zip(groups, token_advantages(groups, {}, 0.0), strict=True):
        for tokens, row in zip(g.tokens, values, strict=True):
            before = [*g.prompt, *g.start.prefix]
            own = np.array(forced(trainer.model, before, tokens))
            ratio = own - np.array(forced(base, before, tokens))
            total += float((0.5 * (np.exp(-ratio) - 1 + ratio) - row[: len(tokens)]).sum())
    assert found == pytest.approx(total / (8 * trl_toys.LENGTH), abs=1e-4)
    assert total > 0.01


def test_at_the_base_the_kl_moves_nothing(tmp_path: Path) -> None:
    flat = trl_toys.problems(reward=lambda output: 0.25)
    trainer = trl_toys.session_trainer(
        tmp_path, strategies.Root(), kl=KL(beta=10.0), what=flat, max_steps=3
    )
    before = trl_toys.weights(trainer)
    trainer.train()
    after = trl_toys.weights(trainer)
    assert trainer.kl_estimate == pytest.approx(0.0, abs=1e-5)
    assert max(float((after[k] - before[k]).abs().max()) for k in before) < 1e-4
    assert all(g.zero_variance for g in trainer.rollouts.batch.groups)


def test_the_start_gets_no_gradient(tmp_path: Path) -> None:
    """Whatever advantages stand on the tokens of the start."""
    trainer = trl_toys.session_trainer(tmp_path, strategies.R3(stages=4))
    batch = generated(trainer)
    known = loss_gradient(trainer, batch)
    masked = batch["tool_mask"] == 0
    assert masked.any()
    batch["advantages"] = batch["advantages"].masked_fill(masked, 1e3)
    found = loss_gradient(trainer, batch)
    assert all(torch.equal(found[name], known[name]) for name in known)
    batch["tool_mask"] = torch.ones_like(batch["tool_mask"])
    found = loss_gradient(trainer, batch)
    assert not all(torch.equal(found[name], known[name]) for name in known)


def plain_trainer(out: Path, strategy: Any, reward: Any = None, **changes: Any) -> Any:
    """TRL's own trainer on a data set and a reward function of its own."""
    from datasets import Dataset
    from trl import GRPOTrainer

    model, tokenizer = trl_toys.fresh()
    rows = [{"prompt": p, "demonstration": "cccc", "wanted": "c"} for p in trl_toys.PROMPTS]

    def counted(completions: list[str], wanted: list[str], **_: Any) -> list[float]:
        pairs = zip(completions, wanted, strict=True)
        return [text.count(letter) / trl_toys.LENGTH for text, letter in pairs]

    return GRPOTrainer(
        model=model,
        reward_funcs=[reward or counted],
        train_dataset=Dataset.from_list(rows),
        args=trl_toys.settings(out, **changes),
        processing_class=tokenizer,
        rollout_func=None if strategy is None else rollouts_for_trl(strategy),
    )


def test_a_plain_trainer_brings_its_own_data_and_rewards(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, strategies.AdaBack(), max_steps=3)
    before = trl_toys.weights(trainer)
    trainer.train()
    groups = trainer.rollout_func.batch.groups
    for g in groups:
        texts = trainer.processing_class.batch_decode([[*g.start.prefix, *t] for t in g.tokens])
        assert g.rewards == [t.replace("</s>", "").count("c") / 4 for t in texts]
    assert trainer.rollout_func.strategy.state()["intervals"]
    after = trl_toys.weights(trainer)
    assert any(not torch.equal(after[k], before[k]) for k in before)
    logged = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    assert logged[-1] == pytest.approx(np.mean([r for g in groups for r in g.rewards]))


def test_learning_curves_agree_with_trls_own_generation(tmp_path: Path) -> None:
    """Mean reward of the last steps over 4 seeds each: within the noise of their difference."""

    def ended(strategy: Any, seed: int) -> float:
        trainer = plain_trainer(
            tmp_path / f"{strategy}{seed}",
            strategy,
            max_steps=25,
            seed=seed,
            per_device_train_batch_size=16,
            num_generations=8,
        )
        torch.manual_seed(seed)
        trainer.train()
        rewards = [line["reward"] for line in trainer.state.log_history if "reward" in line]
        return float(np.mean(rewards[-5:]))

    ours = [ended(strategies.Root(), seed) for seed in range(4)]
    theirs = [ended(None, seed) for seed in range(4)]
    spread = math.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 4)
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * spread + 0.02
    assert min(np.mean(ours), np.mean(theirs)) > 0.3  # from 0.08 at the start


def test_an_evaluation_starts_at_the_root_and_costs_training_nothing(tmp_path: Path) -> None:
    from datasets import Dataset

    model, tokenizer = trl_toys.fresh()
    rollouts = rollouts_for_trl(strategies.R3(stages=1), problems=trl_toys.problems())
    from reroot.training import SessionTrainer

    trainer = SessionTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl_toys.settings(tmp_path, per_device_eval_batch_size=8, max_steps=1),
        rollouts=rollouts,
        eval_dataset=Dataset.from_list([{"prompt": p} for p in trl_toys.PROMPTS[:2]]),
    )
    trainer.train()
    assert rollouts.collector is not None
    spent, state = rollouts.collector.spent, rollouts.collector.state()
    found = trainer.evaluate()
    assert rollouts.batch is not None
    assert not rollouts.batch.training
    assert all(not g.start.prefix for g in rollouts.batch.groups)
    assert rollouts.collector.spent == spent
    assert rollouts.collector.state() == state
    rewards = [r for g in rollouts.batch.groups for r in g.rewards]
    assert found["eval_reward"] == pytest.approx(np.mean(rewards))


def test_the_account_adds_up_and_the_budget_ends_it(tmp_path: Path) -> None:
    trainer = trl_toys.session_trainer(
        tmp_path, strategies.SelfReset(), budget=Budget(tokens=150), max_steps=50
    )
    with pytest.raises(BudgetSpent):
        trainer.train()
    spent = trainer.rollouts.collector.spent
    assert 150 - trl_toys.LENGTH < spent.tokens <= 150  # no output of the greatest length fits
    assert trainer.state.global_step == trainer.rollouts.collector.steps > 0
    batch = trainer.rollouts.batch.groups
    assert sum(g.spent.tokens for g in batch) == sum(
        g.building.tokens + sum(map(len, g.tokens)) for g in batch
    )


def test_a_step_that_fails_anywhere_fails_everywhere_and_is_paid_for(tmp_path: Path) -> None:
    """What another process has to tell arrives with the groups."""
    trainer = trl_toys.session_trainer(tmp_path, strategies.Root(), max_steps=1)
    trainer.train()
    collector = trainer.rollouts.collector
    before, state = collector.spent, collector.state()
    episodes = [*trainer.rollouts._rows._episodes.values()][:2]
    refused = pickle.loads(pickle.dumps(BudgetSpent("no", Cost(tokens=7))))
    with pytest.raises(BudgetSpent, match="no"):
        collector.collect(episodes, 4, total=3, gather=lambda mine: [*mine, refused])
    assert collector.spent.tokens > before.tokens + 7  # its own groups were drawn
    assert collector.spent.rewards == before.rewards + 8
    assert collector.state()["steps"] == state["steps"]
    broken = OracleError("elsewhere")
    with pytest.raises(OracleError, match="elsewhere"):
        collector.collect(episodes, 4, total=3, gather=lambda mine: [*mine, broken])


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    def trained(seed: int) -> dict[str, Any]:
        trainer = trl_toys.session_trainer(tmp_path / str(seed), strategies.Plurality(draws=3))
        trainer.rollouts._seed = seed
        trainer.train()
        return trl_toys.weights(trainer)

    one, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


def test_a_checkpoint_without_state_is_refused(tmp_path: Path) -> None:
    trainer = trl_toys.session_trainer(
        tmp_path, strategies.AdaBack(), save_strategy="steps", save_steps=1
    )
    trainer.train()
    saved = tmp_path / "checkpoint-1" / STATE
    assert json.loads(saved.read_text())["steps"] == 1
    saved.unlink()
    again = trl_toys.session_trainer(tmp_path, strategies.AdaBack())
    with pytest.raises(RunFolderError, match="cannot be read"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    other = trl_toys.session_trainer(tmp_path, strategies.R3(), max_steps=3)
    with pytest.raises(InvalidInput, match="of adaback"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"temperature": 0.7, "grants": "chosen/sample@T=1"}, InvalidInput, "not on-policy"),
        ({"grants": "root/sample"}, AccessDenied, "requires"),
        ({"grants": "chosen/logprob@T=0.7"}, InvalidInput, "grant @T=1"),
        ({"num_generations": 8, "per_device_train_batch_size": 4, "steps_per_generation": 2,
          "gradient_accumulation_steps": 2}, None, ""),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], error: Any, said: str
) -> None:
    if error is None:
        trainer = trl_toys.session_trainer(tmp_path, strategies.R3(stages=2), **changes)
        trainer.train()
        assert trainer.state.global_step == 2
    else:
        with pytest.raises(error, match=said):
            trl_toys.session_trainer(tmp_path, strategies.R3(stages=2), **changes)


def test_credit_per_token_needs_our_trainer(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="SessionTrainer"):
        plain_trainer(tmp_path, strategies.VineValues()).train()


@pytest.mark.parametrize(
    ("reward", "error", "said"),
    [
        (lambda output: math.nan, OracleError, "finite number, got nan"),
        (lambda output: 1 / 0, OracleError, "ZeroDivisionError"),
    ],
)
def test_a_reward_that_is_none_ends_training(
    tmp_path: Path, reward: Any, error: Any, said: str
) -> None:
    trainer = trl_toys.session_trainer(
        tmp_path, strategies.Root(), what=trl_toys.problems(reward=reward)
    )
    before = trl_toys.weights(trainer)
    with pytest.raises(error, match=said):
        trainer.train()
    after = trl_toys.weights(trainer)
    assert all(torch.equal(after[k], before[k]) for k in before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"demonstration": "ccca"}, "has the reward 0.75"),
        ({"demonstration": "dccc", "pass_at": 0.5}, "its verifier rejects"),
    ],
)
def test_a_wrong_demonstration_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    what = trl_toys.problems(**changes)
    with pytest.raises(OracleError, match=said):
        trl_toys.session_trainer(tmp_path, strategies.AdaBack(), what=what).train()
    trl_toys.session_trainer(tmp_path, strategies.Root(), what=what, max_steps=1).train()


def test_a_loss_that_is_none_does_not_reach_the_weights(tmp_path: Path) -> None:
    trainer = trl_toys.session_trainer(tmp_path, strategies.Root())
    plain = trainer.token_advantages
    trainer.token_advantages = lambda *a: [v * math.nan for v in plain(*a)]
    before = trl_toys.weights(trainer)
    with pytest.raises(BackendError, match="loss of step 1 is nan"):
        trainer.train()
    after = trl_toys.weights(trainer)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_the_kl_needs_root_groups(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="roots"):
        trl_toys.session_trainer(tmp_path, strategies.AdaBack(), kl=KL(beta=0.1))
    with pytest.raises(InvalidInput, match=r"kl=KL\(beta=0.1\)"):
        trl_toys.session_trainer(tmp_path, strategies.Root(), beta=0.1)
