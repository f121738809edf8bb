"""Which calls are sent when: depth first, so that prefix caches work; and runs through a server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

import httpx2

from engines import serve
from engines.language import encode, save_tokenizer
from engines.tree import tree
from reroot.cli import main
from reroot.generators import Remote
from reroot.generators.base import Request

pytestmark = pytest.mark.slow(1.5)  # a server, and the check at the start

PROMPT = encode("the other thing and the rest of it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


async def _unsorted(url: str, prefixes: Sequence[tuple[int, ...]]) -> None:
    """All at once, in the order in which they come."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        bodies = [{"prompt": [*PROMPT, *u], "n_predict": 1, "temperature": 1} for u in prefixes]
        await asyncio.gather(*(client.post("/completion", json=body) for body in bodies))


@pytest.mark.slow(5)
def test_prompt_tokens_computed_are_a_quarter_of_unsorted_ones() -> None:
    """On a llama.cpp server with four slots, each of which keeps one sequence; we use two of them."""
    prefixes = tree(256)
    with serve("llamacpp", per_prompt=0.0005) as server:
        asyncio.run(_unsorted(server.url, prefixes))
        unsorted = server.counts.computed
    with serve("llamacpp", per_prompt=0.0005) as server:
        remote = Remote(server.url, window=2)
        before, started = server.counts.computed, remote.physical()
        stop = remote.stops(())
        remote.answer([Request(PROMPT, u, key=(i, 0), stop=stop) for i, u in enumerate(prefixes)])
        computed = server.counts.computed - before
        spent = remote.physical() - started
        remote.close()

    assert computed <= unsorted / 4, (computed, unsorted)
    assert server.counts.most_at_once == 2
    assert spent.computed == computed + 256  # and one token drawn at each
    assert spent.computed + spent.cached == sum(len(PROMPT) + len(u) + 1 for u in prefixes)


def test_two_thousand_requests_need_one_thread(folder: Path) -> None:
    with serve("vllm") as server:
        remote = Remote(server.url, tokenizer=folder, window=8)
        server.misbehave(delay=30)
        before = set(threading.enumerate())
        stop = remote.stops(())
        futures = remote.submit(
            [Request(PROMPT, (i % 300,), key=(i, 0), stop=stop) for i in range(2000)]
        )
        while server.engine.running < 8:
            threading.Event().wait(0.01)
        assert not set(threading.enumerate()) - before
        assert server.counts.most_at_once <= 8
        assert all(future.cancel() for future in futures)
        remote.close()


@pytest.mark.slow(8)
def test_a_comparison_runs_on_a_server_and_replays_without_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with serve("vllm") as server:
        words = (
            f"compare --task copy --horizons 2 --problems 2 --seeds 1 --budget-tokens 60 "
            f"--grants root/sample,visited/sample,chosen/full --transcripts --out {out}"
        )
        command = [*words.split(), "--model", f"{server.url}:tokenizer={folder}"]
        main(command)
        asked = server.counts.requests
        main(command)
        checks = server.counts.requests - asked
        assert checks < asked / 2  # the check at the start alone: nothing that was answered
    lines = [json.loads(line) for f in sorted(out.glob("transcripts/*.jsonl")) for line in f.open()]
    assert any(line.get("value") for line in lines)
    assert (out / "report.html").is_file()


def test_a_refused_contract_names_what_is_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        f"compare --task copy --horizons 2 --problems 1 --seeds 1 --budget-tokens 20 "
        f"--grants reset/sample --out {tmp_path / 'run'}"
    )
    with serve("vllm", "retokenized") as server, pytest.raises(SystemExit) as end:
        main([*words.split(), "--model", f"{server.url}:tokenizer={folder}"])
    assert end.value.code == 2
    assert "it serves control up to root" in " ".join(capsys.readouterr().err.split())
