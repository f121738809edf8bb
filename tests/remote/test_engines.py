"""The test server itself: what it states is what it draws from, unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

import httpx2

from engines import HONEST, MISBEHAVIOURS, Server, behaviour, serve
from engines.language import EOS, K, Language, chat, decode, encode, token_bytes
from engines.sampling import Sampler
from reroot.testing.base import fits

PROMPT = encode("the cat")


def post(server: Server, path: str, body: Mapping[str, Any]) -> Any:
    reply = httpx2.post(server.url + path, json=dict(body), timeout=20)
    assert reply.status_code == 200, reply.text
    return reply.json()


def draws(server: Server, n: int, **fields: Any) -> list[int]:
    reply = post(
        server,
        "/v1/completions",
        {"prompt": PROMPT, "max_tokens": 1, "n": n, "return_token_ids": True, **fields},
    )
    return [choice["token_ids"][0] for choice in reply["choices"]]


def test_bytes_spell_texts() -> None:
    for text in ("the other thing", "1 + 2\n= 3", "naïve 💡"):
        ids = encode(text)
        assert decode(ids) == text
        assert b"".join(token_bytes()[i] for i in ids).decode() == text
    assert len(encode("the")) == 1
    assert encode("t") + encode("he") != encode("the")  # so that a text can be spelt otherwise


def test_laws_are_laws_of_high_entropy() -> None:
    law = Language().law(PROMPT)
    assert np.exp(law).sum() == pytest.approx(1, abs=1e-12)
    assert -(np.exp(law) * law).sum() > 3.5
    assert np.abs(law - Language().law(PROMPT[1:])).max() > 0.1


@pytest.mark.slow(2)
def test_an_honest_vllm_draws_from_what_it_states() -> None:
    with serve("vllm") as server:
        law = server.engine.language.law(PROMPT)
        fits(np.array(draws(server, 4000, seed=1)), law, "draws")
        reply = post(
            server,
            "/v1/completions",
            {"prompt": PROMPT, "max_tokens": 1, "logprobs": -1, "return_tokens_as_token_ids": True},
        )
        listed = reply["choices"][0]["logprobs"]["top_logprobs"][0]
        assert len(listed) == K
        stated = np.array([listed[f"token_id:{i}"] for i in range(K)])
        np.testing.assert_allclose(stated, law, atol=1e-5)


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("default_temperature", Sampler(temperature=0.8)),
        ("default_top_k", Sampler(top_k=40)),
        ("default_top_p", Sampler(top_p=0.9)),
        ("default_min_p", Sampler(min_p=0.05)),
        ("default_repetition_penalty", Sampler(repetition_penalty=1.3)),
    ],
)
def test_silent_changes_hold_whatever_is_asked(name: str, sampler: Sampler) -> None:
    neutral = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
    with serve("vllm", name) as server:
        raw = server.engine.language.law(PROMPT)
        seen = draws(server, 4000, seed=1, **neutral)
        fits(np.array(seen), sampler.law(raw, PROMPT, ()), name)


def test_llama_draws_by_its_defaults_unless_told() -> None:
    neutral = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "samplers": ["temperature"]}
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    with serve("llamacpp") as server:
        for told in seen:
            body = {"prompt": [list(PROMPT)] * 300, "n_predict": 1, "return_tokens": True}
            replies = post(server, "/completion", body | (neutral if told else {}))
            seen[told] = {reply["tokens"][0] for reply in replies}
    assert len(seen[False]) <= 40 < len(seen[True])


def test_caches_count_what_they_spare() -> None:
    with serve("vllm") as server:
        for _ in range(2):
            draws(server, 1)
            reply = post(server, "/v1/completions", {"prompt": [5] * 9, "max_tokens": 1})
        assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
        assert server.counts.prompt_tokens == 2 * (len(PROMPT) + 9)
        assert server.counts.computed == 2 * len(PROMPT) + 9 + 1


def test_it_dies_and_comes_back() -> None:
    with serve("llamacpp") as server:
        server.die()
        with pytest.raises(httpx2.TransportError):
            httpx2.get(server.url + "/health")
        server.revive()
        assert httpx2.get(server.url + "/health").status_code == 200


def test_chats_are_continued_or_closed() -> None:
    messages = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "and"}]
    with serve("llamacpp") as server:
        reply = post(server, "/v1/chat/completions", {"messages": messages, "max_tokens": 1})
        assert reply["choices"][0]["message"]["content"].startswith("and")
        assert reply["usage"]["prompt_tokens"] == len(chat(messages, continues=True))
    with serve("vllm") as server:
        reply = post(server, "/v1/chat/completions", {"messages": messages, "max_tokens": 1})
        assert (
            reply["usage"]["prompt_tokens"]
            == len(chat(messages))
            > len(chat(messages, continues=True))
        )


@pytest.mark.slow(1)
def test_seeds_and_copies() -> None:
    with serve("vllm") as server:
        assert draws(server, 9, seed=3) == draws(server, 9, seed=3) != draws(server, 9, seed=4)
        assert draws(server, 9, seed=3)[1:] == draws(server, 8, seed=4)  # choice i: seed + i
    with serve("vllm", "copied_choices") as server:
        assert len(set(draws(server, 9))) == 1


@pytest.mark.parametrize("dialect", HONEST)
def test_every_misbehaviour_is_a_change(dialect: str) -> None:
    for name in MISBEHAVIOURS:
        made = behaviour(dialect, name)
        assert made != HONEST[dialect] or name in (
            "seeds_ignored",
            "seeds_serial",
            "llama_defaults_when_silent",
        )


def test_the_end_token_ends() -> None:
    with serve("sglang", language={"end": 0.5}) as server:
        body = {"input_ids": PROMPT, "sampling_params": {"max_new_tokens": 50, "n": 20}}
        for reply in post(server, "/generate", body):
            assert reply["output_ids"].index(EOS) == len(reply["output_ids"]) - 1
            assert reply["meta_info"]["finish_reason"] == {"type": "stop", "matched": EOS}
