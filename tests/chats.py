"""Chat templates of the common shapes, written for tests, on a vocabulary of bytes and marks."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MARKS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<think>", "</think>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# a begin token in the template, and headers: Llama 3
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}<|im_end|>\n\n"
    "{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_end|>\n\n{% endif %}"
)
# turns that must alternate, the system's text inside the first: Mistral
INST = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set sys = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {% if loop.first and sys %}{{ sys }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
# the assistant is called model, and there is no system: Gemma
MODEL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{% for m in messages %}<|im_start|>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# thinking that can be switched off: Qwen 3
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "headers": HEADERS,
    "inst": INST,
    "model": MODEL,
    "thinking": THINKING,
}


def tokenizer(template: str | None, begins: bool = True) -> Any:
    """Bytes and marks; ``begins``: it puts its begin token before every text."""
    words = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    rules = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, []))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules.decoder = decoders.ByteLevel()
    if begins:
        rules.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=rules, bos_token="<s>", eos_token="</s>")
    made.add_special_tokens({"additional_special_tokens": MARKS[2:]})
    made.chat_template = template
    return made


ASK = [{"role": "user", "content": "1+1?"}]
TALKS = {
    "a question": ASK,
    "a talk": [*ASK, {"role": "assistant", "content": "2"}, {"role": "user", "content": "sûre?"}],
    "a turn begun": [*ASK, {"role": "assistant", "content": "Let me see:"}],
    "a system": [{"role": "system", "content": "Be brief."}, *ASK],
}
