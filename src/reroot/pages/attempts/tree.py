"""A tree of prefixes as JSON values, in columns: what the page draws."""

from __future__ import annotations

from typing import Any

from ...errors import visible
from ...runs.prefix_trees import Event, Node, PrefixTree
from ...runs.records import Record
from ...runs.texts import Texts

MOST = 20_000
"""Nodes, and messages, of one tree that a page holds; what is left out is said."""
RETURNED, REVEALED, ACCEPTED, REJECTED = 1, 2, 4, 8
"""Bits of a node's flags."""


def tree_json(tree: PrefixTree, texts: Texts) -> dict[str, Any]:
    """Columns of the nodes, parents first, and the messages.

    ``token``, ``text``, ``parent`` (its place; −1 at the root), ``logprob`` (nats), ``draws``, ``scored``,
    ``flags``; ``reward``, ``value`` and ``asked`` by place, where there is something. Of a message: ``i``,
    ``asked`` as [place, what, n, length, report, answer], ``cost``, ``error``. ``left_out``: nodes and messages
    beyond ``MOST``.
    """
    kept, all_ = _kept(tree)
    place = {node: i for i, node in enumerate(kept)}
    events = tree.events[:MOST]
    return {
        "token": [node.token for node in kept],
        "text": [_text(node, texts) for node in kept],
        "parent": [-1 if node.parent is None else place[node.parent] for node in kept],
        "logprob": [_number(node.logprob) for node in kept],
        "draws": [node.draws for node in kept],
        "scored": [node.scored for node in kept],
        "flags": [_flags(node) for node in kept],
        "reward": {i: node.reward for i, node in enumerate(kept) if node.reward is not None},
        "value": {i: node.value for i, node in enumerate(kept) if node.value is not None},
        "asked": {i: node.asked for i, node in enumerate(kept) if node.asked},
        "events": [_event(event, place) for event in events],
        "cost": {name: amount for name, amount in tree.cost.to_dict().items() if amount},
        "between": texts.between,
        "left_out": [all_ - len(kept), len(tree.events) - len(events)],
    }


def _kept(tree: PrefixTree) -> tuple[list[Node], int]:
    """At most ``MOST`` nodes, those nearest to the root, and how many there are."""
    nodes = list(tree.nodes())
    if len(nodes) <= MOST:
        return nodes, len(nodes)
    nearest = sorted(nodes, key=lambda node: (not node.returned, node.depth))[:MOST]
    return sorted(nearest, key=lambda node: node.depth), len(nodes)


def _text(node: Node, texts: Texts) -> str:
    if node.token is None:
        return ""
    text = texts.tokens.get(node.token)
    return f"#{node.token}" if text is None else visible(text)


def _number(value: float | None) -> float | None:
    """A log-probability with six digits; JSON has no −∞, so that is −10⁹."""
    return None if value is None else max(round(value, 6), -1e9)


def _flags(node: Node) -> int:
    verified = 0 if node.verified is None else ACCEPTED if node.verified else REJECTED
    return RETURNED * node.returned | REVEALED * node.revealed | verified


def _event(event: Event, place: dict[Node, int]) -> dict[str, Any]:
    return {
        "i": event.number,
        "asked": [
            [place.get(a.node, -1), a.what, a.n, a.length, a.report, a.answer] for a in event.asked
        ],
        "cost": {name: amount for name, amount in event.cost.to_dict().items() if amount},
        "error": None if event.error is None else visible(str(event.error)),
    }


def tree_of(record: Record, texts: Texts) -> dict[str, Any] | None:
    """The tree of an attempt, its tokens said by ``texts``; ``None``: no transcript was kept.

    Raises:
        RunFolderError: its transcript is damaged.
    """
    from ...runs.prefix_trees import read_tree

    if record.transcript is None:
        return None
    tree = read_tree(record.transcript, record.prompt_tokens or 0, record.tokens)
    return tree_json(tree, texts)
