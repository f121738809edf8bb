"""What the site is made of: certificates that are recorded, the README's picture, and the citation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import reroot
from built_site import faults
from docs_blocks import ROOT
from reroot.certify import cases_of
from reroot.pages.kit.plots import COLORS

yaml = pytest.importorskip("yaml")


@pytest.mark.slow(1)
def test_recorded_certificates_are_of_cases_that_there_are() -> None:
    """Whoever changes what is stated runs ``benchmarks/certificates.py`` again."""
    found = json.loads((ROOT / "docs" / "results" / "certificates.json").read_text("utf-8"))
    known = {" | ".join((c.learner.label, c.toy.name, c.states)) for c in cases_of()}
    assert set(found) <= known
    assert all(one["holds"] is not False for one in found.values())
    assert len(found) >= len(known) / 2


def test_the_picture_is_small_and_complete() -> None:
    picture = (ROOT / "docs" / "curves.svg").read_text(encoding="utf-8")
    assert len(picture) < 100_000
    assert "var(" not in picture
    assert "adaback 70 %" in picture


def test_the_site_has_the_colours_of_drawings() -> None:
    sheet = (ROOT / "docs" / "site.css").read_text(encoding="utf-8")
    light, _, dark = sheet.partition("slate")
    for name, (day, night) in COLORS.items():
        assert f"--{name}: {day};" in light
        assert f"--{name}: " in dark.partition("}")[0], night


def test_the_citation_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "type"} <= set(cited)
    assert cited["version"] == reroot.__version__
    assert cited["license"] == "Apache-2.0"


def test_the_workflow_makes_what_there_is() -> None:
    flow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    steps = [
        s.get("run", "") for job in yaml.safe_load(flow)["jobs"].values() for s in job["steps"]
    ]
    made = {step.split()[1] for step in steps if step.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert made == {"test", "test-core", "docs", "dist"}
    assert all(f"\n{target}: " in makefile for target in made)


def test_what_a_page_loads_from_elsewhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text('<link rel="canonical" href="https://a.b"><script src="x.js"></script>')
    assert faults(tmp_path) == []
    page.write_text('<script src="https://a.b/x.js"></script><img src="//a.b/c.png" alt="c">')
    assert len(faults(tmp_path)) == 2
    (tmp_path / "a.css").write_text("a { background: url(https://a.b/f.woff) }")
    assert len(faults(tmp_path)) == 3
