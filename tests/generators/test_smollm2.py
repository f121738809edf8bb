"""The demo model: SmolLM2 through the prefix tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


from reroot.generators.base import Generator
from reroot.generators.transformers import Transformers
from reroot.testing import GeneratorConformance
from tiny_lm import plain_law

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2")]


@pytest.fixture(scope="module")
def smollm2(kept: Path) -> Transformers:
    pytest.importorskip("gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REROOT_CACHE", str(kept))
        return Transformers("smollm2")


def test_smollm2_knows_a_capital(smollm2: Transformers) -> None:
    law = smollm2.log_laws(smollm2.encode("The capital of France is"), [()])[0]
    assert smollm2.decode((int(law.argmax()),)) == " Paris"
    assert smollm2.vocab_size == 49_152
    assert smollm2.max_length() == 8192
    assert smollm2.end_token == 2
    newline = smollm2.stops(("\n",)).tokens
    assert all("\n" in smollm2.decode((t,)) for t in newline - {2})
    assert smollm2.encode_continuation("\n")[0] in newline


def test_smollm2_cached_equals_uncached(smollm2: Transformers) -> None:
    rng = np.random.default_rng(0)
    shots = "Input: 3 4 5\nOutput: 6 7 8\n"
    prompts = [smollm2.encode(shots * n + "Input: 7 8 9\nOutput:") for n in (1, 2)]
    prefixes: list[tuple[int, ...]] = [()]
    while len(prefixes) < 12:
        parent = prefixes[rng.integers(len(prefixes))]
        prefixes.append((*parent, int(rng.integers(3, smollm2.vocab_size))))
    smollm2.clear()
    for prompt in prompts:
        for part in (prefixes[6:], prefixes[:6], prefixes):
            laws = smollm2.log_laws(prompt, part)
            for prefix, law in zip(part[:3], laws, strict=False):
                np.testing.assert_allclose(
                    law, plain_law(smollm2._model, prompt + prefix), atol=1e-3, rtol=0
                )


class TestSmolLM2Conforms(GeneratorConformance):
    prompts = ("Input: 1 2\nOutput: 3\n\nInput: 4 5\nOutput:",)
    tolerance = 1e-3
    length = 2
    draws = 1000

    @pytest.fixture(autouse=True)
    def loaded(self, smollm2: Transformers) -> None:
        self.pair = (smollm2._model, smollm2._text._tokenizer)

    def make(self) -> Generator:
        return Transformers(self.pair)
