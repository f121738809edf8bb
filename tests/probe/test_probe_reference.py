"""``reroot probe --reference FOLDER``: the same model behind a server is accepted, another one is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")
pytest.importorskip("transformers")

import tiny_lm
from engines import Server, serve
from engines.language import K, save_tokenizer
from reroot.cli.commands import run

BUDGET = "2500"
"""Tokens: lists are what matters here, not draws."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with the test server's tokenizer."""
    made = tmp_path_factory.mktemp("model")
    network().save_pretrained(made)
    return save_tokenizer(made)


@lru_cache(maxsize=1)
def network() -> Any:
    return tiny_lm.model("llama", vocab=K, positions=256)


class Served:
    """What the server computes: the network's laws, at ``heat``, of the tokens that ``read`` makes of a prompt."""

    def __init__(
        self, heat: float = 1.0, noise: float = 0.0, template: tuple[int, ...] = ()
    ) -> None:
        self.heat, self.noise, self.template = heat, noise, template
        self.law = lru_cache(maxsize=None)(self._law)

    def _law(self, tokens: Sequence[int]) -> np.ndarray:
        law = tiny_lm.plain_law(network(), (*self.template, *tokens)) / self.heat
        rng = np.random.default_rng([int(t) for t in tokens])
        law = law + self.noise * rng.standard_normal(K)
        return law - np.logaddexp.reduce(law)


def probed(server: Server, folder: Path, out: Path) -> dict[str, object]:
    """The claim about the reference."""
    command = ["probe", server.url, "--tokenizer", str(folder), "--reference", str(folder)]
    assert run([*command, "--budget-tokens", BUDGET, "--out", str(out)]) == 0
    claims = json.loads((out / "profile.json").read_text())["claims"]
    (claim,) = (claim for claim in claims if claim["claim"] == "reference")
    return claim


@pytest.mark.slow(3)
@pytest.mark.parametrize(
    ("served", "holds", "kind"),
    [
        (Served(), True, "equal within rounding"),
        (Served(heat=0.9), False, "a temperature of 0.9"),
        (Served(noise=0.05), False, "quantized weights"),
        (Served(template=(7, 9, 11)), False, "other weights, or another template"),
        (None, False, "other weights"),
    ],
    ids=["same", "temperature", "quantized", "template", "other"],
)
def test_the_same_model_is_accepted_and_another_one_named(
    served: Served | None, holds: bool, kind: str, folder: Path, tmp_path: Path
) -> None:
    with serve("vllm") as server:
        if served is not None:
            server.engine.language = served  # type: ignore[assignment]
        claim = probed(server, folder, tmp_path / "profile")
    assert claim["holds"] is holds, claim["evidence"]
    assert str(claim["evidence"]).startswith(kind)


@pytest.mark.slow(1)
def test_a_smaller_vocabulary_is_another_model(folder: Path, tmp_path: Path) -> None:
    tiny_lm.model("llama", vocab=K - 8, positions=64).save_pretrained(tmp_path / "small")
    save_tokenizer(tmp_path / "small")
    command = ["--tokenizer", str(folder), "--reference", str(tmp_path / "small")]
    with serve("vllm") as server:
        out = tmp_path / "profile"
        assert (
            run(["probe", server.url, *command, "--budget-tokens", "900", "--out", str(out)]) == 0
        )
    claims = json.loads((out / "profile.json").read_text())["claims"]
    (claim,) = (claim for claim in claims if claim["claim"] == "reference")
    assert claim["holds"] is False
    assert "the server's vocabulary has 318 tokens" in claim["evidence"]
