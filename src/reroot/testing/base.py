"""What conformance checks are made of: running them, comparing replies, fitting frequencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..access.episode import bind
from ..access.learner import BoundLearner
from ..access.runner import Attempt, Job, execute
from ..contract import Contract, Control, Report
from ..errors import InvalidInput
from ..generators.base import Generator, Request
from ..tasks.base import Problem
from ..types import PAD, Budget, FloatArray, Reply

LEVEL = 1e-6
"""Error rate of each statistical check."""


class Conformance:
    """Numbered checks: methods ``test_NN_name`` that raise ``AssertionError`` when not honoured."""

    @classmethod
    def checks(cls) -> list[str]:
        """Names of the checks, in order."""
        return sorted(name for name in dir(cls) if name.startswith("test_"))

    def run(self) -> dict[str, str | None]:
        """Check name → what went wrong, or ``None``; an exception in a check fails that check."""
        results: dict[str, str | None] = {}
        for name in self.checks():
            try:
                getattr(self, name)()
                results[name] = None
            except Exception as error:
                results[name] = f"{type(error).__name__}: {error}"
        return results


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def refuses(what: str, call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except InvalidInput:
        return
    raise AssertionError(f"{what} was not refused with InvalidInput")


def close(seen: FloatArray, known: FloatArray, tolerance: float, what: str) -> None:
    expect(seen.shape == known.shape, f"{what}: shape {seen.shape}, expected {known.shape}")
    with np.errstate(invalid="ignore"):
        off = np.where(seen == known, 0.0, np.abs(seen - known))
    worst = float(off.max(initial=0.0))
    expect(worst <= tolerance, f"{what}: off by {worst}, allowed {tolerance}")


def same(a: Reply, b: Reply, tolerance: float, what: str, only: Report | None = None) -> None:
    """Equal tokens, and equal log-probabilities within the tolerance (those ``only`` names)."""
    expect(a.tokens.tolist() == b.tokens.tolist(), f"{what}: tokens {a.tokens} and {b.tokens}")
    expect(a.lengths.tolist() == b.lengths.tolist(), f"{what}: lengths differ")
    for name in ("logprobs", "top_logprobs", "laws"):
        mine, other = getattr(a, name), getattr(b, name)
        if only is not None and not (name == "logprobs" and only.has_logprob):
            continue
        expect((mine is None) == (other is None), f"{what}: {name} on one side only")
        if mine is not None:
            close(other, mine, tolerance, f"{what}: {name}")


def fits(tokens: npt.NDArray[np.int64], law: FloatArray, what: str) -> None:
    """Chi-square goodness of fit at ``LEVEL``; rare tokens are pooled to counts of 5 or more."""
    from scipy.stats import chi2

    expected = np.exp(law) * len(tokens)
    counts = np.bincount(tokens, minlength=len(law)).astype(np.float64)
    expect(not counts[law == -np.inf].any(), f"{what}: a token of probability 0 was drawn")
    common = expected >= 5
    seen = np.append(counts[common], counts[~common].sum())
    known = np.append(expected[common], expected[~common].sum())
    seen, known = (seen, known) if known[-1] >= 5 else (seen[:-1], known[:-1])
    if len(known) > 1:
        p = float(chi2.sf(((seen - known) ** 2 / known).sum(), len(known) - 1))
        expect(p > LEVEL, f"{what}: chi-square p-value {p} over {len(tokens)} draws")


def check_shapes(request: Request, reply: Reply, vocab_size: int) -> None:
    """Shapes, padding, range, the fields that the report names and no others, read-only arrays."""
    report, n = request.report, request.n
    longest = int(reply.lengths.max())
    k = min(report.top, vocab_size)
    shapes: dict[str, tuple[int, ...] | None] = {
        "tokens": (n, longest),
        "lengths": (n,),
        "logprobs": (n, longest) if report.has_logprob else None,
        "top_tokens": (n, longest, k) if k else None,
        "top_logprobs": (n, longest, k) if k else None,
        "laws": (n, longest, vocab_size) if report.has_law else None,
    }
    for name, shape in shapes.items():
        array = getattr(reply, name)
        seen = None if array is None else array.shape
        expect(seen == shape, f"{request}: {name} has shape {seen}, expected {shape}")
        expect(array is None or not array.flags.writeable, f"{request}: {name} can be written")
    expect(tuple(reply.prefix) == request.prefix, f"{request}: reply about {reply.prefix}")
    expect(reply.lengths.min() >= 1 and longest <= request.length, f"lengths {reply.lengths}")
    inside = np.arange(longest) < reply.lengths[:, None]
    tokens = reply.tokens
    expect(bool((tokens[~inside] == PAD).all()), f"{request}: no padding behind the end: {tokens}")
    expect(
        bool(((tokens >= 0) & (tokens < vocab_size))[inside].all()),
        f"{request}: tokens outside the vocabulary: {tokens}",
    )
    for output in reply.outputs():
        ended = len(output) == len(request.prefix) + request.length or request.stop.ends(output)
        expect(ended, f"{request}: {output} ended early")
    if reply.logprobs is not None:
        expect(not reply.logprobs[~inside].any(), f"{request}: log-probabilities behind the end")


def check_all(kit: type[Conformance], make: Callable[[], object], **attributes: object) -> None:
    """Run every check of a kit on what ``make`` gives (``AssertionError`` names those that failed,
    with their reasons); ``attributes`` that are not ``None`` are in place of the kit's own."""
    own = {name: value for name, value in attributes.items() if value is not None}
    subject = type("Checked", (kit,), {"make": lambda self: make(), **own})()
    failed = [f"{name}: {why}" for name, why in subject.run().items() if why is not None]
    expect(not failed, "\n".join([f"{len(failed)} checks failed", *failed]))


def attempts(
    learner: BoundLearner,
    problems: Sequence[Problem],
    generator: Generator,
    grants: Contract,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    concurrency: int = 64,
) -> dict[str, Attempt]:
    """Problem id → what the learner made of it under ``grants``, whatever it requires."""
    bound = replace(learner, requires=grants)
    jobs = [
        Job(p.id, bound, bind(p, generator), grants.resolved, budget or Budget(), seed)
        for p in problems
    ]
    made: list[Attempt] = []
    execute(jobs, generator, concurrency=concurrency, on_attempt=made.append)
    return {attempt.problem: attempt for attempt in made}


def uses_all(
    requires: Contract, places: Iterable[tuple[BoundLearner, Sequence[Problem], Generator]]
) -> None:
    """Fail unless in one of the places the learner there meets a refusal under every contract just
    below ``requires``."""
    why = "there is no place to run in"
    for place in places:
        enough = next((g for g in just_below(requires) if not _is_denied(*place, g)), None)
        if enough is None:
            return
        why = f"it requires {requires}, but {enough} is enough"
    raise AssertionError(why)


def _is_denied(
    learner: BoundLearner, problems: Sequence[Problem], generator: Generator, grants: Contract
) -> bool:
    made = attempts(learner, problems, generator, grants)
    return any(a.error is not None and a.error.kind == "AccessDenied" for a in made.values())


def just_below(contract: Contract) -> Iterator[Contract]:
    """One step down in control (below reset there are two), in report, or one oracle less.

    Of the reports those with draws, as a session serves the mode query by query where nothing is
    drawn: below SAMPLE there is none, and beside a list without a draw there is LOGPROB.
    """
    lower = [c for c in Control if c < contract.control]
    for control in lower:
        if not any(control < other for other in lower):
            yield replace(contract, control=control)
    report = contract.report
    if report == Report.LOGPROB:
        yield replace(contract, report=Report.SAMPLE)
    elif report.top and report.draws and report.top > 1:
        yield replace(contract, report=Report.TOPK(report.top - 1))
    elif report.top:
        yield replace(contract, report=Report.LOGPROB)
    elif report.has_law:
        yield replace(contract, report=Report.TOPK(9))
    for oracle in sorted(contract.oracles, key=str):
        yield replace(contract, oracles=contract.oracles - {oracle})
