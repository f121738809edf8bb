"""Chats: token ids are those of ``apply_chat_template``, on templates of five common shapes."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import chats
import tiny_lm
from chats import ASK, TALKS
from reroot import InvalidInput, Problem
from reroot.access.episode import bind
from reroot.families import parse
from reroot.generators.tokenizer import Text
from reroot.generators.transformers import Transformers
from reroot.types import Chat


def text(template: str | None, **settings: Any) -> Text:
    made = chats.tokenizer(template)
    return Text(made, False, (), len(made), settings)


@pytest.mark.parametrize("name", chats.TEMPLATES)
@pytest.mark.parametrize("talk", TALKS)
def test_ids_are_the_templates(name: str, talk: str) -> None:
    if (name, talk) == ("model", "a system"):
        with pytest.raises(InvalidInput, match=r"refuses the messages .*no system role"):
            text(chats.MODEL).encode_chat(Chat.of(TALKS[talk]))
        return
    tokenizer, messages = chats.tokenizer(chats.TEMPLATES[name]), TALKS[talk]
    begun = messages[-1]["role"] == "assistant"
    right = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=not begun,
        continue_final_message=begun,
        tokenize=True,
        return_dict=True,
    )["input_ids"]
    found = text(chats.TEMPLATES[name]).encode_chat(Chat.of(messages))
    assert found == tuple(right)
    assert found.count(0) == ("bos_token" in chats.TEMPLATES[name])  # once, or never
    if begun:  # generation goes on inside the assistant's turn
        assert tokenizer.decode(found).endswith("Let me see:")


def test_a_prompt_of_text_is_one_message_of_a_user() -> None:
    made = chats.tokenizer(chats.HEADERS)
    chat = Text(made, True, (), len(made))
    assert chat.encode("1+1?") == chat.encode_chat(Chat.of(ASK))


def test_thinking_is_on_or_off_and_prefixes_start_behind_it() -> None:
    on, off = text(chats.THINKING), text(chats.THINKING, enable_thinking=False)
    chat = Chat.of(ASK)
    assert off.encode_chat(chat)[: len(on.encode_chat(chat))] == on.encode_chat(chat)
    assert off.decode(off.encode_chat(chat)[-6:]) == "\n\n\n\n"  # the marks are special
    assert off.encode_chat(Chat.of(ASK, enable_thinking=True)) == on.encode_chat(chat)
    assert on.digest() != off.digest()


def test_what_a_template_would_ignore_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"does not use 'enable_thinkin'. Did you mean 'enable_thinking'"
    ):
        text(chats.THINKING, enable_thinkin=False)
    with pytest.raises(InvalidInput, match="does not use 'enable_thinking'"):
        text(chats.CHATML).encode_chat(Chat.of(ASK, enable_thinking=False))
    with pytest.raises(InvalidInput, match="no chat template"):
        text(None, enable_thinking=False)
    with pytest.raises(InvalidInput, match=r"refuses the messages .*roles must alternate"):
        text(chats.INST).encode_chat(Chat.of([*ASK, *ASK]))


def test_a_problem_may_be_a_chat() -> None:
    made = chats.tokenizer(chats.CHATML)
    network = tiny_lm.model("llama", vocab=len(made), positions=128)
    generator = Transformers((network, made))
    problem = Problem("p", ASK, 4, lambda _: 1.0, demonstration="2")  # type: ignore[arg-type]
    episode = bind(problem, generator)
    assert episode.prompt == tuple(
        made.apply_chat_template(ASK, add_generation_prompt=True)["input_ids"]
    )
    assert episode.demonstration is not None
    assert made.decode(episode.demonstration.tokens, skip_special_tokens=True) == "2"
    with pytest.raises(
        InvalidInput, match=r"problem 'p': its prompt is a chat, and a \w+ has no chat"
    ):
        bind(problem, parse("hidden_path:K=4,H=4,p=0.5")(seed=0))
    plain = Transformers((network, chats.tokenizer(None)))
    with pytest.raises(
        InvalidInput, match="problem 'p': the prompt is a chat, and this tokenizer has no"
    ):
        bind(problem, plain)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "user"}], "a message needs a role and a text"),
        ([{"role": "user", "content": ["x"]}], "a message needs a role and a text"),
        ([{"role": "user", "content": "\ud800"}], "lone surrogate"),
    ],
)
def test_messages_that_are_none(messages: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Problem("p", messages, 4, lambda _: 1.0)
