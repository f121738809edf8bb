"""Problems whose cause is known by construction: each cause alone, in pairs, and clean ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ...diagnosis.causes import Cause
from ...families import Dyck, HiddenPath, HiddenTrie
from ...generators.base import Generator
from ...tasks.answers import rule
from ...tasks.base import Problem, TextPrefix
from ...types import Output
from .sayings import Sayings

Made = tuple[Generator, Problem]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of problem.

    Attributes:
        name: of the case.
        truth: what limits it; several where each of them alone gives no signal its removal would.
        make: seed → a generator and the problem on it.
        sampling: the trainer's law.
        group: G.
        near: whether the pass rate is so near a threshold that no cause is expected of few attempts.
    """

    name: str
    truth: frozenset[Cause]
    make: Callable[[int], Made]
    sampling: str = "T=1"
    group: int = 8
    near: bool = False


def all_cases() -> list[Case]:
    """Every case, in a stable order."""
    return [*_rates(), *_access(), *_base(), *_judged(), *_cut(), *_laws(), *_pairs()]


# ---- exact families -------------------------------------------------------------------------------


def _path(size: int, horizon: int, p: float) -> Callable[[int], Made]:
    def make(seed: int) -> Made:
        family = HiddenPath(size, horizon, p, seed=seed)
        return family, family.problem()

    return make


def _dyck(horizon: int, noise: float) -> Callable[[int], Made]:
    def make(seed: int) -> Made:
        family = Dyck(horizon, noise=noise, seed=seed)
        return family, family.problem()

    return make


def _trie(seed: int) -> Made:
    family = HiddenTrie(8, 12, 0.3, 0.13, nodes=40, seed=seed)
    return family, family.problem()


def _without(make: Callable[[int], Made], **lost: None) -> Callable[[int], Made]:
    """The same, with something less at hand."""

    def changed(seed: int) -> Made:
        family, problem = make(seed)
        return family, replace(problem, **lost)

    return changed


def _rates() -> Iterator[Case]:
    one = frozenset
    for p, horizon in ((0.5, 1), (0.6, 2), (0.7, 4), (0.9, 8)):
        yield Case(f"path {p}^{horizon}", one({Cause.LEARNABLE}), _path(4, horizon, p))
    yield Case("path .3, near τ", one({Cause.LEARNABLE}), _path(4, 2, 0.33), near=True)
    for p, horizon in ((0.999, 2), (0.998, 4), (0.999, 8)):
        yield Case(f"path {p}^{horizon}", one({Cause.SOLVED}), _path(4, horizon, p))
    yield Case("path .97, groups of 4", one({Cause.LEARNABLE}), _path(4, 12, 0.97), group=4)


def _access() -> Iterator[Case]:
    truth = frozenset({Cause.ACCESS})
    for size, p, horizon in (
        (4, 0.4, 12),
        (4, 0.5, 24),
        (8, 0.3, 16),
        (8, 0.6, 32),
        (16, 0.25, 10),
    ):
        yield Case(f"path {p}^{horizon}, K = {size}", truth, _path(size, horizon, p))
    for horizon, noise in ((16, 0.8), (24, 0.6)):
        yield Case(f"dyck {horizon}, noise {noise}", truth, _dyck(horizon, noise))
    yield Case("trie", truth, _trie)
    no_demonstration = _without(_dyck(16, 0.8), demonstration=None)
    yield Case("dyck without a demonstration", truth, no_demonstration)
    yield Case("path .4, groups of 16", truth, _path(4, 12, 0.4), group=16)
    nothing = _without(_dyck(16, 0.8), demonstration=None, verifier=None)
    yield Case("nothing to walk by", frozenset({Cause.UNDETERMINED}), nothing)


def _base() -> Iterator[Case]:
    truth = frozenset({Cause.BASE})
    for size, p in ((1000, 0.0015), (2000, 0.001), (800, 0.0014)):
        yield Case(f"path {p}, K = {size}", truth, _path(size, 4, p))
    yield Case("a text that is never said", truth, _texts({"no": 0.999999, "yes": 1e-6}, "yes"))
    yield Case("a rare last letter", truth, _texts({"abcdx": 0.999999, "abcdy": 1e-6}, "abcdy"))


# ---- texts ----------------------------------------------------------------------------------------


def _texts(
    said: dict[str, float],
    answer: str,
    *,
    judge: Callable[[Output], float] | None = None,
    room: int = 48,
    verified: bool = True,
) -> Callable[[int], Made]:
    """A problem whose outputs are these texts; ``judge`` decides, else the text must be ``answer``."""

    def make(seed: int) -> Made:
        prompt = f"{seed % 10}?"
        reward = judge or (lambda output: float(output.complete and output.text == answer))
        plain = judge is None
        problem = Problem(
            id=f"text/{seed}",
            prompt=prompt,
            max_tokens=room,
            reward=reward,
            verifier=TextPrefix(answer, strict_end=True) if plain and verified else None,
            demonstration=answer if plain and verified and answer in said else None,
            answer=answer,
        )
        return Sayings({prompt: said}), problem

    return make


def exactly(answer: str) -> Callable[[Output], float]:
    """A judge that wants these very characters."""
    return lambda output: float(output.complete and output.text == answer)


def tagged(answer: str) -> Callable[[Output], float]:
    """A judge that wants the answer in a tag."""
    by = rule(r"regex:<answer>(.*?)</answer>")

    def reward(output: Output) -> float:
        found = by.find(output.text)
        return float(found is not None and bool(by.same(answer, found)))

    return reward


def _judged() -> Iterator[Case]:
    judge, form = frozenset({Cause.JUDGE}), frozenset({Cause.FORMAT})
    boxed = {"so \\boxed{1200}": 0.6, "so \\boxed{7}": 0.4}
    yield Case("a judge that misses \\boxed", judge, _texts(boxed, "1200", judge=exactly("1200")))
    comma = {"1,200": 0.5, "$1,200.00": 0.2, "90": 0.3}
    yield Case("a judge that misses commas", judge, _texts(comma, "1200", judge=exactly("1200")))
    loud = {"PARIS.": 0.7, "Rome": 0.3}
    yield Case("a judge that minds case", judge, _texts(loud, "Paris", judge=exactly("Paris")))
    yield Case("a judge that fails", judge, _texts({"12": 0.5, "13": 0.5}, "12", judge=_broken))
    long = "There are 12 of them, as 3 times 4 says"
    words = {long: 0.8, "I give up": 0.2}
    yield Case("tags that are not written", form, _texts(words, "12", judge=tagged("12")))
    names = {"It was Ada Lovelace who wrote it, in 1843": 0.7, "It was Babbage": 0.3}
    yield Case(
        "a name within a sentence",
        form,
        _texts(names, "Ada Lovelace", judge=tagged("Ada Lovelace")),
    )


def _broken(output: Output) -> float:
    raise ValueError(f"no number in {output.text!r}")


_LONG = "first this, then that, so it is 12"


def _cut() -> Iterator[Case]:
    truth = frozenset({Cause.TRUNCATED})
    for weight in (0.9, 0.4):
        said = {_LONG: weight, "first this, then that, so it is 90": 1 - weight}
        yield Case(f"cut off, {weight}", truth, _texts(said, _LONG, judge=exactly(_LONG), room=16))
    said = {_LONG: 0.7, "no": 0.3}
    yield Case("cut off, some are short", truth, _texts(said, _LONG, judge=exactly(_LONG), room=20))


def _laws() -> Iterator[Case]:
    truth = frozenset({Cause.LAW})
    for rare, sampling in ((0.3, "T=0.2"), (0.25, "T=1,top_p=0.7"), (0.4, "T=1,top_k=1")):
        said = {"no": 1 - rare, "yes": rare}
        yield Case(f"{rare} under {sampling}", truth, _texts(said, "yes"), sampling=sampling)


def _pairs() -> Iterator[Case]:
    untagged, cut = "it is 12 I think", "let me see: it is <answer>12</answer>"
    both = frozenset({Cause.FORMAT, Cause.TRUNCATED})
    for weight in (0.5, 0.7):
        said = {untagged: weight, cut: 1 - weight}
        yield Case(
            f"{weight} untagged, the rest cut off",
            both,
            _texts(said, "12", judge=tagged("12"), room=20),
        )
    loose = {"so \\boxed{12}": 0.4, "so \\boxed{5} of 12": 0.6}
    yield Case(
        "boxed, and in passing", frozenset({Cause.JUDGE}), _texts(loose, "12", judge=exactly("12"))
    )
    mixed = {"12": 0.3, "so \\boxed{12}": 0.4, "no": 0.3}
    learns = _texts(mixed, "12", judge=exactly("12"))
    yield Case("a strict judge, but signal", frozenset({Cause.LEARNABLE}), learns)
    sharp = _texts({"no": 0.8, "yes": 0.2}, "yes")
    yield Case("a sharp law, walks succeed too", frozenset({Cause.LAW}), sharp, sampling="T=0.3")
    unverified = _texts({"no": 0.7, "yes": 0.3}, "yes", verified=False)
    yield Case("a sharp law alone", frozenset({Cause.LAW}), unverified, sampling="T=0.2")
