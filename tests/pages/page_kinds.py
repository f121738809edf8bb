"""Small pages of every kind, for tests of what holds for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from comparison_runs import SMALL, write_fixture
from reroot.pages import report
from reroot.pages.training.page import write_training_page
from training_runs import write_run

RECORDS = Path(__file__).parent / "records"
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def comparison(folder: Path) -> str:
    return report(write_fixture(folder, replace(SMALL, horizons=(2, 4)))).read_text(
        encoding="utf-8"
    )


def training(folder: Path) -> str:
    runs = [write_run(folder / arm, arm, seed=seed) for seed, arm in enumerate(("root", "adaback"))]
    return write_training_page(runs, folder / "page.html").read_text(encoding="utf-8")


def curves(folder: Path) -> str:
    page = write_training_page([RESULTS / "curves-copy.parquet"], folder / "page.html")
    return page.read_text(encoding="utf-8")


def profile(folder: Path) -> str:
    from reroot.pages.profile.page import render

    return render(json.loads((RESULTS / "profile-llamacpp.json").read_text(encoding="utf-8")))


def certificates(folder: Path) -> str:
    from reroot.pages.certificates.page import render

    return render(json.loads((RECORDS / "certificates.json").read_text(encoding="utf-8")))


def suite(folder: Path) -> str:
    from reroot.pages.suite.page import render

    return render(json.loads((RECORDS / "suite.json").read_text(encoding="utf-8")))


def diagnosis(folder: Path) -> str:
    from reroot.pages.diagnosis.page import render

    return render(json.loads((RECORDS / "diagnosis.json").read_text(encoding="utf-8")))


def experiment(folder: Path) -> str:
    from reroot.experiments.page import write_page
    from reroot.experiments.runner import load_rows

    record = folder / "settle-neural.parquet"
    record.write_bytes((RESULTS / record.name).read_bytes())
    return write_page(load_rows(record)).read_text(encoding="utf-8")


KINDS: dict[str, Callable[[Path], str]] = {
    made.__name__: made
    for made in (comparison, training, curves, profile, certificates, suite, diagnosis, experiment)
}
