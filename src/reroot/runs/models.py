"""Models by name: which kinds there are, how one is loaded."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from .. import specs
from ..checks import check_int
from ..errors import InvalidInput
from ..generators.base import Generator
from ..generators.remote.endpoint import is_endpoint
from .inputs import generator_of

_DTYPES = ("float32", "bfloat16", "float16")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


@dataclass(frozen=True, slots=True)
class Load:
    """How to load a language model; ``chat_template_kwargs`` as in ``enable_thinking=false``."""

    chat: bool = False
    dtype: str = "float32"
    device: str = "cpu"
    trust_remote_code: bool = False
    chat_template_kwargs: str = ""

    def check(self, model: str | Generator) -> None:
        """Refuse ways that do not exist, or not for this model (``InvalidInput``)."""
        for name in ("chat", "trust_remote_code"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.dtype not in _DTYPES:
            raise InvalidInput(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise InvalidInput(f"device must be cpu, cuda, mps or xpu, got {self.device!r}")
        self.template()
        if isinstance(model, str) and not _loads_itself(model):
            return
        file = isinstance(model, str) and is_gguf(model)
        for name, value in self.changed().items():
            if file and name in _OF_FILES:
                continue
            kind = "models in the transformers format" if file else "language models"
            raise InvalidInput(f"{name}={value} is for {kind}, not for {model}")

    def template(self) -> dict[str, specs.Value]:
        """Arguments of the chat template (``InvalidInput`` where they cannot be read)."""
        text = self.chat_template_kwargs
        return specs.parse_settings(text, "chat_template_kwargs") if text else {}

    def changed(self) -> dict[str, Any]:
        """What is not as by default."""
        return {k: v for k, v in asdict(self).items() if v != getattr(DEFAULT_LOAD, k)}


DEFAULT_LOAD = Load()
_OF_FILES = ("chat", "chat_template_kwargs")  # what GGUF files take of it


def is_family(model: str) -> bool:
    """Whether ``model`` is (or is meant to be) the spec of an exact family."""
    from .. import families

    read = specs.parse(model, "model")
    if read.name in families.catalogue():
        return True
    other = ":" in read.name or specs.is_file(read.name) or read.name in specs.plugins("model")
    other = other or is_gguf(model)
    return bool(read.settings) and not other


def is_gguf(model: str) -> bool:
    """Whether ``model`` names a GGUF file, with settings or without."""
    return specs.parse(model, "model").name.lower().endswith(".gguf")


def _loads_itself(model: str) -> bool:
    """Whether a model says all of itself; GGUF files take ``_OF_FILES`` of ``Load``."""
    name = specs.parse(model, "model").name
    own = specs.is_file(name) or name in specs.plugins("model") or is_gguf(model)
    return own or is_endpoint(name) or name.startswith("ngram:") or is_family(model)


def note_code(code: dict[str, str], name: str, thing: Any) -> None:
    """Put the fingerprint of what is not reroot's own into ``code``."""
    if mark := specs.fingerprint(thing):
        code[name] = mark


def load_text_generator(model: str, load: Load, code: dict[str, str]) -> Generator:
    """A generator over text: ``ngram:FILE[:order=N]``, ``FILE.gguf[:key=value,…]``,
    ``FILE.py:FACTORY[:key=value,…]``, what a package brings by name, a server
    (``http://HOST:PORT[/MODEL][:tokenizer=FOLDER,…]``, ``openai:MODEL``), ``smollm2``, a model folder, or a
    hub id.

    Args:
        code: told the fingerprint of code that is not reroot's own.

    Raises:
        InvalidInput: no such model, or not a model.
        MissingDependency: the optional group it needs is not installed.
    """
    read = specs.parse(model, "model")
    if read.name.startswith("ngram:"):
        from ..generators.ngram import CharNgram

        # blank lines separate documents, so that a line break is a character like others
        settings = {"order": 4, **read.settings}
        file = read.name.removeprefix("ngram:")
        order = check_int(f"{model!r}: order", settings.pop("order"), 1)
        if settings:
            raise InvalidInput(f"{model!r} takes order alone, got {', '.join(settings)}")
        return CharNgram.from_file(file, order=order, separator="\n\n")
    if specs.is_file(read.name) or read.name in specs.plugins("model"):
        factory = specs.find("model", read.name, {})
        note_code(code, read.name, factory)
        made = (
            specs.call(f"model {model!r}", factory, read.settings) if callable(factory) else factory
        )
        return generator_of(made, f"model {model!r}")
    if is_gguf(model):
        from ..generators.gguf import GGUF

        settings = {"file": read.name, "chat": load.chat, "chat_template_kwargs": load.template()}
        for name in read.settings:
            if name in settings:
                raise InvalidInput(f"model {model!r} gives {name} as a setting of its own")
        return specs.call(f"model {model!r}", GGUF, {**settings, **read.settings})
    if is_endpoint(read.name):
        from ..generators.remote import Remote

        return specs.call(f"model {model!r}", Remote, {**read.settings, "name": read.name})
    from ..generators.models import resolve
    from ..generators.transformers import Transformers

    folder = resolve(model, trust_remote_code=load.trust_remote_code)
    return Transformers(folder, **{**asdict(load), "chat_template_kwargs": load.template()})
