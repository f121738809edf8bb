"""The tree of prefixes that a learner built: nodes by token, from the transcript of its attempt.

A node is a prefix. It says how often its token was generated, how likely the generator said it was, what
oracles said of it, and by which messages it was asked. Every generated token is counted at one node, so the
counts add up to the account of the attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..access.charges import JUDGES, cost_of, generated
from ..access.failures import Failure
from ..access.hidden_states import price
from ..access.session import AskHiddenStates
from ..access.transcript import (
    DAMAGED,
    damaged,
    failure_from_json,
    messages,
    query_from_json,
    read_transcript,
    replies_from_json,
)
from ..contract import Oracle
from ..errors import BackendError, InvalidInput, OracleError, RunFolderError
from ..generators.law import most_likely
from ..types import Cost, FloatArray, Prefix, Query, Reply

LAW_SHOWN = 8
"""Tokens of a whole law that become nodes, the most likely ones; all, of vocabularies up to twice that."""


@dataclass(slots=True, eq=False)
class Node:
    """A prefix that a message or an answer names.

    Attributes:
        token: its last token; ``None`` at the root.
        parent: the prefix without that.
        depth: its length.
        children: by their tokens, in the order in which they came up.
        logprob: nats, log P(token | parent) under the contract's law; ``None``: no report gave it.
        draws: how often its token was generated, drawn or as the mode.
        scored: how often its token was forced.
        verified, value, reward: what oracles said last of this prefix.
        asked: numbers of the messages that asked at this prefix, in order.
        returned: it is a prefix of what the learner returned.
        revealed: it is a prefix of the demonstration, as far as that was revealed.
    """

    token: int | None
    parent: Node | None
    depth: int
    children: dict[int, Node] = field(default_factory=dict[int, "Node"])
    logprob: float | None = None
    draws: int = 0
    scored: int = 0
    verified: bool | None = None
    value: float | None = None
    reward: float | None = None
    asked: list[int] = field(default_factory=list[int])
    returned: bool = False
    revealed: bool = False

    def child(self, token: int) -> Node:
        """The node of this prefix and one more token, made if it is not there."""
        found = self.children.get(token)
        if found is None:
            found = self.children[token] = Node(token, self, self.depth + 1)
        return found

    @property
    def prefix(self) -> tuple[int, ...]:
        """Its tokens."""
        tokens: list[int] = []
        node: Node | None = self
        while node is not None and node.token is not None:
            tokens.append(node.token)
            node = node.parent
        return tuple(reversed(tokens))


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One thing that a message asked.

    Attributes:
        node: at which prefix.
        what: ``"draw"``, ``"score"``, ``"hidden"``, or the oracle's name.
        n, length, report: of a query; ``length`` is ``None`` to the end.
        answer: what an oracle said, or ``None``.
    """

    node: Node
    what: str
    n: int = 1
    length: int | None = None
    report: str = ""
    answer: bool | float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """A message and its price.

    Attributes:
        number: its place in the order in which messages were sent, from 0.
        after: all messages before this one had been answered when it was sent.
        asked: what it asked, all at once.
        cost: what was charged for it.
        error: why it was refused or failed, if it was.
    """

    number: int
    after: int
    asked: tuple[Asked, ...]
    cost: Cost
    error: Failure | None


@dataclass(frozen=True, slots=True, eq=False)
class PrefixTree:
    """What a learner built and asked.

    Attributes:
        root: the empty prefix.
        events: messages in the order in which they were sent; texts, which are free, left out.
        cost: the account: the sum over the events.
        head: the first line of the transcript: learner, contract, horizon, budget, seed.
    """

    root: Node
    events: tuple[Event, ...]
    cost: Cost
    head: Mapping[str, Any]

    def nodes(self) -> Iterator[Node]:
        """Every node, parents before children, depth first."""
        open_ = [self.root]
        while open_:
            node = open_.pop()
            yield node
            open_.extend(reversed(node.children.values()))

    def find(self, tokens: Sequence[int]) -> Node | None:
        """The node of a prefix, if there is one."""
        node: Node | None = self.root
        for token in tokens:
            node = None if node is None else node.children.get(token)
        return node


def read_tree(
    path: Path, prompt_tokens: int = 0, output: Sequence[int] | None = None
) -> PrefixTree:
    """The tree of a transcript file.

    Args:
        path: the file.
        prompt_tokens: tokens of the prompt, which a transcript does not say and prefill counts.
        output: what the learner returned.

    Raises:
        RunFolderError: no transcript, or a damaged one.
    """
    lines = [line for _, line in read_transcript(path)]
    if not lines or "horizon" not in lines[0]:
        raise RunFolderError(f"{path} does not start with the head line of a transcript")
    try:
        return prefix_tree(lines, prompt_tokens, output)
    except (InvalidInput, BackendError, *DAMAGED) as error:
        raise damaged(str(path), error) from None


def prefix_tree(
    lines: Sequence[dict[str, Any]], prompt_tokens: int = 0, output: Sequence[int] | None = None
) -> PrefixTree:
    """The tree of a transcript's lines; see ``read_tree``, which says what it raises."""
    head, *rest = lines
    builder = _Builder(int(head["horizon"]), prompt_tokens)
    for line in messages(rest):
        builder.add(line)
    builder.fill()
    if output is not None:
        for node in builder.path(builder.root, output):
            node.returned = True
    spent = sum((event.cost for event in builder.events), Cost())
    return PrefixTree(builder.root, tuple(builder.events), spent, head)


def named_tokens(lines: Iterable[dict[str, Any]]) -> set[int]:
    """The tokens of all nodes of a transcript's tree; none of lines that are not whole."""
    kept = [line for line in lines if not line.get("early")]
    try:
        return {node.token for node in prefix_tree(kept).nodes() if node.token is not None}
    except (InvalidInput, BackendError, *DAMAGED):
        return set()


class _Builder:
    """Takes messages one by one."""

    def __init__(self, horizon: int, prompt: int) -> None:
        self.root = Node(None, None, 0)
        self.events: list[Event] = []
        self._horizon, self._prompt = horizon, prompt
        self._laws: list[tuple[Node, FloatArray]] = []
        self._revealed = 0

    def path(self, start: Node, tokens: Iterable[int]) -> list[Node]:
        """The nodes behind ``start`` along ``tokens``, the start not among them."""
        found: list[Node] = []
        for token in tokens:
            start = start.child(token)
            found.append(start)
        return found

    def at(self, tokens: Sequence[int]) -> Node:
        """The node of a prefix."""
        return self.path(self.root, tokens)[-1] if len(tokens) else self.root

    def add(self, line: dict[str, Any]) -> None:
        """Take a message with its answer."""
        message = line["message"]
        if "text" in message:
            return
        failure = None if line["error"] is None else failure_from_json(line["error"])
        if "ask" in message:
            asked, cost = self._ask(message["ask"], line["value"], failure)
        elif str(Oracle.HIDDEN) in message:
            asked, cost = self._hidden(message, failure)
        elif str(Oracle.DEMONSTRATION) in message:
            asked, cost = self._demonstration(line["value"], failure)
        else:
            asked, cost = self._oracle(message, line["value"], failure)
        for node in dict.fromkeys(one.node for one in asked):
            node.asked.append(line["i"])
        self.events.append(Event(line["i"], line["after"], tuple(asked), cost, failure))

    def _ask(self, said: Any, value: Any, failure: Failure | None) -> tuple[list[Asked], Cost]:
        queries = [query_from_json(query) for query in said]
        asked = [_asked(self.at(query.prefix), query) for query in queries]
        if failure is not None:
            return asked, Cost()
        replies = replies_from_json(value)
        for one, query, reply in zip(asked, queries, replies, strict=True):
            self._reply(one.node, query, reply)
        used = [generated(reply) for reply in replies]
        return asked, cost_of(queries, used, self._prompt, self._horizon)

    def _reply(self, start: Node, query: Query, reply: Reply) -> None:
        for i in range(reply.n):
            node = start
            for t, token in enumerate(reply.continuation(i)):
                self._lists(node, reply, i, t)
                node = node.child(token)
                if query.forced is None:
                    node.draws += 1
                else:
                    node.scored += 1
                if reply.logprobs is not None:
                    node.logprob = float(reply.logprobs[i, t])

    def _lists(self, node: Node, reply: Reply, i: int, t: int) -> None:
        """What a reply says of the children of a prefix, drawn or not."""
        if reply.top_tokens is not None and reply.top_logprobs is not None:
            for token, logprob in zip(
                reply.top_tokens[i, t], reply.top_logprobs[i, t], strict=True
            ):
                node.child(int(token)).logprob = float(logprob)
        if reply.laws is not None and not (i and reply.laws.strides[0] == 0):
            law = reply.laws[i, t]
            self._laws.append((node, law))
            most = len(law) if len(law) <= 2 * LAW_SHOWN else LAW_SHOWN
            for token in most_likely(law[None], most)[0]:
                if law[token] > -np.inf:
                    node.child(int(token))

    def fill(self) -> None:
        """Laws say how likely every child is, those too that came up later."""
        for node, law in self._laws:
            for token, child in node.children.items():
                child.logprob = float(law[token])

    def _hidden(self, said: Any, failure: Failure | None) -> tuple[list[Asked], Cost]:
        places = [Prefix(tuple(tokens)) for tokens in said[str(Oracle.HIDDEN)]]
        asked = [Asked(self.at(place), "hidden") for place in places]
        message = AskHiddenStates(tuple(places), said["layers"])
        return asked, Cost() if failure is not None else price(message, self._prompt)

    def _demonstration(self, value: Any, failure: Failure | None) -> tuple[list[Asked], Cost]:
        if failure is not None:
            return [Asked(self.root, "demonstration")], Cost()
        shown = self.path(self.root, Prefix(tuple(value)))
        for node in shown:
            node.revealed = True
        new = max(0, len(shown) - self._revealed)
        self._revealed = max(self._revealed, len(shown))
        return [Asked(self.root, "demonstration", length=len(shown))], Cost(demonstrations=new)

    def _oracle(self, said: Any, value: Any, failure: Failure | None) -> tuple[list[Asked], Cost]:
        oracle = next(oracle for oracle in JUDGES if str(oracle) in said)
        nodes = [self.at(Prefix(tuple(tokens))) for tokens in said[str(oracle)]]
        currency, name = JUDGES[oracle]
        # a call that fails inside the task is paid all the same
        paid = failure is None or failure.kind == OracleError.__name__
        cost = Cost(**{currency: len(nodes)}) if paid else Cost()
        if failure is not None:
            return [Asked(node, name) for node in nodes], cost
        for node, answer in zip(nodes, value, strict=True):
            if oracle == Oracle.VERIFIER:
                node.verified = bool(answer)
            elif oracle == Oracle.VALUE:
                node.value = float(answer)
            else:
                node.reward = float(answer)
        return [Asked(n, name, answer=a) for n, a in zip(nodes, value, strict=True)], cost


def _asked(node: Node, query: Query) -> Asked:
    if query.forced is not None:
        return Asked(node, "score", 1, len(query.forced), str(query.report))
    return Asked(node, "draw", query.n, query.length, str(query.report))
