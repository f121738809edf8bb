"""The text form of contracts: documented examples, lenient spelling, and what a wrong text is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroot.contract import Contract, Control, Oracle, Report, Sampling
from reroot.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "contract"),
    [
        ("root/sample", Contract(Control.ROOT, Report.SAMPLE)),
        ("reset/topk(5)@T=1", Contract(Control.RESET, Report.TOPK(5), Sampling())),
        (
            "chosen/full+reward+verifier",
            Contract(Control.CHOSEN, Report.FULL, None, [Oracle.REWARD, Oracle.VERIFIER]),
        ),
        (
            "visited/logprob+demonstration@T=0.7,top_p=0.9,top_k=50",
            Contract(
                Control.VISITED, Report.LOGPROB, Sampling(0.7, 0.9, 50), [Oracle.DEMONSTRATION]
            ),
        ),
        ("chosen/argmax(3)", Contract(Control.CHOSEN, Report.ARGMAX(3))),
        (
            "reset/none+value+hidden",
            Contract(Control.RESET, Report.NONE, None, [Oracle.HIDDEN, Oracle.VALUE]),
        ),
    ],
)
def test_documented_examples(text: str, contract: Contract) -> None:
    assert Contract.parse(text) == contract
    assert str(contract) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" Root / SAMPLE ", "root/sample"),
        ("chosen/argmax", "chosen/argmax(1)"),
        ("reset/TopK ( 5 ) + Reward @ t = 1.0 , TOP_P = 0.9", "reset/topk(5)+reward@T=1,top_p=0.9"),
        ("root/sample@top_k=3", "root/sample@T=1,top_k=3"),
        ("root/sample+verifier+reward+reward", "root/sample+reward+verifier"),
        ("root/none", "root/none"),
        ("root/none+hidden+Value+demonstration", "root/none+demonstration+value+hidden"),
    ],
)
def test_spelling_is_lenient(text: str, canonical: str) -> None:
    assert str(Contract.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("rest/sample", "Did you mean 'reset'?"),
        ("chozen/full", "Did you mean 'chosen'?"),
        ("zzz/full", "Known: chosen, episode, reset, root, visited."),
        ("root/sampel", "Did you mean 'sample'?"),
        ("root/log_prob", "Did you mean 'logprob'?"),
        ("root/tpok(100000)", "Did you mean 'topk'?"),
        ("root/topk[5]", "Did you mean 'topk'?"),
        ("root/", "Known: argmax, full, logprob, sample, topk."),
        ("root/sample+rewards", "Did you mean 'reward'?"),
        ("root/sample+", "Known: demonstration, hidden, reward, value, verifier."),
        ("root/sample@topp=0.9", "Did you mean 'top_p'?"),
        ("root/sample@", "sampling law '': expected 'key=value'"),
        ("root/sample@x=3", "unknown sampling setting 'x'. Known: T, top_k, top_p."),
        ("root/sample@T=hot", "temperature must be a number, got 'hot'"),
        ("root/sample@T", "sampling law 'T': expected 'key=value'"),
        ("root/sample@top_k=1.5", "top_k must be an integer >= 0 (0: off), got 1.5"),
        ("root/sample@T=1,T=0.5", "gives 't' twice"),
        ("root/sample@T=-1", "temperature must be finite and >= 0, got -1.0"),
        ("root/sample@T=inf", "temperature must be finite"),
        ("root/sample@T=nan", "temperature must be finite"),
        ("root/sample@top_p=0", "top_p must lie in (0, 1], got 0.0"),
        ("root/sample@T=1@T=1", "temperature must be a number, got '1@t=1'"),
        ("root/topk", "needs a list length, as in 'topk(5)'"),
        ("root/topk()", "needs an integer list length >= 1"),
        ("root/topk(0)", "needs an integer list length >= 1"),
        ("root/argmax(-2)", "needs an integer list length >= 1"),
        ("root/topk(2.5)", "needs an integer list length >= 1"),
        (f"root/topk({'9' * 5000})", "needs an integer list length >= 1"),
        ("root/sample(3)", "sample takes no list length"),
        ("root/full(0)", "full takes no list length"),
        ("root", "must look like 'control/report', as in 'reset/sample'"),
        ("", "must look like 'control/report'"),
        ("root/sample/full", "unknown report 'sample/full'"),
    ],
)
def test_bad_texts_name_what_was_expected(text: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Contract.parse(text)
    assert hint in str(caught.value)


@given(st.text(max_size=30) | st.text("rotchsnampl/+@=T(),15_ ", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        contract = Contract.parse(text)
    except InvalidInput:
        return
    assert Contract.parse(str(contract)) == contract


@pytest.mark.parametrize("kind", [Contract, Control, Report, Sampling, Oracle])
@pytest.mark.parametrize("value", [None, 3, b"root/sample", ["root/sample"]])
def test_only_text_is_parsed(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidInput, match="named by text"):
        kind.parse(value)


@pytest.mark.parametrize("text", ["root\x1b/sample", "root/sam\u0000ple", "reset/sample@T=1\x07"])
def test_control_characters_are_no_part_of_a_contract(text: str) -> None:
    with pytest.raises(InvalidInput, match="control character"):
        Contract.parse(text)
