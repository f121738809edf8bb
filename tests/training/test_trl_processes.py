"""Two processes (gloo) and one, with the same global batch: the same result within float noise."""

# ruff: noqa: E402
from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import fake_vllm
import trl_toys
import trl_two_processes
import trl_two_processes_vllm


@pytest.mark.slow(25)
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """The two run beside the one, which is this process."""
    folders = {n: tmp_path / str(n) for n in (1, 2)}
    with trl_two_processes.launched(trl_two_processes, folders[2]) as pair:
        trl_two_processes.train(folders[1], 1)
        _, said = pair.communicate(timeout=240)
    assert pair.returncode == 0, said[-3000:]
    base = trl_toys.fresh()[0].state_dict()
    for name in ("ours", "stock"):
        one, two = (torch.load(folders[n] / f"{name}.pt") for n in (1, 2))
        for weight, value in one.items():
            assert float((two[weight] - value).abs().max()) < 1e-5, (name, weight)
        assert max(float((one[k] - base[k]).abs().max()) for k in base) > 1e-2
        states = [json.loads((folders[n] / f"{name}.json").read_text()) for n in (1, 2)]
        assert states[0] == states[1]


@pytest.mark.slow(25)
def test_two_processes_share_a_vllm_server(tmp_path: Path) -> None:
    """Each asks by itself, and not before the new weights are there."""
    folders = {n: tmp_path / str(n) for n in (1, 2)}
    engines = {n: fake_vllm.Engine(trl_toys.fresh()[0], counts=True) for n in (1, 2)}
    with fake_vllm.serving(engines[1]) as one, fake_vllm.serving(engines[2]) as two:
        script = trl_two_processes_vllm
        with trl_two_processes.launched(script, folders[2], two.url) as pair:
            script.train(folders[1], 1, one.url)
            _, said = pair.communicate(timeout=240)
    assert pair.returncode == 0, said[-3000:]
    asked = [
        sorted(
            (p, s.n, s.max_tokens)
            for prompts, of in e.calls
            for p, s in zip(prompts, of, strict=True)
        )
        for e in engines.values()
    ]
    assert asked[0] == asked[1]
    assert len(engines[2].calls) > len(engines[1].calls)
    base = trl_toys.fresh()[0].state_dict()
    weights = [torch.load(folders[n] / "weights.pt") for n in (1, 2)]
    assert max(float((weights[0][k] - base[k]).abs().max()) for k in base) > 1e-2
    for name, value in weights[0].items():
        assert float((weights[1][name] - value).abs().max()) < 1e-5, name
    states = [json.loads((folders[n] / "state.json").read_text()) for n in (1, 2)]
    assert states[0] == states[1]
