"""Every family of the registry: conformance, a page of the same shape, a line in the listing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reroot.cli.listing import generators
from reroot.families import FAMILIES, parse
from reroot.testing import check_generator

PAGE = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
SMALL = {
    "hidden_path": "hidden_path:K=3,H=3,p=0.5",
    "decoy_path": "decoy_path:K=5,H=3,k=2,p0=0.25,p1=0.22",
    "hidden_trie": "hidden_trie:K=4,H=3,a=0.4,b=0.25",
    "noisy_parity": "noisy_parity:H=4,alpha=0.1",
    "dyck": "dyck:H=4,noise=0.1",
    "combination_lock": "combination_lock:H=1,A=2,G=2,n=1,decoders=2",
    "staircase": "staircase:K=2,H=5,steps=2",
    "low_rank": "low_rank:K=2,H=4",
    "softmax_hard": "softmax_hard:K=4,H=1,epsilon=0.3",
    "needle": "needle:K=2,H=3",
    "rotated": "rotated:K=2,H=3",
    "mixture": "mixture:first='low_rank:K=3',second='hidden_path:K=3,p=0.5',H=3",
    "product": "product:first='low_rank:K=2',second='hidden_path:K=3,p=0.5',H=3",
    "from_logits": "from_logits:file={file}",
}


@pytest.mark.slow(6)
@pytest.mark.parametrize("name", FAMILIES)
def test_it_conforms(name: str, tmp_path: Path) -> None:
    file = tmp_path / "laws.npz"
    rng = np.random.default_rng(1)
    np.savez(file, *(rng.normal(size=(3,) * n) for n in (1, 2, 3)))
    spec = parse(SMALL[name].format(file=file))
    check_generator(lambda: spec(seed=2), draws=400)


@pytest.mark.parametrize("name", FAMILIES)
def test_its_page_has_the_example_the_law_the_closed_forms_and_what_is_hard(name: str) -> None:
    text = SECTIONS[name]
    assert text.strip().splitlines()[0] == f"`{FAMILIES[name].example}`"
    parts = re.split(r"\*\*(.+?)\*\*", text)
    assert parts[1::2] == ["Law.", "Closed forms.", "Hard for whom."]
    assert all(len(part.strip()) > 10 for part in parts[2::2])
    (line,) = (row[1] for row in generators()[1] if row[0] == name)
    assert FAMILIES[name].example in line


def test_the_page_has_no_other_family_and_names_what_there_is() -> None:
    assert list(SECTIONS) == list(FAMILIES)
    for name in set(re.findall(r"`((?:families|limits|diagnosis)\.[\w.]+)`", PAGE)):
        module, *path = name.split(".")
        thing: Any = importlib.import_module(f"reroot.{module}")
        for part in path:
            thing = getattr(thing, part)
