"""One page per learner: what it does, requires and takes, and what is certified of its law."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reroot.access.learner import LearnerFactory
from reroot.certify import Case, cases_of
from reroot.cli.app import documented
from reroot.cli.describe import TELL, Description, Parameter
from reroot.contract import Contract, Control
from reroot.learners import list_learners
from reroot.pages.kit.contracts import may

RECORD = Path(__file__).parents[1] / "results" / "certificates.json"


def pages() -> dict[str, str]:
    """Place on the site → Markdown, the list of all methods first."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    cases: dict[str, list[Case]] = {}
    for case in cases_of():
        cases.setdefault(case.method, []).append(case)
    learners = list_learners()
    told = {name: TELL["learner"](name, found, {}) for name, found in learners.items()}
    return {
        "methods/index.md": _index(told),
        **{
            f"methods/{name}.md": _page(told[name], found, cases.get(name, []), recorded)
            for name, found in learners.items()
        },
    }


def _index(told: Mapping[str, Description]) -> str:
    """All methods, by the control that they need."""
    lines = [
        "# Methods", "",
        f"{len(told)} learners, by the control that they need with their default parameters. Each page is made from the "
        "registry and the method's docstring; `reroot describe NAME` says the same at the shell.", "",
    ]  # fmt: skip
    for control in Control:
        some = [x for x in told.values() if x.requires.startswith(f"{control}/")]
        if some:
            lines += [f"## {control}", "", "| method | what it does | requires |", "|---|---|---|"]
            lines += [
                f"| [{x.name}]({x.name}.md) | {_cell(x.about.partition(chr(10))[0])} | `{x.requires}` |"
                for x in some
            ]
            lines.append("")
    rest = [x for x in told.values() if "/" not in x.requires.partition(" ")[0]]
    if rest:
        lines += ["## It depends on the parameters", ""]
        lines += [f"* [{x.name}]({x.name}.md): {x.about.partition(chr(10))[0]}" for x in rest]
    return "\n".join(lines) + "\n"


def _page(
    told: Description, found: LearnerFactory[...], cases: list[Case], recorded: Mapping[str, Any]
) -> str:
    first, _, rest = inspect.cleandoc(found.__doc__ or "").partition("\n")
    about = documented(found.__doc__)[0].partition("\n")[0]
    body = re.split(r"^(?:Args|Returns|Raises|Examples?):", rest, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [f"# {told.name}", "", f"**{_plain(about)}**" if first else "", "", _markdown(body), ""]
    lines += ["## Contract", "", f"Requires `{told.requires}`.", ""]
    if "/" in told.requires.partition(" ")[0]:
        lines += [may(Contract.parse(told.requires)), ""]
    if told.parameters:
        lines += ["## Parameters", "", "| name | default | meaning |", "|---|---|---|"]
        lines += [_parameter(name, p) for name, p in told.parameters.items()]
        lines.append("")
    lines += ["## Certificate", "", *_certificate(told.name, cases, recorded), ""]
    module = inspect.getmodule(found.function)
    source = f"`{module.__name__}`" if module else ""
    lines += ["## Source", "", "; ".join(filter(None, (_papers(told.source), f"code: {source}")))]
    return "\n".join(lines) + "\n"


def _certificate(name: str, cases: list[Case], recorded: Mapping[str, Any]) -> list[str]:
    if not cases:
        return ["None: no law of its output is stated."]
    lines = [f"What `reroot certify {name}` checks.", ""]
    for case in cases:
        key = " | ".join((case.learner.label, case.toy.name, case.states))
        lines += [f"* `{case.learner.label}` on *{case.toy.name}*, {case.how}:"]
        said = f"the law is {_plain(case.states)}" if case.law else f"measured: {_plain(case.states)}"  # fmt: skip
        lines += ["", f"    {said}", ""]
        if key in recorded:
            lines += [f"    {_numbers(recorded[key])}", ""]
    if not any(" | ".join((c.learner.label, c.toy.name, c.states)) in recorded for c in cases):
        lines += ["Its numbers are not recorded; the command prints them.", ""]
    return lines


def _numbers(one: Mapping[str, Any]) -> str:
    """What was found, in one sentence."""
    parts: list[str] = []
    within = f" (± {one['margin']:.2g})" if one["margin"] else ""
    if one["stated"]:
        tv = one["stated"]["tv"]
        parts.append(f"total variation to it {'0, but for rounding' if tv < 1e-10 else f'{tv:.3g}'}{within}")  # fmt: skip
    if one["aimed"]:
        kl = one["aimed"]["kl"]
        shown = f"{kl:.3g} nats" if isinstance(kl, float) else "infinite"
        parts.append(f"to {_plain(one['aimed']['name'])}: total variation {one['aimed']['tv']:.3g}{within}, KL {shown}")  # fmt: skip
    costs = [f"{x['expected']:.4g} {name}" for name, x in one["costs"].items() if x["expected"]]
    if costs:
        parts.append(f"expected cost {', '.join(costs)}")
    held = {True: "It holds", False: "**It does not hold**"}.get(one["holds"], "Measured")
    return f"{held}: {'; '.join(parts)}."


def _parameter(name: str, parameter: Parameter) -> str:
    default = f"`{_cell(parameter.default)}`" if parameter.default else ""
    return f"| `{name}` | {default} | {_cell(_plain(parameter.meaning))} |"


def _markdown(text: str) -> str:
    """A docstring's text: double backticks are code, ``::`` opens a block."""
    made, block = list[str](), False
    for line in text.strip("\n").splitlines():
        indented = line.startswith("    ") or not line.strip()
        if block and not indented:
            block = False
            while made and not made[-1]:
                made.pop()
            made += ["```", ""]
        if not block and line.rstrip().endswith("::"):
            made += [_plain(line.rstrip()[:-1]), "", "```text"]
            block = True
        elif block:
            if line.strip() or made[-1] != "```text":
                made.append(line[4:])
        else:
            made.append(_plain(line))
    return "\n".join([*made, "```"] if block else made)


def _plain(text: str) -> str:
    """Text whose signs are no marks of Markdown; what is in double backticks is code."""
    parts = re.split(r"(``[^`]+``)", text)
    return "".join(
        part[1:-1] if part.startswith("``") else re.sub(r"([*_<|\[\]])", r"\\\1", part)
        for part in parts
    )


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text.replace("\n", " "))


def _papers(source: str) -> str:
    return re.sub(r"arXiv[: ](\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)
