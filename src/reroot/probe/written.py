"""Draws of which it is known that they may repeat what the same answer has written: penalties on that alone.

Presence and frequency penalties of vLLM's and OpenAI's kind count the tokens of the answer, not those of the prompt, and in
ordinary outputs of a few tokens hardly any comes again. So two tokens a and b get a bias that leaves nothing else, after
a prompt that has both, and three tokens are drawn: the law of each is that of a against b alone, which the server states
at the same prefix without a bias. A penalty on either moves it; after a a, frequency and presence penalties differ. A bias moves
both alike, and so changes neither their odds nor what truncation does to them; a repetition penalty is on both from the start,
and as their logits are far above 0 by the bias, it makes their odds more even, whatever the zero of logits is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

import numpy as np

from ..generators.remote.dialects import Call
from .asking import Ask, lies_fail
from .drawn import Drawn
from .site import Pair, Site

_LIKELY, _TRIED = 6, 4
"""Tokens among which the two are chosen, and how many twos are tried."""
_LENGTH, _ROWS = 3, 256
"""Tokens of an output, and outputs."""
_BIAS = 100.0
"""Logits that both gain: the most that all dialects take."""


def pairs(site: Site, told: Ask, seed: int) -> list[Drawn]:
    """Draws of a or b, tokens 0 and 1 here, at each prefix of outputs of both; none where the server cannot be asked.

    Args:
        told: a call with its sampling fields; prompt, length, number, seed and bias are put in here.
        seed: of the first continuation.

    Raises:
        OutOfBudget: what this costs is more than is left.
        Fails: an answer cannot be true.
    """
    if site.choices < 2 or site.law is None or site.longest < site.vocab:
        return []
    with lies_fail():
        site.pair = pair = site.pair or _even(site)
        a, b = pair.tokens
        bias = {_field(site): {str(a): _BIAS, str(b): _BIAS}}
        calls = _calls(site, replace(told.call, prompt=pair.prompt, length=_LENGTH), seed)
        rows = site.asker.rows(
            [replace(told, call=call, extra={**told.extra, **bias}) for call in calls]
        )
        if any(not {*row.ids} <= {a, b} or len(row.ids) < _LENGTH for row in rows):
            return []  # the bias does not work: see the claim about it
        written = [tuple(int(t == b) for t in row.ids) for row in rows]
        return list(_by_prefix(site, pair, written))


def owned(drawn: Drawn) -> Drawn:
    """The same with nothing before it but what the answer wrote."""
    count = drawn.generated or 0
    return replace(drawn, prefix=drawn.prefix[len(drawn.prefix) - count :])


def _calls(site: Site, call: Call, seed: int) -> Iterator[Call]:
    size = min(site.choices, _ROWS)
    for i in range(0, _ROWS, size):
        yield replace(call, n=min(size, _ROWS - i), seed=seed + 1009 * i)


def _by_prefix(site: Site, pair: Pair, rows: list[tuple[int, ...]]) -> Iterator[Drawn]:
    for count in range(_LENGTH):
        for before in product((0, 1), repeat=count):
            tokens = [row[count] for row in rows if row[:count] == before]
            if not tokens:
                continue
            odds = _odds(site, pair, before)
            logs = -np.logaddexp(0.0, np.array([-odds, odds]))
            order = np.argsort(-logs, kind="stable")
            prefix = (0, 1, *before)
            yield Drawn(order, logs[order], np.array(tokens), prefix, 2, count, (_BIAS,))


def _even(site: Site) -> Pair:
    """Two likely tokens that are about as likely as each other, also after either of them."""
    assert site.law is not None
    likely = [int(t) for t in site.law[0] if int(t) not in site.rough][:_LIKELY]
    prompt = (*site.rough, *likely)
    ids, logs = site.asker.law(prompt, site.whole)
    at = {t: float(logs[ids == t][0]) for t in likely}
    found = [Pair(prompt, two, {(): at[two[0]] - at[two[1]]}) for two in combinations(likely, 2)]
    nearest = sorted(found, key=lambda pair: abs(pair.odds[()]))[:_TRIED]
    return min(nearest, key=lambda pair: sum(_odds(site, pair, (i,)) ** 2 for i in (0, 1)))


def _odds(site: Site, pair: Pair, before: tuple[int, ...]) -> float:
    """Nats by which a is more likely than b after some of them; asked for once."""
    if before not in pair.odds:
        prompt = (*pair.prompt, *(pair.tokens[i] for i in before))
        ids, logs = site.asker.law(prompt, site.whole)
        a, b = (float(logs[ids == t][0]) for t in pair.tokens)
        pair.odds[before] = a - b
    return pair.odds[before]


def _field(site: Site) -> str:
    """Where a dialect with several continuations per call takes biases."""
    return "sampling_params.logit_bias" if site.table.name == "sglang" else "logit_bias"
