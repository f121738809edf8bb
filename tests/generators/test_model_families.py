"""Families of transformers: whichever engine serves one, its laws are those of a plain pass over one string."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_families
import tiny_lm
from reroot import InvalidInput
from reroot.contract import Report
from reroot.generators.base import Request
from reroot.generators.own_cache import OwnCache
from reroot.generators.transformers import Transformers
from tiny_lm import K, plain_law

TEXT = tiny_lm.tokenizer()
CLOSE = 1e-3  # nats
NOT_CAUSAL = (
    "deepseek_v32",
    "glm_moe_dsa",
    "cpmant",
)  # indices of ties, and a prompt seen both ways


def families() -> list[str]:
    return [name for name in tiny_families.FAMILIES if name not in NOT_CAUSAL]


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", families())
def test_laws_are_those_of_plain_passes(name: str) -> None:
    """At branching prefixes, along rollouts of a mixed batch, and of forced tokens."""
    network = tiny_families.family(name)
    generator = Transformers((network, TEXT))
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(K, size=n).tolist()) for n in (12, 17, 20)]
    for prompt in prompts:
        prefixes = [tuple(rng.integers(3, size=n).tolist()) for n in rng.integers(0, 9, 6)]
        for prefix, law in zip(prefixes, generator.log_laws(prompt, prefixes), strict=True):
            np.testing.assert_allclose(law, plain_law(network, prompt + prefix), atol=CLOSE)
    asked = [
        Request(p, n=3, length=6, report=Report.FULL, key=(1, i)) for i, p in enumerate(prompts)
    ]
    asked.append(Request(prompts[0], length=5, forced=(4, 5, 6, 7, 8), report=Report.FULL))
    for request, reply in zip(asked, generator.answer(asked), strict=True):
        assert reply.laws is not None
        for t in (1, 4):
            string = request.prompt + tuple(reply.tokens[0, :t].tolist())
            np.testing.assert_allclose(reply.laws[0, t], plain_law(network, string), atol=CLOSE)


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_models_that_are_not_causal_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"moves by .* when others follow.*no causal model"):
        Transformers((tiny_families.family(name), TEXT))


@pytest.mark.slow(1)
def test_a_recurrent_model_by_name(tmp_path: Path) -> None:
    network = tiny_families.family("mamba")
    network.save_pretrained(tmp_path)
    TEXT.save_pretrained(tmp_path)
    generator = Transformers(tmp_path)
    assert "recurrent state" in (generator.engine_note or "")
    (law,) = generator.log_laws((4, 5), [(6, 7)])
    np.testing.assert_allclose(law, plain_law(network, (4, 5, 6, 7)), atol=CLOSE)


@pytest.mark.slow(2)
@pytest.mark.parametrize("kept", [True, False])
def test_draws_are_those_of_the_tree(kept: bool) -> None:
    """The same uniforms; a draw differs where rounding moves a border, about once in 10⁵."""
    network = tiny_lm.model()
    asked = [
        Request((4, 5, 6, 7)[: 2 + i], n=5, length=6, report=Report.LOGPROB, key=(2, i))
        for i in range(3)
    ]
    tree, plain = Transformers((network, TEXT)), Transformers((network, TEXT))
    plain._use(OwnCache(network, network.config, kept=kept))
    for mine, other in zip(plain.answer(asked), tree.answer(asked), strict=True):
        assert (mine.tokens == other.tokens).all()
        np.testing.assert_allclose(mine.logprobs, other.logprobs, atol=1e-4)  # type: ignore[arg-type]
    again = [plain.answer([r])[0] for r in asked]
    for mine, other in zip(again, tree.answer(asked), strict=True):
        assert (mine.tokens == other.tokens).all()


@pytest.mark.slow(2)
@pytest.mark.parametrize("name", ["mamba", "jamba"])
def test_little_memory_and_new_weights_change_no_law(name: str) -> None:
    network = tiny_families.family(name)
    generator = Transformers((network, TEXT), cache_bytes=1)  # every state is dropped at once
    strings = [(4, 5, 6), (4, 5, 7, 8), (9,)]
    for string in strings:
        (law,) = generator.log_laws(string[:1], [string[1:]])
        np.testing.assert_allclose(law, plain_law(network, string), atol=CLOSE)
    before = generator.log_laws((4,), [(5, 6)])[0].copy()
    tiny_lm.scrambled(network, seed=5)
    generator.weights_changed()
    after = generator.log_laws((4,), [(5, 6)])[0]
    np.testing.assert_allclose(after, plain_law(network, (4, 5, 6)), atol=CLOSE)
    assert np.abs(after - before).max() > 10 * CLOSE
