"""Chat templates rendered by ourselves, beside what transformers makes of them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import chats
from chats import ASK, TALKS
from reroot import InvalidInput
from reroot.generators.chat_template import render
from reroot.types import Chat

MARKED = (
    "{% for m in messages %}\n  {%- if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m | tojson }}{% endif %}\n{% endfor %}"
)
STRIPPED = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"


def beside(template: str, talk: str) -> tuple[str, str]:
    """(our text, that of transformers)."""
    tokenizer, messages = chats.tokenizer(template), TALKS[talk]
    names = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    mine = render(template, Chat.of(messages), names, {})
    begun = messages[-1]["role"] == "assistant"
    right: Any = tokenizer.apply_chat_template(
        messages, add_generation_prompt=not begun, continue_final_message=begun, tokenize=False
    )
    return mine, right


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("template", [*chats.TEMPLATES.values(), MARKED, STRIPPED])
def test_texts_are_those_of_transformers(template: str, talk: str) -> None:
    if template == chats.MODEL and talk == "a system":
        with pytest.raises(InvalidInput, match=r"refuses the messages .*no system role"):
            beside(template, talk)
        return
    found, right = beside(template, talk)
    assert found == right


def test_a_message_that_is_dropped_cannot_be_continued() -> None:
    begun = Chat.of([*ASK, {"role": "assistant", "content": "Well"}])
    with pytest.raises(InvalidInput, match="drops the message"):
        render("{{ messages[0].content }}", begun, {}, {})


def test_arguments_reach_the_template() -> None:
    template = "{{ messages[0].content }}{% if thinking %} hm{% endif %}"
    assert render(template, Chat.of(ASK, thinking=True), {}, {"thinking": False}) == "1+1? hm"
    with pytest.raises(InvalidInput, match="does not use 'thinkin'"):
        render(template, Chat.of(ASK), {}, {"thinkin": True})


def test_templates_run_in_a_sandbox() -> None:
    with pytest.raises(InvalidInput, match="SecurityError"):
        render("{{ ''.__class__.__mro__ }}{{ messages.append(1) }}", Chat.of(ASK), {}, {})
