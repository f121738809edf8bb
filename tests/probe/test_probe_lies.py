"""Every way in which the test server misbehaves is found by a probe, and named by the claim that it is about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")

from engines import serve
from engines.behaviour import MISBEHAVIOURS
from engines.language import save_tokenizer
from probing import claims

pytestmark = pytest.mark.slow(0.3)  # a server, and some claims

SHARP = {"language": {"spread": 3.0}}
"""Laws at which tokens come again often."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


LIES: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("vllm", "ignored_logprobs", {}, "lists", "ignores that they were asked for"),
    ("vllm", "text_keys", {}, "lists", "names tokens by text"),
    ("vllm", "clipped_lists", {}, "lists", "has 20 entries for 318 tokens, in silence; lists of 20"),
    ("vllm", "nan", {}, "lists", "log-probability of nan"),
    ("vllm", "mass_below_one", {}, "lists", "sums to 0.97"),
    ("vllm", "shifted_lists", {}, "lists", "sums to 1.1"),
    ("vllm", "retokenized", {}, "token ids", "adds or respells tokens"),
    ("sglang", "retokenized", {}, "token ids", "adds or respells tokens"),
    ("llamacpp", "retokenized", {}, "token ids", "adds or respells tokens"),
    ("vllm", "bos_on_ids", {}, "token ids", "adds or respells tokens"),
    ("vllm", "other_ids", {}, "token ids", "speaks of other tokens"),
    ("vllm", "longer", {}, "continuations", "5 tokens came back, 1 to 4 were asked for"),
    ("vllm", "noise", {}, "log-probabilities", "nats off"),
    ("vllm", "noise", {}, "repeatable", "nats apart"),
    ("vllm", "processed", {}, "raw lists", "processed, not raw"),
    ("vllm", "ignored_n", {}, "choices", "2 continuations were asked for, 1 came"),
    ("vllm", "copied_choices", {}, "choices", "copies, not independent draws"),
    ("vllm", "seeds_ignored", {}, "seeds", "one call after the other"),
    ("vllm", "seeds_serial", {"delay": 0.05}, "seeds", "beside seven other calls"),
    ("vllm", "cache_changes_laws", {}, "cache", "asked before has log-probabilities"),
    ("vllm", "ignored_bias", {}, "logit bias", "brought it 0 of 8"),
    ("llamacpp", "ignored_bias", {}, "given tokens", "does not force"),
    ("vllm", "wrong_finish", {}, "stop reasons", "are said to have ended"),
    ("vllm", "bos_twice", {}, "begin token", "2 tokens are put before a text"),
    ("completions", "bos_twice", {}, "begin token", "2 tokens are put before a text"),
    ("vllm", "template_adds", {}, "chat template", "6 tokens .* gives 12"),
    ("chat", "template_adds", {}, "chat template", "6 tokens .* gives 12"),
    ("vllm", "closed_turn", {}, "last turn", "it is closed"),
    ("llamacpp", "closed_turn", {}, "last turn", "it is closed"),
    ("chat", "ignored_logprobs", {}, "lists", "what came is none|ignored in silence"),
    ("chat", "seeds_ignored", {}, "seeds", "one call after the other"),
]  # fmt: skip


def dialect_of(name: str) -> str:
    return name if name in ("vllm", "sglang", "llamacpp") else "openai"


@pytest.mark.slow(0.6)
@pytest.mark.parametrize(("dialect", "fault", "more", "claim", "why"), LIES)
def test_lies_are_found_and_named(
    dialect: str, fault: str, more: dict[str, Any], claim: str, why: str, folder: Path
) -> None:
    spoken = dialect_of(dialect)
    with serve(spoken, fault, **more) as server:
        own = None if dialect == "llamacpp" else folder
        found = claims(server, own, claim, dialect="" if spoken == dialect else dialect)[claim]
    assert found.holds is False, found.evidence
    assert re.search(why, found.evidence), found.evidence
    assert found.tokens or claim == "lists"


SETTINGS: list[tuple[str, str, dict[str, Any], str, str, float]] = [
    ("vllm", "default_temperature", {}, "draws", "temperature", 0.8),
    ("vllm", "default_top_k", {}, "draws", "top_k", 40),
    ("vllm", "default_top_p", {}, "draws", "", 0.0),
    ("vllm", "default_min_p", {}, "draws", "min_p", 0.05),
    ("vllm", "greedy", {}, "draws", "temperature", 0.0),
    ("vllm", "default_presence_penalty", {}, "draws", "presence_penalty", 1.5),
    ("vllm", "default_frequency_penalty", {}, "draws", "frequency_penalty", 1.5),
    ("sglang", "default_frequency_penalty", {}, "draws", "frequency_penalty", 1.5),
    ("vllm", "default_repetition_penalty", SHARP, "draws", "", 0.0),
    ("llamacpp", "default_temperature", {}, "draws", "temperature", 0.8),
    ("chat", "default_temperature", {}, "draws", "temperature", 0.8),
    ("vllm", "llama_defaults_when_silent", {}, "draws, no field", "temperature", 0.8),
    ("vllm", "llama_defaults_when_silent", {}, "draws, temperature alone", "top_k", 40),
    ("vllm", "ignored_top_k", {}, "sampling fields", "", 0.0),
]  # fmt: skip


@pytest.mark.slow(3)
@pytest.mark.parametrize(("dialect", "fault", "more", "claim", "setting", "value"), SETTINGS)
def test_hidden_settings_are_found_and_estimated(
    dialect: str,
    fault: str,
    more: dict[str, Any],
    claim: str,
    setting: str,
    value: float,
    folder: Path,
) -> None:
    spoken = dialect_of(dialect)
    with serve(spoken, fault, **more) as server:
        own = None if dialect == "llamacpp" else folder
        found = claims(server, own, "choices", claim, dialect="" if spoken == dialect else dialect)[
            claim
        ]
    assert found.holds is False, found.evidence
    named = {s["name"]: s for s in found.settings}
    if setting:
        low, high = named[setting]["low"], named[setting]["high"]
        assert low <= value <= (value if high is None else high), found.evidence
        assert ("written alone" in named[setting]["note"]) == setting.startswith(("pres", "freq"))
    elif "penalty" in fault:
        assert "penalty" in found.evidence
    else:
        assert re.search("impossible|none less likely", found.evidence), found.evidence


def test_every_misbehaviour_is_here() -> None:
    """Or in ``test_probe_faults``, where nobody lies."""
    faults = {"busy", "fails", "cuts", "garbles", "large_replies"}
    assert {row[1] for row in (*LIES, *SETTINGS)} | faults >= set(MISBEHAVIOURS)
