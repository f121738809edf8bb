"""Families by their specs, as on the command line."""

from __future__ import annotations

import numpy as np
import pytest

from reroot import InvalidInput
from reroot.families import (
    CombinationLock,
    DecoyPath,
    HiddenPath,
    HiddenTrie,
    catalogue,
    parse,
)


def test_specs_build_instances():
    g = parse("hidden_path:K=4,H=16,p=0.4")(seed=3)
    assert g.describe() == HiddenPath(4, 16, 0.4, seed=3).describe()
    short = parse(" hidden_path: K=4, H=16, p=0.4 ")(seed=3, horizon=5)
    assert short.describe() == HiddenPath(4, 5, 0.4, seed=3).describe()
    d = parse("decoy_path:K=8,H=8,k=2,p0=0.2,p1=0.15")()
    assert d.describe() == DecoyPath(8, 8, 2, 0.2, 0.15).describe()
    t = parse("hidden_trie:K=16,H=4,a=0.3,b=0.1,nodes=9")(1)
    assert t.describe() == HiddenTrie(16, 4, 0.3, 0.1, nodes=9, seed=1).describe()
    assert parse("hidden_path:K=4,p=0.4")(horizon=7).horizon == 7


def test_specs_print_what_they_read():
    for text in (
        "hidden_path:K=4,H=16,p=0.4",
        "decoy_path:K=8,H=8,k=2,p0=0.2,p1=0.15",
        "hidden_trie:K=16,a=0.3,b=0.1,nodes=9",
    ):
        assert str(parse(text)) == text
        assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hidden_pth:K=4,H=4,p=0.5", "unknown family 'hidden_pth'. Did you mean 'hidden_path'?"),
        (
            "",
            "unknown family ''. Known: combination_lock, decoy_path, dyck, from_logits, ",
        ),
        ("hidden_path", "hidden_path needs K, p, as in 'hidden_path:K=4,H=16,p=0.4'"),
        ("hidden_path:p=0.5", "needs K,"),
        ("decoy_path:K=8,H=8,k=2,p0=0.2", "needs p1,"),
        ("hidden_trie:K=8,H=8,nods=9", "has no parameter 'nods'. Did you mean 'nodes'?"),
        ("hidden_path:K=4,H=4,p=0.5,p=0.6", "gives 'p' twice"),
        ("hidden_path:K=four,H=4,p=0.5", "K must be an integer >= 0, got 'four'"),
        ("hidden_path:K=4.5,H=4,p=0.5", "K must be an integer >= 0, got 4.5"),
        ("hidden_path:K=4,H=4,p", "expected 'key=value', got 'p'"),
    ],
)
def test_bad_specs(text: str, why: str):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert why in str(caught.value)


def test_specs_that_cannot_be_built():
    with pytest.raises(InvalidInput, match="needs a horizon: add H=…"):
        parse("hidden_path:K=4,p=0.5")()
    with pytest.raises(InvalidInput, match="p must lie in"):
        parse("hidden_path:K=4,H=3,p=0.1")()
    with pytest.raises(InvalidInput, match="horizon must be"):
        parse("hidden_path:K=4,p=0.5")(horizon=0)


def test_the_catalogue_has_examples_that_parse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("laws.npz", np.zeros(3), np.eye(3))
    for name, line in catalogue().items():
        example = line.rpartition(" (")[2].rstrip(")")
        assert example.startswith(name)
        law = parse(example)(seed=1)
        steps = law.shape.layers if isinstance(law, CombinationLock) else law.horizon
        assert steps == parse(example).horizon
        assert "\n" not in line
