"""With ``Root`` settings are TRL's: the law of draws, what counts as ended, losses, precision; or refused."""

# ruff: noqa: E402
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from scipy.stats import chi2
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import trl_pairs
import trl_toys
from reroot import Contract, InvalidInput
from reroot.contract import Oracle, Sampling
from reroot.training import KL, rollouts_for_trl, strategies
from reroot.training.granting import granted

ROWS = [{"prompt": p} for p in trl_toys.PROMPTS]


def shown(value: object) -> str:
    """A name that is the same in every process."""
    return re.sub(r" at 0x\w+", "", str(value))


def share(completions: list[str], **_: Any) -> list[float]:
    return [text.partition("\n")[0].count("c") / trl_toys.LENGTH for text in completions]


# ---- what TRL does with completions ----------------------------------------------------------------


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_type": "grpo", "scale_rewards": "group"},
        {"loss_type": "bnpo", "scale_rewards": "batch", "gradient_accumulation_steps": 2},
        {"loss_type": "dapo", "num_iterations": 2, "steps_per_generation": 2, "mask_truncated_completions": True},
        {"importance_sampling_level": "sequence", "pad_to_multiple_of": 8, "temperature": 0.7},
        {"gradient_checkpointing": True, "top_entropy_quantile": 0.5},
    ],
    ids=shown,
)  # fmt: skip
def test_losses_and_batches_are_trls(settings: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = trl_pairs.both(tmp_path, lambda: ROWS, lambda: [share], max_steps=4, **settings)
    trl_pairs.assert_equal(ours, theirs)


def ending() -> tuple[Any, Any]:
    """A model that ends at a new line, too, and says so."""
    model, tokenizer = trl_toys.fresh()
    model.generation_config.eos_token_id = [1, 3]
    return model, tokenizer


@pytest.mark.slow(2)
@pytest.mark.parametrize("masked", [False, True])
def test_several_end_tokens(masked: bool, tmp_path: Path) -> None:
    ours, theirs = trl_pairs.both(
        tmp_path,
        lambda: ROWS,
        lambda: [share],
        pieces=ending,
        max_steps=4,
        mask_truncated_completions=masked,
    )
    trl_pairs.assert_equal(ours, theirs)


@pytest.mark.slow(2)
@pytest.mark.parametrize("masked", [False, True])
def test_rollouts_that_a_stop_has_ended_are_not_truncated(masked: bool, tmp_path: Path) -> None:
    """Problems that stop at a new line, beside TRL with that line break as an end token."""
    problems = [replace(p, stop=("\n",)) for p in trl_toys.problems()]
    rollouts = rollouts_for_trl(strategies.Root(), problems=problems)
    settings: dict[str, Any] = {"max_steps": 4, "mask_truncated_completions": masked}
    ours = trl_pairs.watched(
        trl_pairs.stock(
            tmp_path / "ours", rollouts.dataset(), [rollouts.reward], rollouts, **settings
        )
    )
    # noting reward functions must not hide from the bridge that rewards are its own
    ours.trainer.reward_funcs = [rollouts.reward]
    ours.trainer.train()

    def reward(completions: list[str], **_: Any) -> list[float]:
        return share(completions)

    theirs = trl_pairs.watched(
        trl_pairs.stock(tmp_path / "theirs", ROWS, [reward], pieces=ending, **settings),
        ours.completions,
    )
    theirs.trainer.train()
    ends = {ids[-1] for batch in ours.completions for ids in batch}
    assert {1, 3} <= ends
    assert repr(ours.logs) == repr(theirs.logs)
    assert 0 < ours.logs[0]["completions/clipped_ratio"] < 1
    known = theirs.weights
    assert all(torch.equal(value, known[name]) for name, value in ours.weights.items())


@pytest.mark.slow(1)
def test_a_stop_of_one_problem_ends_no_other(tmp_path: Path) -> None:
    """A cut-off output whose last token would have ended another problem's is cut off."""
    whole = [
        replace(p, stop=("c",) if i % 2 else (), demonstration=None)
        for i, p in enumerate(trl_toys.problems())
    ]
    rollouts = rollouts_for_trl(strategies.Root(), problems=whole)
    trainer = trl_pairs.stock(
        tmp_path,
        rollouts.dataset(),
        [rollouts.reward],
        rollouts,
        per_device_train_batch_size=256,
        num_generations=64,
        max_steps=1,
    )
    trainer.train()
    stops = {e.prompt: e.stop for e in rollouts._rows._episodes.values()}
    groups = rollouts.batch.groups  # type: ignore[union-attr]
    cut = [t for g in groups for t in g.tokens if not stops[g.prompt].ends(t)]
    assert any(tokens[-1] == 6 for tokens in cut)
    ratio = trainer.state.log_history[0]["completions/clipped_ratio"]
    assert ratio == pytest.approx(len(cut) / 256)


# ---- the law -------------------------------------------------------------------------------------


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 1},
        {"top_k": 3, "temperature": 0.8},
        {"top_p": 0.6},
        {"top_k": 6, "top_p": 0.7, "temperature": 1.5},
        {"generation_kwargs": {"top_k": 2}},
    ],
    ids=shown,
)
def test_draws_follow_the_trainers_law(settings: dict[str, Any], tmp_path: Path) -> None:
    """χ² of 2,000 first tokens against the law of transformers' own processors, error rate 1e-4."""
    size = 2000
    rollouts = rollouts_for_trl(strategies.Root(), grants="root/logprob")
    trainer = trl_pairs.stock(
        tmp_path,
        ROWS[:1],
        [share],
        rollouts,
        num_generations=size,
        per_device_train_batch_size=size,
        max_completion_length=1,
        **settings,
    )
    with torch.no_grad():
        scores = trainer.model(torch.tensor([[4, 5]])).logits[0, -1:]
    known = settings | settings.get("generation_kwargs", {})
    for warper in (
        TemperatureLogitsWarper(float(known.get("temperature", 1.0))),
        *([TopKLogitsWarper(known["top_k"])] if "top_k" in known else []),
        *([TopPLogitsWarper(known["top_p"])] if "top_p" in known else []),
    ):
        scores = warper(torch.tensor([[4, 5]]), scores)
    law = torch.softmax(scores[0].double(), -1).numpy()
    trainer.model.train()
    trainer._generate_and_score_completions([ROWS[0] for _ in range(size)])
    (group,) = rollouts.batch.groups  # type: ignore[union-attr]
    counts = np.bincount([t[0] for t in group.tokens], minlength=12)
    assert not counts[law == 0].any()
    likely = law * size >= 5
    distance = float((((counts - law * size) ** 2) / np.maximum(law * size, 1e-9))[likely].sum())
    assert distance <= chi2.ppf(1 - 1e-4, max(1, likely.sum() - 1))
    assert rollouts.collector.contract.sampling is not None  # type: ignore[union-attr]


@pytest.mark.slow(2)
@pytest.mark.parametrize("settings", [{"top_k": 3}, {"top_p": 0.6, "temperature": 0.7}], ids=shown)
def test_truncated_laws_are_trained_on_as_trl_does(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    ours, theirs = trl_pairs.both(tmp_path, lambda: ROWS, lambda: [share], max_steps=3, **settings)
    trl_pairs.assert_equal(ours, theirs)


def penalized() -> tuple[Any, Any]:
    """A model that is served with a penalty, as some are: ``generate`` takes it from there."""
    model, tokenizer = trl_toys.fresh()
    model.generation_config.no_repeat_ngram_size = 2
    return model, tokenizer


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_p": 0.1}, r"min_p=0\.1 changes what is drawn"),
        ({"repetition_penalty": 1.2}, r"repetition_penalty=1\.2 changes"),
        ({"generation_kwargs": {"num_beams": 2}}, "generation_kwargs: num_beams=2 changes"),
        ({"generation_kwargs": {"do_sample": False}}, "generation_kwargs: do_sample=False changes"),
        ({"generation_kwargs": {"stop_strings": ["a"]}}, "generation_kwargs: stop_strings"),
        ({"generation_kwargs": {"temperature": 0.3}}, r"generation_kwargs: temperature=0\.3"),
        ({"generation_kwargs": {"max_new_tokens": 2}}, "generation_kwargs: max_new_tokens=2"),
        ({"generation_kwargs": {"eos_token_id": 5}}, "generation_kwargs: eos_token_id=5"),
        ({"generation_kwargs": {"no_such": 1}}, "generation_kwargs: 'no_such' is no setting"),
        ({"pieces": penalized}, r"the model's generation_config\.no_repeat_ngram_size=2"),
        ({"bridge": {"grants": "root/sample@T=1"}, "top_k": 5}, r"not on-policy.*grant @T=1,top_k=5"),
        ({"bridge": {"grants": "root/sample@T=0.5"}}, "not on-policy"),
    ],
    ids=shown,
)  # fmt: skip
def test_what_no_contract_says_is_refused_by_name(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    bridge = settings.pop("bridge", {})
    rollouts = rollouts_for_trl(strategies.Root(), **bridge)
    trainer = trl_pairs.stock(tmp_path, ROWS, [share], rollouts, **settings)
    settings |= {"bridge": bridge} if bridge else {}
    with pytest.raises(InvalidInput, match=said):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.slow(1)
def test_what_changes_no_draw_is_taken(tmp_path: Path) -> None:
    harmless: dict[str, Any] = {
        "use_cache": True,
        "top_p": None,
        "min_p": None,
        "max_new_tokens": 4,
    }
    ours, theirs = trl_pairs.both(
        tmp_path, lambda: ROWS, lambda: [share], generation_kwargs=harmless
    )
    trl_pairs.assert_equal(ours, theirs)


@pytest.mark.slow(1)
def test_session_trainers_refuse_when_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="min_p"):
        trl_toys.session_trainer(tmp_path, strategies.Root(), min_p=0.1)
    with pytest.raises(InvalidInput, match="KL is of untruncated laws"):
        trl_toys.session_trainer(tmp_path, strategies.Root(), kl=KL(0.1), top_k=3)


@pytest.mark.slow(1)
def test_generation_outside_sessions_is_refused(tmp_path: Path) -> None:
    """Tools, environments and images, by name; nothing of them is needed to be told so."""
    for name, value in (
        ("tools", [print]),
        ("environment_factories", {None: object}),
        ("_is_vlm", True),
    ):
        rollouts = rollouts_for_trl(strategies.Root())
        trainer = trl_pairs.stock(tmp_path, ROWS, [share], rollouts)
        setattr(trainer, name, value)
        said = {"environment_factories": "environment_factory", "_is_vlm": "images"}.get(name, name)
        with pytest.raises(InvalidInput, match=f"{said}.* cannot be used with rollouts"):
            rollouts.prepare(trainer)


@pytest.mark.slow(1)
def test_rollouts_are_of_one_trainer(tmp_path: Path) -> None:
    rollouts = rollouts_for_trl(strategies.Root())
    trl_pairs.stock(tmp_path, ROWS, [share], rollouts, max_steps=1).train()
    with pytest.raises(InvalidInput, match="another trainer"):
        trl_pairs.stock(tmp_path, ROWS, [share], rollouts, max_steps=1).train()


@pytest.mark.slow(1)
def test_problems_longer_than_the_trainers_completions_are_refused(tmp_path: Path) -> None:
    rollouts = rollouts_for_trl(strategies.Root(), problems=trl_toys.problems())
    trainer = trl_pairs.stock(
        tmp_path, rollouts.dataset(), [rollouts.reward], rollouts, max_completion_length=3
    )
    with pytest.raises(InvalidInput, match=r"'p0' has outputs of up to 4 tokens.*length=3"):
        trainer.train()


# ---- precision -----------------------------------------------------------------------------------


def in_bfloat16() -> tuple[Any, Any]:
    model, tokenizer = trl_toys.fresh()
    return model.to(torch.bfloat16), tokenizer


@pytest.mark.slow(2)
@pytest.mark.parametrize("pieces", [in_bfloat16, trl_toys.fresh])
@pytest.mark.parametrize("bf16", [True, False])
def test_half_precision_trains(pieces: Any, bf16: bool, tmp_path: Path) -> None:
    """bfloat16 weights and autocast, each with and without the other; evaluations too."""
    ours, theirs = trl_pairs.both(
        tmp_path,
        lambda: ROWS,
        lambda: [share],
        pieces=pieces,
        bf16=bf16,
        evaluation=ROWS[:2],
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
        per_device_eval_batch_size=4,
    )
    trl_pairs.assert_equal(ours, theirs)


def off_by(found: Any, known: Any, mask: Any) -> float:
    """Root mean square, nats."""
    return float((found - known)[mask].pow(2).mean().sqrt())


@pytest.mark.slow(2)
def test_sessions_draw_in_the_trainers_arithmetic(tmp_path: Path) -> None:
    """Of float32 weights under bf16 autocast: their log-probabilities are as near to the trainer's as those of
    TRL's own ``generate`` are (keys and values of the past, a token at a time), and float32's are not."""
    rollouts = rollouts_for_trl(strategies.Root(), grants="root/logprob", seed=1)
    trainer = trl_pairs.stock(
        tmp_path,
        ROWS,
        [share],
        rollouts,
        bf16=True,
        num_generations=64,
        per_device_train_batch_size=128,
        max_completion_length=12,
    )
    trainer.model.train()
    out = trainer._generate_and_score_completions([ROWS[i] for i in (0, 1) for _ in range(64)])
    prompts, rows = out["prompt_ids"], out["completion_ids"]
    kept = rows.shape[1]

    def scored(strings: Any, there: Any) -> Any:
        mask = torch.cat([out["prompt_mask"], there.long()], dim=1)
        with torch.no_grad():
            return trainer._get_per_token_logps_and_entropies(trainer.model, strings, mask, kept)[0]

    there = out["completion_mask"].bool()
    whole = torch.cat([prompts, rows], dim=1)
    known = scored(whole, there)
    session = off_by(out["sampling_per_token_logps"], known, there)
    plain, _ = trl_toys.fresh()
    with torch.no_grad():
        logits = plain(
            whole, attention_mask=torch.cat([out["prompt_mask"], there.long()], 1)
        ).logits
    laws = torch.log_softmax(logits, dim=-1)[:, -kept - 1 : -1]
    single = off_by(laws.gather(-1, rows[..., None])[..., 0], known, there)
    with torch.no_grad(), trainer.accelerator.autocast():
        made = trainer.model.generate(
            input_ids=prompts,
            attention_mask=out["prompt_mask"],
            generation_config=trainer.generation_config,
            return_dict_in_generate=True,
            output_logits=True,
            min_new_tokens=kept,
        )
    drawn = made.sequences[:, -kept:]
    laws = torch.log_softmax(torch.stack(made.logits, dim=1).float(), dim=-1)
    own = laws.gather(-1, drawn[..., None])[..., 0]
    everywhere = torch.ones_like(drawn, dtype=torch.bool)
    generate = off_by(own, scored(made.sequences, everywhere), everywhere)
    assert session < 1.5 * generate
    assert session < 0.5 * single


def test_contracts_without_a_law_take_the_trainers() -> None:
    law = Sampling(0.7, 0.9, 5)
    for grants in (None, "root/sample", Contract.parse("root/logprob")):
        assert granted(grants, strategies.Root(), {Oracle.REWARD}, law).sampling == law
    said = granted("root/sample@T=1", strategies.Root(), {Oracle.REWARD}, law)
    assert said.sampling == Sampling()
