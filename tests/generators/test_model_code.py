"""Code in a model folder runs when it is trusted, and never else; nobody is asked."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import dynamic_module_utils

import tiny_lm
from reroot import InvalidInput
from reroot.generators import models
from reroot.generators.transformers import Transformers

CODE = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = "own_kind"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
MODEL = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
TOKENIZER = {"AutoTokenizer": [None, "own.OwnTokenizer"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder beside which its code, if it runs, leaves the file ``ran``."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))  # of processes started here
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "model"
    tiny_lm.model("llama").save_pretrained(folder)
    tiny_lm.tokenizer().save_pretrained(folder)
    (folder / "own.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
    return folder


def setting(folder: Path, file: str, **values: Any) -> None:
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**known, **values}))


def own_model(folder: Path) -> None:
    setting(folder, "config.json", auto_map=MODEL, model_type="own_kind")


def own_tokenizer(folder: Path) -> None:
    setting(folder, "tokenizer_config.json", auto_map=TOKENIZER, tokenizer_class="OwnTokenizer")


@pytest.mark.parametrize(
    ("change", "file"),
    [(own_model, "config.json"), (own_tokenizer, "tokenizer_config.json")],
)
def test_code_is_refused_unless_it_is_trusted(folder: Path, change: Any, file: str) -> None:
    change(folder)
    with pytest.raises(InvalidInput, match=rf"auto_map in {file} .*own\..*--trust-remote-code"):
        Transformers(folder)
    assert not (folder.parent / "ran").exists()
    generator = Transformers(folder, trust_remote_code=True)
    assert (folder.parent / "ran").exists()
    assert generator.vocab_size == tiny_lm.K


def test_code_that_is_not_needed_does_not_run(folder: Path) -> None:
    """transformers knows this kind of model itself."""
    setting(folder, "config.json", auto_map=MODEL)
    (folder / "custom_generate").mkdir()
    (folder / "own.py").rename(folder / "custom_generate" / "generate.py")
    Transformers(folder)
    assert not (folder.parent / "ran").exists()


def test_kernels_of_the_hub_are_code(folder: Path) -> None:
    setting(folder, "config.json", attn_implementation="somebody/fast-attention")
    with pytest.raises(InvalidInput, match=r"attn_implementation .*fast-attention.*--trust-remote"):
        Transformers(folder)


class Mark:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.file),))


@pytest.mark.parametrize("trusted", [False, True])
def test_pickled_weights_run_nothing(folder: Path, trusted: bool) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Mark(folder.parent / "ran")}))
    with pytest.raises(InvalidInput, match="does not load"):
        models.load(folder, trust_remote_code=trusted)
    assert not (folder.parent / "ran").exists()


def train(folder: Path, *more: str) -> list[str]:
    options = f"train --model {folder} --task increment --horizon 1 --steps 1 --eval-problems 0"
    return [*options.split(), "--problems", "2", "--groups", "1", "--size", "2", *more]


def compare(folder: Path, *more: str) -> list[str]:
    options = f"compare --model {folder} --task increment --horizons 1 --seeds 1 --problems 1"
    return [*options.split(), "--learner", "best_of_n:n=1", "--budget-tokens", "50", *more]


@pytest.mark.slow
@pytest.mark.parametrize("command", [compare, train])
def test_the_command_line_asks_nobody(folder: Path, command: Any) -> None:
    own_model(folder)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = [*command(folder, *more), "--out", str(folder.parent / "out")]
        line = [sys.executable, "-m", "reroot", *arguments]
        return subprocess.run(line, input="y\n" * 9, capture_output=True, text=True, timeout=250)

    refused = run()
    assert refused.returncode == 2
    assert "--trust-remote-code" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder.parent / "ran").exists()
    run("--trust-remote-code")
    assert (folder.parent / "ran").exists()
