"""Tasks from data: rows, their layout and the rule for answers make problems.

``FILE.jsonl`` (``.json``, ``.csv``, ``.parquet``) and ``hf:NAME[:CONFIG][:SPLIT]`` take ``SETTINGS``.

A plain layout, ``{"prompt": …, "answer": …}`` in text, says the answer and no more: an output is
right when it is the answer, it ends with the line, and its process verifier knows at which token it
goes wrong. Everywhere else outputs may reason, and the answer is found in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ... import specs
from ...checks import check_int
from ...errors import InvalidInput, nearest
from ...randomness import keyed_rng, stream_key
from ...types import Chat
from ..answers import AnswerRule, GivesAnswer, MayGiveAnswer, rule
from ..base import MOST, ExactText, Problem, TextPrefix, stop_texts, whole_text
from ..lines import line_of
from ..self_check import Fit, self_check
from .layouts import Item, Layout
from .process import LABELLED, LabelledSteps
from .recognize import recognize
from .rows import HUB, BadRow, Rows, read_rows
from .values import Messages, as_messages, with_system

SETTINGS = {
    "map": "which columns are what, as in 'prompt=question,answer=final.value,demonstration=none'",
    "answer": "exact, number, math, choice, 'regex:…' or FILE.py:FUNCTION",
    "format": "the frame around a prompt, as in '{prompt}\\n'; bare questions get 'Question: …\\nAnswer:'",
    "chat": "true: prompts become a user's message",
    "system": "what a system's message says before it",
    "max_tokens": "most tokens of an output, where rows do not say",
    "take": "the first so many rows alone; a data set of Hugging Face is then streamed",
    "skip_bad": "true: leave out rows that cannot be used, and say which",
}
QUESTION = "Question: {prompt}\nAnswer:"
_STOP = "Question:"
_SAMPLE = 20  # rows that a layout is recognized by
_SLACK = 4  # tokens beyond one per byte of the demonstration
_SHOWN = 400  # characters of what is wrong with a row
_REASONING = {"math": 512}
_ROOM = 256  # tokens for an output that may reason


@dataclass(frozen=True, slots=True)
class Settings:
    """How the user wants a data set read; the module's docstring says what each means."""

    map: Mapping[str, str] = field(default_factory=dict[str, str])
    answer: str | None = None
    format: str | None = None
    chat: bool = False
    system: str | None = None
    max_tokens: int | None = None
    take: int | None = None
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class DataTask:
    """The rows of a data set as problems; the horizon knob maps to nothing.

    Attributes:
        name: the specification.
        rows: what was read.
        layout: how rows are read.
        by: when answers are the same.
        settings: what the user asked for.
        kept: indices of the rows that can be used.
        skipped: (place, why) of the others.
        notes: what was recognized and decided, for people.
        solutions: of step-labelled data, the first row of each question → all its rows.
    """

    name: str
    rows: Rows
    layout: Layout
    by: AnswerRule
    settings: Settings
    kept: range | tuple[int, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    solutions: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    has_horizon: bool = False

    @property
    def digest(self) -> str:
        """Changes with the content of the file or data set."""
        return self.rows.digest

    @classmethod
    def read(cls, spec: str) -> DataTask:
        """Read and check every row of ``FILE`` or ``hf:NAME``, with settings.

        Raises:
            InvalidInput: the file cannot be read, has no problem, or has a row that is no problem and
                ``skip_bad`` is not set; the message names the file and the line.
        """
        read = specs.parse(spec, "task")
        settings = _settings(spec, read.settings)
        rows = read_rows(read.name, settings.take)
        sample = [rows[i] for i in range(min(_SAMPLE, len(rows)))]
        try:
            layout = recognize(sample, settings.map)
        except InvalidInput as error:
            raise InvalidInput(f"{rows.place(0)}: {error}") from None
        by = rule(settings.answer or layout.kind)
        task = cls(spec, rows, layout, by, settings, range(len(rows)))
        kept, skipped = task._checked()
        task = replace(task, kept=kept, skipped=skipped)
        if layout.name in LABELLED:
            task = task._by_question()
        return replace(task, notes=tuple(_notes(task)))

    def problems(self, horizon: int, count: int, seed: int) -> list[Problem]:
        """``count`` rows drawn without replacement by ``seed``, in file order; all if there are fewer."""
        horizon, count, seed = (
            check_int("horizon", horizon),
            check_int("count", count, 1),
            check_int("seed", seed),
        )
        order = keyed_rng(stream_key(seed, "jsonl", "order")).permutation(len(self.kept))
        return [
            replace(self.problem(self.kept[i]), horizon=horizon)
            for i in sorted(order[:count].tolist())
        ]

    def item(self, index: int) -> Item:
        """What row ``index`` says (``BadRow`` or ``InvalidInput`` if it cannot be used)."""
        return self.layout.item(self.rows[index])

    def problem(self, index: int) -> Problem:
        """Row ``index`` as a problem; of step-labelled data, all rows of its question."""
        item, at = self.item(index), self.rows.place(index)
        if index in self.solutions:
            item = _merged([self.item(i) for i in self.solutions[index]])
        return self._problem(item, at, f"{Path(self.rows.source).stem}/{self.rows.label(index)}")

    def usable(
        self, problems: Sequence[Problem], fit: Fit | None = None, limit: float | None = None
    ) -> tuple[list[Problem], list[str]]:
        """(The problems that pass the self-check, what is to be said of those that were left out.)

        Args:
            problems: of this task.
            fit: binds a problem to the generator that is meant; ``None``: lengths are not checked.
            limit: seconds that one call of a judge may take.

        Raises:
            InvalidInput: some do not pass, and ``skip_bad`` is not set; or none does.
        """
        faults = [fault for fault in self_check(problems, fit=fit, limit=limit) if fault.bad]
        bad = {fault.problem for fault in faults}
        if not bad:
            return list(problems), []
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        told = "; ".join(map(str, faults[:3])) + more
        said = f"{self.rows.source}: {len(bad)} of {len(problems)} problems cannot be used: {told}"
        if not self.settings.skip_bad or len(bad) == len(problems):
            raise InvalidInput(f"{said}. 'reroot check' lists them, --skip-bad leaves them out")
        return [p for p in problems if p.id not in bad], [f"{said}; left out"]

    # ---- one row ---------------------------------------------------------------------------

    def _problem(self, item: Item, at: str, default_id: str) -> Problem:
        prompt = self._prompt(item.prompt)
        plain = self._is_plain(item)
        shown = item.demonstration if item.demonstration is not None else item.answers[0]
        stop = stop_texts(self._stop(item, plain, shown), at)
        answers = item.answers
        said = (*answers, shown or "")
        inside = next((s for s in stop if any(_inside(s, a, stop[0]) for a in said)), None)
        if inside is not None:
            raise InvalidInput(
                f"{at}: the stop text {inside!r} occurs in the answer {answers[0]!r}"
            )
        space = "" if isinstance(prompt, Chat) or prompt[-1].isspace() else " "
        demonstration = None
        if shown is not None:
            demonstration = f"{space}{shown.strip()}{stop[0] if stop and plain else ''}"
        most = self.settings.max_tokens if item.max_tokens is None else item.max_tokens
        if plain:
            reward, verifier = ExactText(answers[0]), TextPrefix(answers[0], stop=stop)
            room = len((demonstration or "").encode()) + _SLACK
        else:
            reward = GivesAnswer(self.by, answers)
            known = LabelledSteps(self.by, answers, item.solutions)
            verifier = known if item.solutions else MayGiveAnswer(self.by, answers)
            room = max(
                _REASONING.get(self.by.kind, _ROOM), len((demonstration or "").encode()) + 32
            )
        return Problem(
            id=default_id if item.id is None else str(item.id),
            prompt=prompt,
            max_tokens=check_int(f"{at}: max_tokens", room if most is None else most, 1, MOST),
            reward=reward,
            verifier=verifier,
            demonstration=demonstration,
            stop=stop,
            answer=answers[0],
            equality=self.by,
            group=item.group,
            cluster=line_of(prompt),
        )

    def _is_plain(self, item: Item) -> bool:
        """Whether outputs say the answer and no more."""
        return self.by.kind == "exact" and len(item.answers) == 1

    def _prompt(self, prompt: str | Messages) -> str | Chat:
        asked = self.settings
        if isinstance(prompt, str):
            bare = self.layout.question and not asked.chat and asked.system is None
            frame = asked.format or (QUESTION if bare else "{prompt}")
            prompt = frame.replace("{prompt}", prompt)
            if not asked.chat and asked.system is None:
                return prompt
        return Chat.of(with_system(as_messages(prompt), asked.system or ""))

    def _stop(self, item: Item, plain: bool, shown: str | None) -> object:
        if item.stop is not None:
            return [item.stop] if isinstance(item.stop, str) else item.stop
        if plain:
            return [] if "\n" in item.answers[0] or not isinstance(item.prompt, str) else ["\n"]
        framed = self.layout.question and isinstance(self._prompt(item.prompt), str)
        return [_STOP] if framed and _STOP not in (shown or "") else []

    # ---- all rows --------------------------------------------------------------------------

    def _checked(self) -> tuple[range | tuple[int, ...], tuple[tuple[str, str], ...]]:
        """The rows that can be used, and the others; each row is read once and not kept."""
        skipped: list[tuple[str, str]] = []
        bad: set[int] = set()
        where: dict[str | int, int] = {}
        for index in range(len(self.rows)):
            try:
                self._check(index, where)
            except (BadRow, InvalidInput) as error:
                at = self.rows.place(index)
                text = str(error).removeprefix(f"{at}: ")
                text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
                if not self.settings.skip_bad:
                    raise InvalidInput(f"{at}: {text}") from None
                skipped.append((at, text))
                bad.add(index)
        if len(bad) == len(self.rows):
            raise InvalidInput(
                f"{self.rows.source}: no row can be used; {skipped[0][0]}: {skipped[0][1]}"
            )
        kept = range(len(self.rows))
        return (tuple(i for i in kept if i not in bad) if bad else kept), tuple(skipped)

    def _by_question(self) -> DataTask:
        """The questions of step-labelled rows; those without any right answer are left out, and said."""
        rows: dict[str | Messages, list[int]] = {}
        answered: set[str | Messages] = set()
        for index in self.kept:
            item = self.item(index)
            rows.setdefault(item.prompt, []).append(index)
            if item.answers:
                answered.add(item.prompt)
        found = {of[0]: tuple(of) for prompt, of in rows.items() if prompt in answered}
        if not found:
            raise InvalidInput(f"{self.rows.source}: no question has an answer")
        silent = [of[0] for prompt, of in rows.items() if prompt not in answered]
        why = "no answer, and no solution of which all steps are right"
        skipped = (*self.skipped, *((self.rows.place(i), why) for i in silent))
        return replace(self, kept=tuple(found), solutions=found, skipped=skipped)

    def _check(self, index: int, where: dict[str | int, int]) -> None:
        item, at = self.item(index), self.rows.place(index)
        for name in ("prompt", "demonstration", "id"):
            whole_text(getattr(item, name), name)
        for answer in item.answers:
            whole_text(answer, "answer")
        if not item.answers and not item.solutions:
            raise BadRow("there is no answer")
        if item.id is not None:
            key = str(item.id)
            if key in where:
                first = self.rows.place(where[key]).removeprefix(f"{self.rows.source}, ")
                raise BadRow(f"id {item.id!r} is taken by {first}")
            where[key] = index
        if item.stop is not None or item.max_tokens is not None:
            self._problem(item, at, "?")


def _inside(stop: str, answer: str, first: str) -> bool:
    """Whether ``stop`` would cut ``answer`` off, or the text ``first`` that ends it."""
    return 0 <= (answer + first).find(stop) < len(answer)


def _merged(items: list[Item]) -> Item:
    """The rows of one question as one: the first answer and demonstration, all labelled solutions."""
    answers = next((item.answers for item in items if item.answers), ())
    shown = next((item.demonstration for item in items if item.demonstration), None)
    solutions = tuple(solution for item in items for solution in item.solutions)
    return replace(items[0], answers=answers, demonstration=shown, solutions=solutions)


def _settings(spec: str, given: Mapping[str, specs.Value]) -> Settings:
    """Settings of a spec, checked (``InvalidInput``)."""
    at = f"task {spec!r}"
    for name in given:
        if name not in SETTINGS:
            raise InvalidInput(f"{at} has no setting {name!r}.{nearest(name, SETTINGS)}")
    found: dict[str, Any] = dict(given)
    for name in ("chat", "skip_bad"):
        if not isinstance(found.get(name, False), bool):
            raise InvalidInput(f"{at}: {name} must be true or false, got {found[name]!r}")
    for name in ("max_tokens", "take"):
        if found.get(name) is not None:
            found[name] = check_int(f"{at}: {name}", found[name], 1)
    for name in ("format", "system", "answer"):
        if name in found and not isinstance(found[name], str):
            raise InvalidInput(f"{at}: {name} must be text, got {found[name]!r}")
    if "{prompt}" not in found.get("format", "{prompt}"):
        raise InvalidInput(f"{at}: format must hold {{prompt}}, got {found['format']!r}")
    for name in ("format", "system"):  # a spec holds no line breaks
        if name in found:
            found[name] = found[name].replace("\\n", "\n")
    if "map" in found:
        read = specs.parse_settings(str(found["map"]), f"{at}: map")
        found["map"] = {k: "none" if v is None else str(v) for k, v in read.items()}
    return Settings(**found)


def _notes(task: DataTask) -> list[str]:
    layout, name = task.layout, task.rows.source.removeprefix(HUB)
    columns = ", ".join(f"{r} = {column}" for r, column in layout.columns.items() if r != column)
    found = [
        f"{name}: {len(task.kept):,} rows, layout {layout.name}{f' ({columns})' if columns else ''}",
        f"{name}: answers are compared as {task.by.kind}"
        f"{'' if task.settings.answer else ' (the layout decides; --answer says otherwise)'}",
    ]
    if layout.name not in LABELLED and "demonstration" not in layout.columns:
        first = task.item(task.kept[0])
        said = "the answers themselves" if first.demonstration is None else "the whole answer texts"
        found.append(f"{name}: demonstrations are {said}")
    if layout.unused:
        found.append(f"{name}: columns that nothing is read from: {', '.join(layout.unused)}")
    if task.skipped:
        shown = "; ".join(f"{at}: {why}" for at, why in task.skipped[:5])
        more = f"; and {len(task.skipped) - 5:,} more" if len(task.skipped) > 5 else ""
        found.append(f"{name}: {len(task.skipped):,} rows left out: {shown}{more}")
    return found
