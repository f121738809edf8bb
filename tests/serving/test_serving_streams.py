"""Streamed answers: what they say is what is told without a stream; comments while there is nothing to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from reroot import Budget
from serving_toys import Held, Server, serving

PATH = "/v1/completions"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Held, Server]]:
    family = Held().hold()
    with serving(family, [family.problem(id="p0")], tmp_path, beat=0.02) as server:
        yield family, server
        family.may.set()


def events(lines: Iterator[str]) -> list[Any]:
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def test_who_waits_is_sent_comments_and_then_what_is_written_down(
    held: tuple[Held, Server],
) -> None:
    """Equal, under the same name, to the answer without a stream, and charged once."""
    family, server = held
    key = server.key("a", "root/sample", Budget(rollouts=3))
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "the same request"}
    body = {"prompt": [], "n": 3, "stream": True, "stream_options": {"include_usage": True}}
    http = httpx2.Client(base_url=server.url, headers=headers, trust_env=False)
    with http, http.stream("POST", PATH, json=body) as said:
        assert said.headers["content-type"].startswith("text/event-stream")
        assert said.headers["cache-control"] == "no-cache"
        lines = said.iter_lines()
        waiting = [line for line in (next(lines) for _ in range(6)) if line]
        assert waiting == [": waiting"] * 3
        family.may.set()
        *told, usage, done = events(lines)
    assert done == "[DONE]"
    plain = httpx2.post(
        server.url + PATH, json={"prompt": [], "n": 3}, headers=headers, trust_env=False
    ).json()
    assert usage["usage"] == plain["usage"]
    assert usage["choices"] == []
    assert all(event["usage"] is None for event in told)
    assert {event["id"] for event in told} == {plain["id"]}
    for choice in plain["choices"]:
        parts = [c for e in told for c in e["choices"] if c["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [p["finish_reason"] for p in parts] == [None, choice["finish_reason"]]
    assert server.desk.sessions.ledger.spent("a").rollouts == 3


def test_what_fails_late_is_told_as_an_event(
    held: tuple[Held, Server],
) -> None:
    """OpenAI's client raises it; a client that goes away meanwhile stops nobody, and is charged."""
    family, server = held
    rich, poor = server.key("rich", "root/sample"), server.key("poor", "root/sample", Budget(rollouts=1))  # fmt: skip

    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)

    with client(rich) as one, client(poor) as other, ThreadPoolExecutor(1) as pool:
        passing = pool.submit(one.completions.create, model="toy", prompt=[])
        assert family.asked.wait(20)
        gone = one.completions.create(model="toy", prompt=[], stream=True)
        gone.close()
        stream = other.completions.create(model="toy", prompt=[], n=2, stream=True)
        family.may.set()
        with pytest.raises(openai.APIError, match="rollouts"):
            list(stream)
        assert passing.result(30).choices
        assert len(list(other.completions.create(model="toy", prompt=[], stream=True))) == 2
        spent = [httpx2.get(f"{server.url}/v1/account", headers={"Authorization": f"Bearer {key}"},
                            trust_env=False).json()["spent"]["rollouts"] for key in (rich, poor)]  # fmt: skip
        assert spent == [2, 1]
