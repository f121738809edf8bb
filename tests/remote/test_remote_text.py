"""Servers that speak in texts: rollouts from the root, in the tokens of a tokenizer that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")

from engines import serve
from engines.language import ASSISTANT, BOS, EOS, USER, K, chat, encode, save_tokenizer, token_bytes
from reroot import InvalidInput, Report
from reroot.contract import Contract, Control
from reroot.errors import BackendError
from reroot.generators import Remote
from reroot.generators.base import Request
from reroot.generators.remote.text import from_folder
from reroot.testing.base import fits
from reroot.types import Chat

pytestmark = pytest.mark.slow(1.5)  # a server, and the check at the start

TEXTS = ("completions", "chat", "responses")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("dialect", TEXTS)
def test_rollouts_are_the_servers_texts(dialect: str, folder: Path) -> None:
    with serve("openai", language={"end": 0.2}) as server:
        remote = Remote(f"{dialect}:{server.url}", tokenizer=folder)
        assert (remote.granted.control, remote.granted.report) == (Control.ROOT, Report.SAMPLE)
        prompt = remote.encode("the cat")
        request = Request(prompt, n=40, length=6, stop=remote.stops(()))
        (reply,) = remote.answer([request])
        assert reply.n == 40
        ended = [EOS in reply.continuation(i) for i in range(40)]
        assert any(ended)
        for i in range(40):
            tokens = reply.continuation(i)
            assert len(tokens) == 6 or tokens[-1] == EOS
            text = remote.decode(tokens)
            assert (
                "\ufffd" in text
                or remote.encode_continuation(text) == tokens[: len(tokens) - (tokens[-1] == EOS)]
            )
        body = server.engine.asked[-1][1]
        assert body["temperature"] == body["top_p"] == 1.0
        remote.close()


@pytest.mark.slow(2)
def test_draws_of_texts_follow_the_law(folder: Path) -> None:
    """By first characters, which do not depend on how a text is spelt."""
    with serve("openai") as server:
        remote = Remote(f"completions:{server.url}", tokenizer=folder)
        prompt = remote.encode("the cat")
        (reply,) = remote.answer([Request(prompt, n=1500, length=1, stop=remote.stops(()))])
        law = np.exp(server.engine.language.law(encode("the cat")))
        known = np.zeros(257)
        for token, piece in enumerate(token_bytes()):
            known[piece[0] if piece else 256] += law[token]
        seen = [remote.decode(reply.continuation(i)).encode() for i in range(reply.n)]
        plain = np.array([text[0] if text else 256 for text in seen])
        plain[plain >= 0x80] = 0x80  # half a character is shown as another
        known[0x80] = known[0x80:256].sum()
        known[0x81:256] = 0
        with np.errstate(divide="ignore"):
            fits(plain, np.log(known), "first characters")
        remote.close()


@pytest.mark.parametrize("dialect", TEXTS)
def test_more_than_rollouts_is_refused(dialect: str, folder: Path) -> None:
    with serve("openai") as server:
        remote = Remote(f"{dialect}:{server.url}", tokenizer=folder)
        for contract in ("visited/sample", "root/logprob", "root/sample@T=0.7"):
            why = remote.capabilities.refusal(Contract.parse(contract))
            assert why is not None
            assert "speaks in texts" in why
        prompt = remote.encode("the")
        for request in (
            Request(prompt, (5,), stop=remote.stops(())),
            Request(prompt, report=Report.LOGPROB, stop=remote.stops(())),
        ):
            with pytest.raises(InvalidInput):
                remote.answer([request])
        remote.close()


def test_chats_are_sent_as_messages(folder: Path) -> None:
    said = Chat((("user", "the"), ("assistant", "and"), ("user", "other")))
    with serve("openai") as server:
        remote = Remote(f"chat:{server.url}", tokenizer=folder)
        prompt = remote.encode_chat(said)
        remote.answer([Request(prompt, length=2, stop=remote.stops(()))])
        messages = server.engine.asked[-1][1]["messages"]
        assert [(m["role"], m["content"]) for m in messages] == list(said.messages)
        with pytest.raises(InvalidInput, match="would close the last turn"):
            remote.encode_chat(Chat((("user", "the"), ("assistant", "and"))))
        remote.close()
        other = Remote(f"completions:{server.url}", tokenizer=folder)
        with pytest.raises(InvalidInput, match="takes no chats"):
            other.encode_chat(said)
        other.close()


def test_a_server_with_another_shape_is_said(folder: Path) -> None:
    with serve("openai", garbles=1) as server:
        remote = Remote(f"chat:{server.url}", tokenizer=folder)
        with pytest.raises(BackendError, match="is no chat reply"):
            remote.answer([Request(remote.encode("a"), stop=remote.stops(()))])
        remote.close()


def test_folders_of_tokenizers_speak(folder: Path) -> None:
    text, vocab = from_folder(folder, None, chat=False)
    assert vocab == K
    assert text.end == EOS
    assert text.encode("the cat") == encode("the cat")
    said = Chat((("user", "the"),))
    assert text.encode_chat(said) == (BOS, USER, *encode("the"), EOS, ASSISTANT)
    going = Chat((("user", "the"), ("assistant", "and so")))
    messages = [{"role": role, "content": content} for role, content in going.messages]
    assert text.encode_chat(going) == chat(messages, continues=True)
    rule = text.stops(["er t"])
    tokens = encode("other thing")
    assert rule.first_end(tokens) is not None
    assert text.decode((*tokens, EOS)) == "other thing"


def test_llama_servers_tell_their_own_vocabulary(folder: Path) -> None:
    known, _ = from_folder(folder, None, chat=False)
    with serve("llamacpp") as server:
        remote = Remote(server.url)
        assert (remote.vocab_size, remote.end_token) == (K, EOS)
        for text in ("the other thing", "naïve 💡\n"):
            tokens = remote.encode(text)
            assert tokens == known.encode(text)
            assert remote.decode(tokens) == text
        own, other = remote.stops(["er t"]), known.stops(["er t"])
        assert (own.tokens, own.closing) == (other.tokens, other.closing)
        chatting = Remote(server.url, chat=True)
        assert chatting.encode("the") == (BOS, USER, *encode("the"), EOS, ASSISTANT)
        chatting.close()
        remote.close()


def test_all_end_tokens_of_a_llama_server_are_found() -> None:
    """It tells one of them; at the others a rollout would be an error."""
    with serve("llamacpp", ends=frozenset({EOS, USER}), language={"end": 0.2}) as server:
        remote = Remote(server.url)
        rule = remote.stops(())
        assert (remote.end_token, rule.tokens) == (EOS, {EOS, USER})
        server.engine.language._level[USER] = server.engine.language._level.max()
        server.engine.language.law.cache_clear()
        (reply,) = remote.answer([Request((70, 80), n=20, length=8, stop=rule)])
        assert {tokens[-1] for tokens in reply.outputs()} >= {EOS, USER}
        remote.close()
