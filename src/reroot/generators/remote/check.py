"""The check at the start: what a server that nobody has probed can be seen to do, in about a hundred tokens.

It finds coarse lies (prompts respelt, lists by text, truncated draws, seeds that do nothing); what takes statistics
is for the probe. What is not seen here is not granted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...contract import Control, Report
from ...errors import BackendError, InvalidInput
from .dialects import WHOLE, Call, Dialect
from .granted import Claim, Granted
from .laws import dense
from .replies import Ranked, Read

Ask = Callable[[Sequence[Call]], list[Read]]
"""Calls → their answers (``BackendError``, ``InvalidInput``)."""
_DRAWS = 200
_Z = 5.0
"""Standard deviations by which the mean surprisal of draws may miss the entropy: 6e-7 of honest servers."""
_LEVEL = 1e-6
"""Error rate of the other tests."""
_AGREE = 5e-3
"""Nats by which a log-probability may differ in two answers."""
_LISTS = (100, 20, 5, 1)
"""Lengths that are tried where the whole law is not shown."""
_MASS = 1e-2
"""What a law may miss probability 1 by, for rounding."""


class Check:
    """One server's check.

    Args:
        table: its dialect.
        ask: sends calls.
        prompt: some tokens to ask at, best in an unusual spelling.
        vocab: K.
    """

    def __init__(self, table: Dialect, ask: Ask, prompt: tuple[int, ...], vocab: int) -> None:
        self._table, self._ask, self._prompt, self._vocab = table, ask, prompt, vocab
        self.claims: list[Claim] = []
        self._refused = False  # the last claim that does not hold was refused by the server

    def run(self) -> Granted:
        """What was seen (``BackendError``: not even a continuation comes back)."""
        verbatim = self._claim("token ids", self._ids)
        law = self._law() if verbatim else None
        agree = law is not None and self._claim("log-probabilities", lambda: self._agree(law))
        follows = agree and law is not None and self._claim("draws", lambda: self._draws(law))
        self.seeds = self._claim("seeds", self._seeds)
        forced = follows and self._claim("given tokens", self._scores)
        longest = len(law[0]) if follows and law is not None else 0
        report = Report.FULL if longest == self._vocab else Report.TOPK(max(1, longest))
        return Granted(
            control=Control.CHOSEN if verbatim else Control.ROOT,
            report=report if follows else Report.SAMPLE,
            sampling="top_k" in self._table.fields,
            forced=forced,
            longest=longest,
            vocab=self._vocab,
            claims=tuple(self.claims),
        )

    def _claim(self, name: str, test: Callable[[], str]) -> bool:
        """Note whether ``test`` passes; it returns what was seen, or raises what was wrong."""
        try:
            self.claims.append(Claim(name, True, test()))
        except (BackendError, InvalidInput) as error:
            self._refused = isinstance(error, InvalidInput)
            self.claims.append(Claim(name, False, str(error)))
        return bool(self.claims[-1].holds)

    def _ids(self) -> str:
        """Two orders of the same tokens are two prompts, of the length that was sent."""
        for prompt in (self._prompt, self._prompt[::-1]):
            self._ask([Call(prompt, length=2, seed=1)])
        return (
            f"{len(self._prompt)} prompt tokens are read as sent, and new tokens come back as ids"
        )

    def _law(self) -> Ranked | None:
        """The longest list that the server gives; ``None``: it gives none."""
        found: list[Ranked] = []

        def listed(top: int) -> str:
            law = self._at(self._prompt, top)
            mass = float(np.exp(law[1]).sum())
            whole = len(law[0]) == self._vocab
            if len(set(law[0].tolist())) != len(law[0]) or (top == WHOLE and not whole):
                raise BackendError(
                    f"the list has {len(law[0]):,} entries for {self._vocab:,} tokens"
                )
            if mass > 1 + _MASS or (whole and mass < 1 - _MASS):
                raise BackendError(f"the law sums to {mass:.4f}")
            found.append(law)
            return f"{len(law[0]):,} tokens, which sum to {mass:.6f}"

        if self._claim("whole law", lambda: listed(WHOLE)):
            return found[0]
        for top in _LISTS if self._refused else ():  # one that is wrong is not better when shorter
            if self._claim(f"lists of {top}", lambda top=top: listed(top)):
                return found[0]
        return None

    def _at(self, prompt: tuple[int, ...], top: int) -> Ranked:
        (answer,) = self._ask([Call(prompt, top=top, seed=1)])
        ids, logs = answer.rows[0].lists[0]
        return (ids, logs) if top == WHOLE else (ids[:top], logs[:top])  # some add the drawn token

    def _agree(self, law: Ranked) -> str:
        """Along a rollout, what is stated of a token is what the law at its prefix says."""
        top = WHOLE if len(law[0]) == self._vocab else len(law[0])
        (answer,) = self._ask([Call(self._prompt, length=4, top=0, seed=2)])
        row, worst = answer.rows[0], 0.0
        for t, (token, stated) in enumerate(zip(row.ids, row.logprobs, strict=True)):
            ids, logs = self._at((*self._prompt, *row.ids[:t]), top) if t else law
            known = logs[ids == token]
            off = abs(known[0] - stated) if len(known) else max(0.0, stated - logs[-1])
            worst = max(worst, float(off))
        if not worst <= _AGREE:
            raise BackendError(
                f"a stated log-probability is {worst:.3g} nats off the law at its prefix"
            )
        return (
            f"{len(row.ids)} along a rollout are those of the laws there, within {worst:.1g} nats"
        )

    def _draws(self, law: Ranked) -> str:
        """The mean surprisal of draws is the entropy of the law that is stated; of a list, draws are in it
        as often as it says."""
        whole = len(law[0]) == self._vocab
        at = self._prompt
        while (
            _entropy(law) < 1.0 and len(at) < len(self._prompt) + 4
        ):  # too certain to show anything
            at = (*at, int(law[0][min(3, len(law[0]) - 1)]))
            law = self._at(at, WHOLE if whole else len(law[0]))
        n = min(self._table.choices, _DRAWS)
        asked = [Call(at, n=n, seed=1000 + 1009 * i) for i in range(-(-_DRAWS // n))]
        tokens = [row.ids[0] for answer in self._ask(asked) for row in answer.rows]
        p, mean = np.exp(law[1]), _entropy(law)
        if len(set(tokens)) == 1 and p[0] ** (len(tokens) - 1) < _LEVEL:
            raise BackendError(
                f"{len(tokens)} draws are all token {tokens[0]}: they are copies of one"
            )
        if whole:
            _check_tail(tokens, law)
            logs = dense(law, self._vocab)
            spread = (p * np.where(p > 0, law[1], 0.0) ** 2).sum() - mean**2
            gap = float(-logs[tokens].mean()) - mean
        else:
            mass = float(p.sum())
            spread, gap = mass * (1 - mass), mass - float(np.isin(tokens, law[0]).mean())
        z = gap * (len(tokens) / max(spread, 1e-9)) ** 0.5
        if not abs(z) <= _Z:
            raise BackendError(
                f"{len(tokens)} draws are {'less' if z < 0 else 'more'} surprising than the stated law "
                f"says (z = {z:.1f}): it is not the law that is drawn from"
            )
        return f"{len(tokens)} draws fit the stated law (z = {z:.1f} at {mean:.2f} nats)"

    def _seeds(self) -> str:
        if "seed" not in self._table.fields:
            raise BackendError("the dialect has none")
        one = Call(self._prompt, length=8, seed=3)
        first, again = (a.rows[0].ids for a in (*self._ask([one]), *self._ask([one])))
        together = self._ask([one, *(replace(one, seed=s) for s in range(4, 7))])
        rows = [answer.rows[0].ids for answer in together]
        if not first == again == rows[0]:
            raise BackendError("the same seed gave other tokens")
        if all(row == first for row in rows):
            raise BackendError("other seeds gave the same tokens")
        return "the same tokens again, alone and beside others"

    def _scores(self) -> str:
        (answer,) = self._ask([Call(self._prompt, length=2, top=0, seed=5)])
        row, worst = answer.rows[0], 0.0
        if self._table.scores == "prompt":
            found = self._ask([Call((*self._prompt, *row.ids), top=0, scored=len(row.ids))])
            given = [score[1] for score in found[0].rows[0].scores]
        else:
            asked = [
                Call((*self._prompt, *row.ids[:t]), top=0, force=token, seed=1)
                for t, token in enumerate(row.ids)
            ]
            firsts = [a.rows[0] for a in self._ask(asked)]
            if [r.ids[0] for r in firsts] != row.ids:
                raise BackendError("a logit bias does not force a token")
            given = [r.logprobs[0] for r in firsts]
        worst = float(np.abs(np.array(given) - row.logprobs).max())
        if not worst <= _AGREE:
            raise BackendError(f"scores of given tokens are {worst:.3g} nats off those when drawn")
        return f"scored as when drawn, within {worst:.1g} nats"


def _check_tail(tokens: Sequence[int], law: Ranked) -> None:
    """Fail where the tokens less likely than any drawn are so likely together that one should have come."""
    ranks = np.flatnonzero(np.isin(law[0], tokens))
    tail = float(np.exp(law[1][ranks[-1] + 1 :]).sum())
    if (1 - min(tail, 1.0)) ** len(tokens) < _LEVEL:
        raise BackendError(
            f"of {len(tokens)} draws none is among the {len(law[0]) - ranks[-1] - 1:,} least likely tokens, "
            f"which have {tail:.3f} of the stated law: draws are truncated"
        )


def _entropy(law: Ranked) -> float:
    p = np.exp(law[1])
    return float(-(p * np.where(p > 0, law[1], 0.0)).sum())
