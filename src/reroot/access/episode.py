"""An episode: one problem bound to one generator: prompt tokens, stop rule, horizon, judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..contract import Contract, Oracle, Report
from ..errors import InvalidInput, OracleError
from ..generators.base import ChatGenerator, Generator, Request, check_prefix
from ..generators.stops import Stop
from ..tasks.base import Problem
from ..types import Chat, Output, Prefix
from .failures import backend_error


@dataclass(frozen=True, slots=True)
class Episode:
    """A problem as tokens of one generator.

    Attributes:
        problem: the problem.
        prompt: prompt tokens.
        stop: when an output ends, by its tokens.
        horizon: H, most tokens of an output.
        demonstration: tokens of a right output, if the problem has one.
    """

    problem: Problem
    generator: Generator
    prompt: tuple[int, ...]
    stop: Stop
    horizon: int
    demonstration: Prefix | None

    def is_complete(self, tokens: Sequence[int]) -> bool:
        """Ended by its last token, or H tokens long."""
        return len(tokens) >= self.horizon or self.stop.ends(tokens)

    def output(self, tokens: Sequence[int]) -> Output:
        """What rewards and verifiers see of ``tokens`` (``BackendError`` if there is no text)."""
        try:
            text = self.generator.decode(tokens)
        except Exception as error:
            raise backend_error(error) from error
        return Output(tuple(tokens), self.stop.cut(text), self.is_complete(tokens))

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Refuse strings that no output of this problem can start with (``InvalidInput``)."""
        check_prefix(tokens, self.generator.vocab_size)
        if len(tokens) > self.horizon:
            raise InvalidInput(
                f"{Prefix(tuple(tokens))} has {len(tokens)} tokens; outputs have at most {self.horizon}"
            )
        end = self.stop.first_end(tokens[:-1])
        if end is not None:
            token = tokens[end]
            what = "the stop token" if token in self.stop.tokens else "a stop text ends with token"
            raise InvalidInput(
                f"{Prefix(tuple(tokens))} goes on after {what} {token} at position {end}"
            )

    def scoring(self, tokens: tuple[int, ...]) -> Request:
        """The request for log P of each token under the generator's own law."""
        return Request(self.prompt, length=len(tokens), report=Report.LOGPROB, forced=tokens)


@runtime_checkable
class Binds(Protocol):
    """A generator that knows its problems as tokens already."""

    def bind(self, problem: Problem) -> Episode:
        """The episode of a problem of its own (``InvalidInput``: it has no such problem)."""
        ...


def bind(problem: Problem, generator: Generator) -> Episode:
    """Encode a problem for a generator.

    Raises:
        InvalidInput: the prompt is not encodable, or prompt and output do not fit the generator.
        OracleError: the demonstration is not an output of this problem.
    """
    if isinstance(generator, Binds):
        return generator.bind(problem)
    tokens = prompt_tokens(problem, generator)
    limit = generator.max_length()
    if limit is not None and len(tokens) + problem.max_tokens > limit:
        raise InvalidInput(
            f"problem {problem.id!r}: {len(tokens)} prompt tokens + {problem.max_tokens} generated "
            f"tokens exceed the generator's {limit} positions"
        )
    _check_vocabulary(problem, tokens, generator)
    stop = generator.stops(problem.stop)
    episode = Episode(problem, generator, tokens, stop, problem.max_tokens, None)
    if problem.demonstration is None:
        return episode
    return Episode(problem, generator, tokens, stop, problem.max_tokens, _demonstration(episode))


def prompt_tokens(problem: Problem, generator: Generator) -> tuple[int, ...]:
    """The prompt as tokens (``InvalidInput`` where the generator has none for it)."""
    prompt = problem.prompt
    if isinstance(prompt, str):
        return generator.encode(prompt)
    if not isinstance(prompt, Chat):
        return tuple(prompt)
    if not isinstance(generator, ChatGenerator):
        raise InvalidInput(
            f"problem {problem.id!r}: its prompt is a chat, and a {type(generator).__name__} has no "
            "chat template"
        )
    try:
        return generator.encode_chat(prompt)
    except InvalidInput as error:
        raise InvalidInput(f"problem {problem.id!r}: {error}") from error


def _check_vocabulary(problem: Problem, prompt: Sequence[int], generator: Generator) -> None:
    size, end = generator.vocab_size, generator.end_token
    if end is not None and not 0 <= end < size:
        raise InvalidInput(
            f"the generator's end token {end} is outside its vocabulary 0…{size - 1}"
        )
    if all(0 <= token < size for token in prompt):
        return
    try:
        generator.log_laws(prompt, [()])  # a prompt may say more than tokens, as an ensemble's does
    except InvalidInput as error:
        raise InvalidInput(f"problem {problem.id!r}: bad prompt: {error}") from None


def _demonstration(episode: Episode) -> Prefix:
    problem, generator = episode.problem, episode.generator
    shown = problem.demonstration
    tokens = generator.encode_continuation(shown) if isinstance(shown, str) else tuple(shown or ())
    if not episode.is_complete(tokens) and generator.end_token is not None:
        tokens = (*tokens, generator.end_token)
    try:
        episode.check_tokens(tokens)
    except InvalidInput as error:
        raise OracleError(f"problem {problem.id!r}: bad demonstration: {error}") from None
    if not episode.is_complete(tokens):
        raise OracleError(
            f"problem {problem.id!r}: the demonstration {shown!r} is not a complete output: it has "
            f"{len(tokens)} of {problem.max_tokens} tokens and does not end by a stop"
        )
    return Prefix(tokens)


def oracles_of(problem: Problem) -> frozenset[Oracle]:
    """The oracles that a problem has; hidden states are the generator's."""
    have = {
        Oracle.REWARD: problem.reward,
        Oracle.VERIFIER: problem.verifier,
        Oracle.DEMONSTRATION: problem.demonstration,
        Oracle.VALUE: problem.value,
    }
    return frozenset(oracle for oracle, judge in have.items() if judge is not None)


def check_oracles(problem: Problem, contract: Contract) -> None:
    """Refuse to grant an oracle that the problem does not have (``InvalidInput``).

    Hidden states are the generator's (``Capabilities.refusal``).
    """
    lacking = contract.oracles - oracles_of(problem) - {Oracle.HIDDEN}
    for oracle in Oracle if lacking else ():
        if oracle in lacking:
            raise InvalidInput(f"problem {problem.id!r} has no {oracle} to grant ({contract})")
