"""What requests of OpenAI's clients ask for: prefixes, chats that go on, prompts of one's own, odd fields."""

from __future__ import annotations

import pytest

from reroot import Contract, InvalidInput
from reroot.serving.keys import Key
from reroot.serving.openai import chat_request, completion_request
from reroot.serving.schemas import ChatCompletion, Completion
from reroot.types import Chat
from serving_toys import catalogue
from toys import Wrapped, problem

KEY = Key("k", "0" * 64, Contract.parse("chosen/full").resolved)
ASKED = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1"}]


class Chatting(Wrapped):
    """A tree with a chat template: of any chat it keeps the last word, a token."""

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        return self.encode(chat.messages[-1][1])


SERVED = catalogue(Chatting(), [
    problem("chat", prompt=Chat.of(ASKED), max_tokens=4, demonstration=None),
    problem("tokens", prompt=(1, 2), max_tokens=3, demonstration=None),
])  # fmt: skip


def test_a_chat_that_goes_on_is_a_prefix_of_its_problem() -> None:
    body = ChatCompletion.model_validate(
        {"messages": [*ASKED, {"role": "assistant", "content": "2"}]}
    )
    asked = chat_request(body, SERVED, KEY)
    assert (asked.episode.problem.id, asked.own) == ("chat", False)
    assert asked.query.prefix.tokens == SERVED.generator.encode_continuation("2")
    other = ChatCompletion.model_validate({"messages": ASKED[1:]})
    assert chat_request(other, SERVED, KEY).own


def test_fields_of_messages_that_say_something_are_refused() -> None:
    for field in ("tool_calls", "name", "refusal"):
        message = {**ASKED[1], field: "x"}
        with pytest.raises(InvalidInput, match=f"a message's {field} is not served"):
            chat_request(ChatCompletion.model_validate({"messages": [message]}), SERVED, KEY)
        quiet = ChatCompletion.model_validate({"messages": [{**ASKED[1], field: None}]})
        assert chat_request(quiet, SERVED, KEY).own


def test_prompts_of_ones_own_are_as_long_as_they_say_or_as_there_is_room() -> None:
    def horizon(**more: object) -> int:
        body = Completion.model_validate({"prompt": [2], **more})
        asked = completion_request(body, SERVED, KEY)
        assert asked.own
        return asked.episode.horizon

    limit = SERVED.generator.max_length()
    assert horizon(max_tokens=3) == 3
    assert horizon() == (256 if limit is None else min(256, limit - 1))
    found = completion_request(Completion.model_validate({"prompt": [1, 2, 0]}), SERVED, KEY)
    assert (found.own, found.episode.problem.id, found.query.prefix.tokens) == (
        False,
        "tokens",
        (0,),
    )
