"""Honest servers keep their claims, are granted what their dialect can have, and cost what the budget says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")

from engines import serve
from engines.language import save_tokenizer
from probing import claims
from reroot import InvalidInput
from reroot.cli.commands import run
from reroot.errors import BackendError
from reroot.generators import Remote
from reroot.generators.remote.granted import Profile
from reroot.probe import probe
from reroot.probe.repeats import repeats
from reroot.probe.running import TESTS
from reroot.probe.sampling_law import Drawn
from reroot.probe.site import EACH, LEVEL
from reroot.probe.site import TESTS as CHANCES

TEXTS = {"text boundaries", "last turn"}
LACKS = {
    "vllm": ("chosen/full", {"unknown fields"}),
    "sglang": ("chosen/full", {"unknown fields", "seeds", "last turn"}),
    "llamacpp": ("chosen/full", {"unknown fields", "draws, no field", "draws, temperature alone"}),
    "completions": ("root/sample", TEXTS),
    "chat": ("root/sample", TEXTS),
    "responses": ("root/sample", {"text boundaries"}),
}
"""Dialect → (contract, what its honest server is not: no lies, but no promises either)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def lacking(profile: dict[str, object]) -> set[str]:
    found: list[dict[str, object]] = profile["claims"]  # type: ignore[assignment]
    return {str(c["claim"]) for c in found if c["holds"] is False}


@pytest.mark.slow(4)
@pytest.mark.parametrize("dialect", ["vllm", "sglang", "completions", "chat", "responses"])
def test_honest_servers_keep_their_claims(dialect: str, folder: Path, nightly: bool) -> None:
    own = dialect in ("vllm", "sglang")
    for seed in range(8 if nightly else 1):
        with serve(dialect if own else "openai", seed=seed, language={"seed": seed}) as server:
            url = server.url if own else f"{dialect}:{server.url}"
            profile = probe(url, tokenizer=folder, seed=seed)
            counts = server.counts
        contract, lacks = LACKS[dialect]
        assert (profile["contract"], lacking(profile)) == (contract, lacks)
        assert counts.prompt_tokens + counts.generated <= profile["tokens"] <= 20_000
        json.dumps(profile, allow_nan=False)


@pytest.mark.slow(9)
def test_an_honest_llama_server(nightly: bool) -> None:
    """Its defaults are found where a request leaves them to it."""
    with serve("llamacpp") as server:
        profile = probe(server.url, budget_tokens=12_000)  # one draw per call: 20,000 take long
    assert (profile["contract"], lacking(profile)) == LACKS["llamacpp"]
    assert profile["tokens"] <= 12_000
    silent = next(c for c in profile["claims"] if c["claim"] == "draws, no field")
    within = {
        s["name"]: s["low"] <= v for s in silent["settings"] for v in (40,) if s["name"] == "top_k"
    }
    assert within.get("top_k", True)
    assert (
        "the server itself says temperature 0.8, top_k 40, top_p 0.95, min_p 0.05"
        in silent["evidence"]
    )


def test_error_rates_add_up() -> None:
    assert sum(test.chance for test in TESTS) + 1 == CHANCES  # and the reference
    assert pytest.approx(LEVEL) == CHANCES * EACH


def test_the_count_of_repeats_errs_as_rarely_as_it_says() -> None:
    """By enumeration: at two prefixes, over all pairs of counts."""
    level, wrong = 0.05, 0.0
    for a in range(21):
        for b in range(31):
            drawn = [
                Drawn(
                    np.array([6, 5]), np.log([0.7, 0.3]), np.repeat([5, 6], [a, 20 - a]), (5,), 7
                ),
                Drawn(
                    np.array([6, 5]), np.log([0.9, 0.1]), np.repeat([5, 6], [b, 30 - b]), (5,), 7
                ),
            ]
            if not repeats(drawn, level).holds:
                wrong += binom.pmf(a, 20, 0.3) * binom.pmf(b, 30, 0.1)
    assert 0.5 * level < wrong <= level


@pytest.mark.slow(1)
def test_a_budget_is_never_passed_and_what_does_not_fit_is_said(folder: Path) -> None:
    for budget in (60, 400):
        with serve("vllm") as server:
            profile = probe(server.url, tokenizer=folder, budget_tokens=budget)
            assert server.counts.prompt_tokens + server.counts.generated <= budget
        open_ = [
            c for c in profile["claims"] if c["evidence"].startswith("undetermined: the budget")
        ]
        assert open_
        assert all(c["holds"] is None for c in open_)
        assert profile["contract"] == "chosen/sample" if budget == 400 else "root/sample"


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("busy", "busy"),
        ("fails", "HTTP 500"),
        ("cuts", "half an answer"),
        ("garbles", "another shape"),
    ],
)
def test_faults_are_no_lies(fault: str, said: str, folder: Path) -> None:
    with serve("vllm", fault) as server:
        found = claims(server, folder, "log-probabilities", "seeds", "service")
    assert all(found[name].holds for name in ("token ids", "lists", "log-probabilities", "seeds"))


@pytest.mark.slow(2)
def test_a_server_that_dies_leaves_the_rest_undetermined(folder: Path) -> None:
    with serve("vllm") as server:
        asked: list[str] = []

        def die(name: str) -> None:
            asked.append(name)
            if name == "lists":
                server.die()

        profile = probe(server.url, tokenizer=folder, patience=0.5, on_claim=die)
    by_name = {c["claim"]: c for c in profile["claims"]}
    assert by_name["lists"]["holds"] is True
    assert by_name["seeds"]["holds"] is None
    assert "has been down" in by_name["seeds"]["evidence"]
    assert profile["contract"] == "chosen/sample"


def test_nothing_to_probe_is_one_error(folder: Path) -> None:
    with serve("vllm", quotes=True) as server:
        with pytest.raises(BackendError, match=r"nothing can be probed: .*HTTP 401"):
            probe(server.url, tokenizer=folder)
        with pytest.raises(InvalidInput, match="budget_tokens must be"):
            probe(server.url, tokenizer=folder, budget_tokens=0)


@pytest.mark.slow(5)
def test_a_profile_is_written_used_and_refuses(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("REROOT_API_KEY", key)
    out = tmp_path / "profile"
    with serve("vllm", "default_temperature") as server:
        command = ["probe", server.url, "--tokenizer", str(folder), "--out", str(out)]
        assert run(command) == 0
        shown = capsys.readouterr()
        assert "at most chosen/sample may be granted" in shown.out
        for file in out.iterdir():
            assert key not in file.read_text()
        assert (out / "profile.html").is_file()
        spent = server.counts.requests
        assert run(command) == 2
        assert server.counts.requests == spent
        assert "has a profile already" in capsys.readouterr().err
        model = f"{server.url}:tokenizer={folder},profile={out}"
        refused = [
            "compare",
            "--model",
            model,
            "--task",
            "copy",
            "--horizons",
            "2",
            "--problems",
            "1",
        ]
        refused += ["--seeds", "1", "--budget-tokens", "20", "--grants", "chosen/full"]
        assert run([*refused, "--learner", "first_success", "--out", str(tmp_path / "run")]) == 2
        assert "draws: every field neutral" in capsys.readouterr().err.replace("\n", " ")
    with (
        serve("vllm", language={"seed": 5}) as server,
        pytest.raises(BackendError, match="another model, or the same otherwise"),
    ):
        Remote(server.url, tokenizer=folder, profile=out)
    said = json.loads((out / "profile.json").read_text())
    with pytest.raises(InvalidInput, match="the profile is of the model 'other'"):
        Profile.read({**said, "model": "other"}).check_server("toy", "vllm")
