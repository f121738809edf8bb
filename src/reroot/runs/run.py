"""``reroot.run``: one learner on many problems under one contract."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal

from .._version import __version__
from ..access.episode import bind, check_oracles
from ..access.learner import BoundLearner, LearnerFactory
from ..access.runner import Attempt, Job
from ..access.wall import refusal
from ..checks import check_int
from ..contract import Contract
from ..errors import AccessDenied, InvalidInput, Shown
from ..generators.base import Generator
from ..tasks.base import Problem
from ..types import Budget, Cost, Physical
from ..types.account import Prices, check_priced, noted
from .attempts import Execution, RunFolder, make_attempts
from .folder import RESULTS, SUMMARY, write_json, write_table
from .inputs import budget_of, generator_of, problems_of
from .isolated import place_of
from .tables import attempts_table

if TYPE_CHECKING:
    import polars as pl

    from ..access.isolation.settings import Isolation


@dataclass(frozen=True, slots=True, repr=False)
class RunResult(Shown):
    """The attempts of a run, in the order of the problems.

    Attributes:
        attempts: one per problem; fewer where the judge was down (see ``attempts.JUDGE_DOWN``).
        physical: what the generator really computed.
        prices: what its tokens cost, if it declares that.
    """

    attempts: list[Attempt]
    physical: Physical = field(default_factory=Physical)
    prices: Prices | None = None

    @property
    def pass_rate(self) -> float:
        """Fraction of attempts that passed, of those on which the judge did not abstain."""
        judged = sum(not a.abstained for a in self.attempts)
        return sum(a.passed for a in self.attempts) / max(1, judged)

    @property
    def cost(self) -> Cost:
        """Logical cost of all attempts."""
        return sum((a.cost for a in self.attempts), Cost())

    @property
    def usd(self) -> float | None:
        """US dollars that ``cost`` comes to, if tokens have prices."""
        return None if self.prices is None else float(self.prices.usd(self.cost))

    def __repr__(self) -> str:
        passed = sum(a.passed for a in self.attempts)
        learners = ", ".join(dict.fromkeys(a.learner for a in self.attempts))
        tokens = f"{self.cost.tokens:,} tokens"
        return f"RunResult({learners}: {passed} of {len(self.attempts)} passed, {tokens})"

    def to_frame(self) -> pl.DataFrame:
        """One row per attempt, as in ``results.parquet``."""
        return attempts_table(self.attempts)


def run(
    learner: BoundLearner | LearnerFactory[...] | str,
    problems: Sequence[Problem],
    generator: Generator,
    *,
    grants: Contract | str,
    budget: Budget | str | None = None,
    seed: int = 0,
    concurrency: int = 64,
    out: str | Path | None = None,
    transcripts: bool = False,
    on_error: Literal["raise", "record"] = "raise",
    keep_errors: bool = False,
    attempt_timeout: float | None = None,
    judge_timeout: float | None = None,
    judge_workers: int = 0,
    isolation: str | Isolation = "none",
    on_attempt: Callable[[Attempt], None] | None = None,
) -> RunResult:
    """Run a learner on every problem and judge what it returns.

    Args:
        learner: a learner, its factory when every parameter has a default, or its spec, as in
            ``best_of_n:n=16`` and ``FILE.py:NAME``.
        problems: the problems; ids must differ.
        generator: what is behind the door.
        grants: the contract granted to every session, as an object or as text.
        budget: the most each attempt may spend, as an object or as text (``tokens=5000``);
            ``None``: unlimited.
        seed: run seed; with the problem ids it determines every random number.
        concurrency: attempts in flight; changes no result (on language models: up to rounding).
        out: a run folder to write and to resume from.
        transcripts: keep every message of every attempt in the run folder.
        on_error: ``"raise"`` the first error of a learner, a judge or the generator, the very
            exception, with what finished recorded in ``out``; or ``"record"`` it in its attempt.
        keep_errors: leave attempts in ``out`` that failed as they are; else they are made again.
        attempt_timeout: seconds of its own that an attempt may take (``None``: no limit).
        judge_timeout: seconds that one call of a reward, verifier or value function may take.
        judge_workers: processes for such calls; 0: they are made in this one.
        isolation: ``"none"``, or ``"process"``: each attempt's learner runs in a process of its own that
            has a socket to its session and nothing else, for code that is not trusted. Limits as in
            ``"process:memory_mb=512"`` (see ``Isolation``). It changes no result; what walls stand is
            said on stderr and noted in ``config.json``.
        on_attempt: called with each attempt as it finishes.

    Raises:
        AccessDenied: the learner requires more than is granted.
        InvalidInput: the generator cannot honour the contract, an oracle is granted that a problem
            does not have, ids repeat, or a problem does not fit the generator; or no spec names a
            learner that is to be isolated.
        RunFolderError: ``out`` holds another run or cannot be written.
    """
    with place_of(isolation, (learner,)) as place:
        bound, contract = place.learner(learner), Contract.parse(grants).resolved
        generator, problems, budget = (
            generator_of(generator),
            problems_of(problems),
            budget_of(budget),
        )
        check_run(bound, contract, generator, seed)
        if on_error not in ("raise", "record"):
            raise InvalidInput(f"on_error must be 'raise' or 'record', got {on_error!r}")
        how = Execution(
            concurrency,
            attempt_timeout,
            judge_timeout,
            transcripts,
            keep_errors,
            stop=on_error == "raise",
            on_attempt=on_attempt or (lambda attempt: None),
            judge_workers=judge_workers,
            place=place,
        )
        check_priced(budget, generator.capabilities.prices)
        jobs = [
            Job(problem.id, bound, bind(problem, generator), contract, budget, seed)
            for problem in problems
        ]
        for problem in problems:
            check_oracles(problem, contract)
        before = generator.physical()
        if out is None:
            return _result(problems, make_attempts(jobs, generator, how), generator, before)
        config = run_config(bound, problems, generator, contract, budget, seed) | place.config
        with RunFolder(out, config, how) as folder:
            made = folder.attempts

            def write() -> None:
                write_table(folder.path / RESULTS, attempts_table([made[k] for k in sorted(made)]))

            folder.make(jobs, generator, write)
            result = _result(problems, made, generator, before)
            summary = {**summarize_run(result), **place.config, **folder.usage()}
            write_json(folder.path / SUMMARY, summary)
        return result


def _result(
    problems: Sequence[Problem],
    made: Mapping[str, Attempt],
    generator: Generator,
    before: Physical,
) -> RunResult:
    attempts = [made[p.id] for p in problems if p.id in made]
    return RunResult(attempts, generator.physical() - before, generator.capabilities.prices)


def check_run(learner: BoundLearner, contract: Contract, generator: Generator, seed: int) -> None:
    """Refuse what cannot be run, before anything runs (see ``run``)."""
    if not learner.requires <= contract:
        raise AccessDenied(
            f"learner {learner}",
            f"it requires {learner.requires}, the contract grants {contract}",
            str(learner.requires),
        )
    refused = refusal(generator, contract)
    if refused is not None:
        raise InvalidInput(f"the generator cannot honour {contract}: {refused}")
    check_int("seed", seed)


def run_config(
    learner: BoundLearner,
    problems: Sequence[Problem],
    generator: Generator,
    contract: Contract,
    budget: Budget,
    seed: int,
) -> dict[str, Any]:
    """The identity of a run, as written to ``config.json``."""
    return {
        "kind": "run",
        "version": __version__,
        "learner": learner.identity(),
        "grants": str(contract),
        "budget": budget.to_dict(),
        **noted(generator.capabilities.prices),
        "seed": int(seed),
        "generator": dict(generator.describe()),
        "problems": sorted(problem.id for problem in problems),
        "digest": problems_digest(problems),
    }


def problems_digest(problems: Iterable[Problem]) -> str:
    """16 hexadecimal digits that change when a prompt, a limit, an answer or a judge's code does.

    A sequence that makes its items when they are asked for is never held.
    """
    digest = hashlib.blake2b(digest_size=8)
    listed = problems if isinstance(problems, Sequence) else list(problems)
    ids = [problem.id for problem in listed]
    for p in (listed[at] for at in sorted(range(len(ids)), key=ids.__getitem__)):
        told = [p.id, p.prompt, p.max_tokens, p.demonstration, p.stop, p.pass_at, p.answer]
        told += [_source(p.reward), _source(p.verifier)]
        told += [] if p.value is None else [_source(p.value)]  # digests from before it stay
        digest.update(json.dumps(told, default=_stable).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _source(judge: object) -> str:
    """What is known of a judge without calling it: its code, or its fields if it is a record."""
    code = getattr(judge, "__code__", None)
    return _stable(judge) if code is None else _code(code)


def _code(code: CodeType) -> str:
    inner = [_code(c) if isinstance(c, CodeType) else _stable(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {inner}"


def _stable(value: object) -> str:
    """``repr`` without addresses, which change from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def summarize_run(result: RunResult) -> dict[str, Any]:
    """The content of ``summary.json`` of a run."""
    attempts = result.attempts
    judged = [a.reward for a in attempts if a.reward is not None]
    return {
        "kind": "run",
        "attempts": len(attempts),
        "passed": sum(a.passed for a in attempts),
        "pass_rate": result.pass_rate,
        "mean_reward": sum(judged) / len(judged) if judged else None,
        "errors": sum(a.error is not None for a in attempts),
        "abstained": sum(a.abstained for a in attempts),
        "budget_stops": sum(a.stopped == "budget" for a in attempts),
        "cost": result.cost.to_dict(),
        **({} if result.usd is None else {"usd": result.usd}),
    }
