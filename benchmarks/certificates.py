"""The certificates that the pages of methods show: ``python benchmarks/certificates.py [METHOD …]``.

Checks every case, those that are enumerated first, and keeps each in ``docs/results/certificates.json`` as it is done:
an hour on one core, most of it for the cases that are sampled. What is recorded is not made again; ``--again`` makes it again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from reroot.certify.case import Case, Sampled
from reroot.certify.cases import cases_of
from reroot.certify.check import certify
from reroot.certify.record import record

RECORD = Path(__file__).parents[1] / "docs" / "results" / "certificates.json"
SHOWN = ("learner", "toy", "states", "grants", "how", "runs", "margin", "stated", "aimed", "costs", "holds")  # fmt: skip


def name_of(case: Case) -> str:
    """What a case is known by: it is another one when what is stated changes."""
    return " | ".join((case.learner.label, case.toy.name, case.states))


def recorded() -> dict[str, dict[str, Any]]:
    """Name → certificate, of what has been checked."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", help="registry names (default: all)")
    parser.add_argument("--again", action="store_true", help="make recorded ones again")
    chosen = parser.parse_args()
    known = {name_of(case): case for case in cases_of()}
    found = {name: one for name, one in recorded().items() if name in known}
    cases = [c for c in known.values() if not chosen.methods or c.method in chosen.methods]
    for case in sorted(cases, key=lambda case: isinstance(case, Sampled)):
        if name_of(case) in found and not chosen.again:
            continue
        one = record(certify(case))
        found[name_of(case)] = {key: one[key] for key in SHOWN}
        print(f"{one['seconds']:7.1f} s  {name_of(case)}", flush=True)
        ordered = {name: found[name] for name in known if name in found}
        RECORD.write_text(
            json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
