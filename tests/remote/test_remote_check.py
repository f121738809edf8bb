"""The check at the start: it accuses no honest server, and grants no contract to one that lies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")

from engines import serve
from engines.language import save_tokenizer
from reroot import InvalidInput, Report
from reroot.contract import Contract, Control
from reroot.generators import Remote
from reroot.generators.remote.granted import Granted, Profile

pytestmark = pytest.mark.slow(1.5)  # a server, and the check at the start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def granted(dialect: str, folder: Path, *names: str, **changes: object) -> Granted:
    with serve(dialect, *names, **changes) as server:
        remote = Remote(server.url, tokenizer=None if dialect == "llamacpp" else folder)
        remote.close()
        return remote.granted


def unmet(found: Granted) -> dict[str, str]:
    return {claim.name: claim.evidence for claim in found.claims if not claim.holds}


@pytest.mark.slow(4)
@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_honest_servers_are_granted_everything(dialect: str, folder: Path, nightly: bool) -> None:
    for seed in range(20 if nightly else 3):
        found = granted(dialect, folder, language={"seed": seed})
        assert (found.control, found.report, unmet(found)) == (Control.CHOSEN, Report.FULL, {})


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("dialect", "fault", "claim", "why", "most"),
    [
        ("vllm", "retokenized", "token ids", "it adds or respells tokens|of other tokens", "root/sample"),
        ("sglang", "retokenized", "token ids", "it adds or respells tokens", "root/sample"),
        ("vllm", "bos_on_ids", "token ids", "the server read", "root/sample"),
        ("vllm", "other_ids", "token ids", "speaks of other tokens", "root/sample"),
        ("vllm", "text_keys", "whole law", "names tokens by text", "chosen/sample"),
        ("vllm", "ignored_logprobs", "whole law", "ignores that they were asked", "chosen/sample"),
        ("vllm", "nan", "whole law", "log-probability of nan", "chosen/sample"),
        ("vllm", "mass_below_one", "whole law", "sums to 0.97", "chosen/sample"),
        ("vllm", "shifted_lists", "whole law", "the law sums to 1.1", "chosen/sample"),
        ("vllm", "default_top_k", "draws", "truncated", "chosen/sample"),
        ("vllm", "default_top_p", "draws", "truncated", "chosen/sample"),
        ("vllm", "default_min_p", "draws", "truncated", "chosen/sample"),
        ("vllm", "greedy", "draws", "copies of one", "chosen/sample"),
        ("llamacpp", "default_temperature", "token ids", "runs with 0.8", "root/sample"),
        ("llamacpp", "ignored_bias", "given tokens", "does not force", "chosen/full"),
        ("vllm", "seeds_ignored", "seeds", "the same seed gave other tokens", "chosen/full"),
        ("vllm", "copied_choices", "draws", "copies of one", "chosen/sample"),
    ],
)  # fmt: skip
def test_lies_are_found_and_cost_what_they_are_about(
    dialect: str, fault: str, claim: str, why: str, most: str, folder: Path
) -> None:
    found = granted(dialect, folder, fault)
    said = unmet(found)
    assert re.search(why, said[claim]), said
    assert Contract(found.control, found.report) == Contract.parse(most)
    stronger = Contract.parse("chosen/full")
    if most != "chosen/full":
        refusal = found.refusal(stronger)
        assert refusal is not None
        assert re.search(why, refusal)


def test_a_profile_bounds_what_is_granted(folder: Path, tmp_path: Path) -> None:
    profile = {
        "contract": "reset/topk(7)",
        "claims": [{"claim": "draws", "holds": True, "evidence": "χ² over 20,000 tokens"}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    with serve("vllm") as server:
        for given in (profile, tmp_path, tmp_path / "profile.json"):
            remote = Remote(server.url, tokenizer=folder, profile=given)
            found = remote.granted
            assert (found.control, found.report) == (Control.RESET, Report.TOPK(7))
            assert found.claims[0].evidence == "χ² over 20,000 tokens"
            assert found.refusal(Contract.parse("chosen/sample")) is not None
            assert found.refusal(Contract.parse("reset/topk(7)")) is None
            assert found.refusal(Contract.parse("reset/logprob@T=0.5")) is not None
            remote.close()
        server.misbehave("retokenized")
        remote = Remote(server.url, tokenizer=folder, profile=profile)
        assert remote.granted.control == Control.ROOT
        remote.close()
    with pytest.raises(InvalidInput, match="is no profile"):
        Profile.read(tmp_path / "no")
    with pytest.raises(InvalidInput, match="a profile has a contract"):
        Profile.read({"claims": []})


def test_what_stands_on_the_command_line_of_a_llama_server() -> None:
    """Biases are taken back; stop texts cannot be, so that nothing is asked of it."""
    with serve("llamacpp", bias={90: 50.0}) as server:
        remote = Remote(server.url)
        assert all(claim.holds for claim in remote.granted.claims)
        remote.close()
    with serve("llamacpp", stops=(" t",)) as server:
        remote = Remote(server.url)
        said = remote.granted.claims[0]
        assert not said.holds
        assert said.evidence == "the server was told stop=[] and runs with [' t']"
        remote.close()
