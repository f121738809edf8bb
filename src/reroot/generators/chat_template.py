"""Chat templates: the Jinja program of a model that makes one text of messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..errors import InvalidInput, nearest
from ..types import Chat

_GENERATION = re.compile(r"({%-?\s*)(end)?generation(\s*-?%})")  # marks what is trained on
_MARK = "(the message is continued here) "


def check_arguments(templates: Iterable[str], settings: Mapping[str, Any]) -> None:
    """Refuse arguments that all of ``templates`` would ignore in silence (``InvalidInput``)."""
    if not settings:
        return
    from jinja2 import Environment, meta

    parse = Environment(extensions=["jinja2.ext.loopcontrols"]).parse
    used = set[str]().union(*(meta.find_undeclared_variables(parse(_plain(t))) for t in templates))
    for name in settings:
        if name not in used:
            raise InvalidInput(
                f"the chat template does not use {name!r}.{nearest(name, sorted(used))}"
            )


def render(template: str, chat: Chat, names: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The text of a chat, which ends where the assistant's next token goes.

    Args:
        template: Jinja, as model files bring it; it runs in a sandbox.
        names: special tokens that it may name, such as ``eos_token``.
        settings: further arguments; those of the chat win.

    Raises:
        InvalidInput: the template does not use an argument, fails, or drops the message to continue.
    """
    settings = {**settings, **dict(chat.settings)}
    check_arguments([template], settings)
    messages = [{"role": role, "content": text} for role, text in chat.messages]
    if chat.continued:
        messages[-1]["content"] += _MARK
    try:
        text = _compiled(template).render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=not chat.continued,
            **{**names, **settings},
        )
    except Exception as error:  # templates raise what they like
        raise InvalidInput(
            f"the chat template refuses the messages ({type(error).__name__}: {error}): {chat}"
        ) from error
    if not chat.continued:
        return text
    before, mark, after = text.rpartition(_MARK.strip())
    if not mark:
        raise InvalidInput(f"the chat template drops the message that is to be continued: {chat}")
    return before if after.startswith(" ") else before.rstrip()  # one that strips messages


def _plain(template: str) -> str:
    """``template`` with marks of what is trained on made to ordinary blocks."""
    return _GENERATION.sub(lambda m: m[1] + ("endif" if m[2] else "if true") + m[3], template)


@lru_cache(16)
def _compiled(template: str) -> Any:
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own escapes HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(_plain(template))
