"""Process reward models from a folder: what they think of the steps of an output.

``prm:FOLDER[:key=value,…]`` names one, as in ``prm:math-shepherd:step='\\n',of=min``. The head of the
model says how it is read (the layouts are Math-Shepherd's, arXiv 2312.08935, OpenR's, arXiv 2410.09671, RLHFlow's and TRL's):

* a token classifier of one or two labels, at the end of each step;
* a sequence classifier of one or two labels, on the text up to the end of a step;
* a causal language model: the probability of one label token against another.

Of two labels the score is P(label 1), of one its sigmoid. Numbers are float32; the same steps in other
batches give the same scores to about 1e-5. Each distinct text is read once while it is remembered.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import specs
from ..errors import InvalidInput, need
from ..tasks.base import Problem
from ..tasks.step_values import Asked, StepRule, StepValue
from .models import HEADS, load, named, resolve
from .reward_rows import Reader, Row

if TYPE_CHECKING:
    import torch

PREFIX = "prm:"
_ENDINGS = {**{f"For{head}": head for head in HEADS}, "LMHeadModel": "CausalLM"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "CausalLM": {"mark": " ки", "join": "\n"},
    "TokenClassification": {"mark": "\n", "join": ""},
    "SequenceClassification": {"mark": ""},
}
_PASS = {"cpu": 512}  # most tokens of a pass, padding included; a core is fastest at a few hundred
_WIDE_PASS = 16_384  # of other devices
_KNOWN = 65_536  # scored texts that are remembered


class RewardModel:
    """A process reward model.

    Args:
        folder: a model folder, or a hub id; code that it brings along is never run.
        step: the text with which a step ends in an output; ``\\n`` for a line break.
        of: the value of a prefix: the ``"last"`` of its steps' scores, their ``"min"``, ``"prod"`` or ``"mean"``.
        unfinished: score what comes after the last whole step as if it were one.
        mark: text behind each step, where its score is read (``None``: " ки" for a causal language model, a
            line break for a token classifier, none for a sequence classifier). Qwen's ``<extra_0>`` goes here.
        join: text between a mark and the next step (``None``: a line break for a causal language model, none
            for a token classifier, ``step`` for a sequence classifier).
        good, bad: the label tokens of a causal language model.
        turns: of a causal language model: each step is a user's message, the label the answer to it.
        device: where to compute, as torch names it.

    Raises:
        InvalidInput: a bad setting, no such model, a head that gives no score (as of three labels), a label
            that is no single token, code of its own, or a tokenizer that does not say where tokens stand.
        MissingDependency: torch or transformers is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        step: str = r"\n\n",
        of: str = "last",
        unfinished: bool = False,
        mark: str | None = None,
        join: str | None = None,
        good: str = "+",
        bad: str = "-",
        turns: bool = False,
        device: str = "cpu",
    ) -> None:
        self.rule = StepRule(
            step.replace("\\n", "\n") if isinstance(step, str) else step, of, unfinished
        )
        path = resolve(folder)
        head, self._labels = _head(path)
        given = {"mark": mark, "join": join, "good": good, "bad": bad, "turns": turns}
        texts = _texts(path, head, self.rule, given)
        need("lm", "torch", "transformers")
        from .causal_model import device_named, fingerprint, positions

        place = device_named(device)
        self._model, tokenizer = load(path, head=head)
        self._reader = Reader(tokenizer, head, texts["mark"], texts["join"], turns, texts["good"])
        causal = head == "CausalLM"
        self._said = _label_tokens(tokenizer, texts["good"], texts["bad"]) if causal else []
        _check_reader(self._reader, path)
        config = self._model.to(place).config.get_text_config()
        self._most, self._pad = positions(config), config.pad_token_id
        shown = ", ".join(f"{k}={v!r}" for k, v in {**texts, "turns": turns}.items())
        self._shown = f"RewardModel({fingerprint(self._model)}, {shown})"
        rule = self.rule
        asked = {"step": rule.step, "of": rule.of, "unfinished": rule.unfinished, "device": device}
        self._again = (str(path.resolve()), tuple({**asked, **given}.items()))
        self._known: dict[tuple[Asked, bool], tuple[float, ...]] = {}
        self._lock = threading.Lock()  # a call that ran over its time may still be at work

    @classmethod
    def read(cls, spec: str) -> RewardModel:
        """The model of ``prm:FOLDER[:key=value,…]`` (errors as above)."""
        read = specs.parse(spec, "value")
        folder = read.name.removeprefix(PREFIX)
        if not read.name.startswith(PREFIX) or not folder or "folder" in read.settings:
            raise InvalidInput(f"a value is {PREFIX}FOLDER[:key=value,…], got {spec!r}")
        return specs.call(f"value {spec!r}", cls, {"folder": folder, **read.settings})

    def __call__(self, problem: Problem) -> StepValue:
        """The value function of a problem (``InvalidInput`` where its prompt is tokens)."""
        if isinstance(problem.prompt, tuple):
            raise InvalidInput(
                f"problem {problem.id!r}: its prompt is tokens, and a reward model reads text"
            )
        return StepValue(self, problem.prompt, self.rule)

    def __repr__(self) -> str:
        return self._shown

    def __reduce__(self) -> tuple[Any, ...]:
        return _once, self._again  # a process that judges loads it for itself

    def step_scores(self, asked: Sequence[Asked], last: bool) -> list[tuple[float, ...]]:
        """For each its steps' scores in [0, 1]; of the last step alone, with ``last``.

        Raises:
            InvalidInput: a text is too long for the model, or cannot be read.
        """
        with self._lock:
            known = {one: self._known.get((one, last)) for one in asked}
            new = [one for one, scores in known.items() if scores is None]
            rows = [self._reader.rows(one, last) for one in new]
            scores = iter(self._score([row for some in rows for row in some]))
            for one, some in zip(new, rows, strict=True):
                found = tuple(score for _ in some for score in next(scores))
                known[one] = found[-1:] if last else found
            if len(self._known) > _KNOWN:
                self._known.clear()
            self._known |= {(one, last): found for one, found in known.items() if found}
            return [known[one] or () for one in asked]

    def _score(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """The scores of each row; rows of similar length are one pass."""
        for row in rows:
            if self._most is not None and len(row.tokens) > self._most:
                raise InvalidInput(
                    f"prompt and steps have {len(row.tokens)} tokens; the reward model has "
                    f"{self._most} positions"
                )
        found: dict[int, tuple[float, ...]] = {}
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
        for part in self._passes(order, rows):
            scores = self._forward([rows[i] for i in part])
            found.update(zip(part, scores, strict=True))
        return [found[i] for i in range(len(rows))]

    def _passes(self, order: Sequence[int], rows: Sequence[Row]) -> Iterator[list[int]]:
        # a sequence classifier finds the end of a text by its padding token
        alone = self._pad is None and self._reader.head == "SequenceClassification"
        most = 1 if alone else _PASS.get(self._model.device.type, _WIDE_PASS)
        part: list[int] = []
        for i in order:
            if part and (len(part) + 1) * len(rows[i].tokens) > most:
                yield part
                part = []
            part.append(i)
        if part:
            yield part

    def _forward(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        import torch

        width, pad = max(len(row.tokens) for row in rows), self._pad or 0
        ids = torch.tensor([[*row.tokens, *[pad] * (width - len(row.tokens))] for row in rows])
        lengths = torch.tensor([[len(row.tokens)] for row in rows])
        mask = (torch.arange(width) < lengths).long()
        places = [(i, at) for i, row in enumerate(rows) for at in row.at]
        index, device = torch.tensor(places).reshape(-1, 2).T, self._model.device
        batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        head = self._reader.head
        with torch.inference_mode():
            if head == "CausalLM":
                with _only(self._model.get_output_embeddings(), index.to(device)):
                    logits = self._model(**batch, use_cache=False).logits[0][:, self._said]
            else:
                logits = self._model(**batch).logits
                logits = logits[index[0], index[1]] if head == "TokenClassification" else logits
            logits = logits.double()
            shares = torch.sigmoid(logits) if self._labels == 1 else torch.softmax(logits, -1)
        scores = iter(shares[:, -1].tolist())
        return [tuple(next(scores) for _ in row.at or (0,)) for row in rows]


@lru_cache
def _once(folder: str, settings: tuple[tuple[str, Any], ...]) -> RewardModel:
    return RewardModel(folder, **dict(settings))


@contextmanager
def _only(output_layer: Any, index: torch.Tensor) -> Iterator[None]:
    """Let the output layer see the chosen (row, position) alone, as one row: most logits go unread."""
    taken = output_layer.register_forward_pre_hook(
        lambda _, inputs: (inputs[0][index[0], index[1]][None], *inputs[1:])
    )
    try:
        yield
    finally:
        taken.remove()


def _head(folder: Path) -> tuple[str, int]:
    """What a model's configuration says it is: a key of ``HEADS``, and its number of labels."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (name, *_) = config.get("architectures") or [""]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"{folder}: config.json cannot be read: {error}") from None
    head = next((head for ending, head in _ENDINGS.items() if str(name).endswith(ending)), None)
    if code := named(folder, "auto_map"):
        raise InvalidInput(
            f"{folder} brings code of its own, which is not run for a reward model: {code}"
        )
    if head is None:
        raise InvalidInput(
            f"{folder} is a {name or 'model without architectures'}; a reward model is a "
            f"{', a '.join(HEADS.values())}"
        )
    if head == "CausalLM":
        return head, 2
    labels = len(config.get("id2label") or "ab")  # two are the default, which is not written down
    if labels not in (1, 2):
        raise InvalidInput(f"{folder} has {labels} labels; a reward model has 1 or 2")
    return head, labels


def _texts(folder: Path, head: str, rule: StepRule, given: dict[str, Any]) -> dict[str, str]:
    """``mark``, ``join``, ``good`` and ``bad`` in full, checked."""
    if not isinstance(given["turns"], bool):
        raise InvalidInput(f"turns must be true or false, got {given['turns']!r}")
    for name, without in (("good", "+"), ("bad", "-"), ("turns", False)):
        if head != "CausalLM" and given[name] != without:
            raise InvalidInput(
                f"{folder} is a {HEADS[head]}: {name}={given[name]} is for a {HEADS['CausalLM']}"
            )
    defaults = {"join": rule.step, **_DEFAULTS[head]}
    texts = {
        name: defaults[name] if given[name] is None else given[name] for name in ("mark", "join")
    }
    texts |= {name: given[name] for name in ("good", "bad")}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise InvalidInput(f"{name} must be text, got {text!r}")
    texts = {name: text.replace("\\n", "\n") for name, text in texts.items()}
    if head != "SequenceClassification" and not texts["mark"] and not given["turns"]:
        raise InvalidInput(f"a {HEADS[head]} needs a mark behind each step, got mark=''")
    return texts


def _label_tokens(tokenizer: Any, good: str, bad: str) -> list[int]:
    """The tokens of the labels, the good one last (``InvalidInput`` where one is not one token)."""
    found: list[int] = []
    for name, text in (("bad", bad), ("good", good)):
        tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        unknown = tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens
        if len(tokens) != 1 or unknown:
            what = "an unknown token" if unknown else f"{len(tokens)} tokens"
            raise InvalidInput(f"the label {name}={text!r} is {what} of the model, not one")
        found += tokens
    if found[0] == found[1]:
        raise InvalidInput(f"good and bad are the same token: {good!r} and {bad!r}")
    return found


def _check_reader(reader: Reader, folder: Path) -> None:
    """Refuse marks and templates that cannot be read, before anything is asked (``InvalidInput``)."""
    if reader.turns and not getattr(reader.tokenizer, "chat_template", None):
        raise InvalidInput(f"{folder}: turns=true, and its tokenizer has no chat template")
    if reader.head == "CausalLM" and not reader.tokenizer.is_fast:
        raise InvalidInput(f"{folder}: its tokenizer does not say where in a text tokens stand")
    try:
        reader.rows(Asked("a", ("b", "b")), False)
    except InvalidInput as error:
        raise InvalidInput(f"{folder}: {error}") from None
    if (
        reader.head == "TokenClassification"
        and not reader.tokenizer(reader.mark, add_special_tokens=False)["input_ids"]
    ):
        raise InvalidInput(f"{folder}: the mark {reader.mark!r} makes no token")
