"""Claims about laws: tokens verbatim, how long lists are, whether log-probabilities are those of the laws."""

from __future__ import annotations

import numpy as np

from ..contract import Sampling
from ..errors import BackendError, InvalidInput
from ..generators.remote.dialects import WHOLE, Call
from ..generators.remote.laws import difference
from ..generators.remote.replies import Ranked, Row
from ..generators.remote.wire import Fault
from . import worded
from .asking import Ask, Fails, NotAsked, lies_fail
from .plan import plan
from .repeats import again
from .site import AGREE, Place, Site, entropy

MASS = 1e-2
"""What a whole law may miss probability 1 by, for rounding."""
_LENGTHS = (1000, 100, 20, 5, 1)
"""Lengths that are tried where the whole law is not shown."""
_CANDIDATES = 12
"""Prompts among which the one of highest entropy is chosen."""
_TEXTS = ("The", "I am", "1, 2,", "It was the", "Dear", "x =", "My name is", "Once upon a")
_WORN, _PLACES = 12, 3
"""Prompts tried that repeat tokens; prompts at which is drawn, besides the roughest and the most worn."""
_SPELT = "the other"


def usual(site: Site) -> tuple[int, ...]:
    """A prompt spelt as the tokenizer spells it, where one is known."""
    return site.speech.encode_continuation(_SPELT) if site.speech else site.tokens(4)


def spellings(site: Site) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """One text letter by letter, and as the tokenizer spells it; ``None``: no tokenizer, or they are the same."""
    if site.speech is None:
        return None
    odd = tuple(t for c in _SPELT for t in site.speech.encode_continuation(c))
    return None if odd == usual(site) else (odd, usual(site))


def token_ids(site: Site) -> str:
    """Are token prefixes continued as sent, however they are spelt?"""
    if not site.table.ids:
        raise NotAsked(f"the dialect {site.table.name!r} speaks in texts, not in token ids")
    pair, asked = spellings(site), [site.tokens(7) for _ in range(3)]
    with lies_fail():
        site.asker.ask([Call(p, length=2, seed=1) for p in (*asked, asked[0][::-1], *(pair or ()))])
    seen = f"{len(asked) + 1} prompts of arbitrary tokens were read as sent, and tokens come back"
    one, other = pair or (asked[0], asked[0][::-1])
    try:
        gap = difference(site.asker.law(one, 5), site.asker.law(other, 5))
    except Fault:
        raise
    except (BackendError, InvalidInput):
        return f"{seen}; there are no lists to compare the laws of two spellings by"
    what = (
        f"{len(one)} and {len(other)} tokens of one text"
        if pair
        else "two orders of the same tokens"
    )
    if gap < AGREE:
        raise Fails(f"{what} have one law (within {gap:.2g} nats): prompts are not read as sent")
    return f"{seen}; {what} have laws that are {gap:.2g} nats apart"


def lists(site: Site) -> str:
    """How long may lists be, counted by ids?"""
    if not site.table.ids:
        return worded.lists(site)
    prompt, refused, short = usual(site), "", ""
    for top in (WHOLE, *(k for k in _LENGTHS if not site.vocab or k < site.vocab)):
        wanted = "the whole law" if top == WHOLE else f"{top:,}"
        try:
            law = site.asker.law(prompt, top)
        except Fault:
            raise
        except InvalidInput as error:
            refused = refused or f"{wanted} is refused ({error})"
            continue
        except BackendError as error:
            if f"lists of {top} tokens were asked for" not in str(error):
                raise Fails(str(error)) from None
            short = short or f"{error}, in silence"
            continue
        if fault := _impossible(law, top == WHOLE, site.vocab):
            if not fault.startswith("the list has"):
                raise Fails(fault)
            short = short or f"the whole law was asked for: {fault}, in silence"
            continue
        site.longest = len(law[0])
        site.vocab = site.vocab or (site.longest if top == WHOLE else 0)
        mass = float(np.exp(law[1]).sum())
        less = (
            "" if site.longest == site.vocab else f": a truncated law, {1 - mass:.4f} is left out"
        )
        seen = f"{site.longest:,} ids, which sum to {mass:.6f}{less}"
        if short:
            raise Fails(f"{short}; lists of {top:,} have {seen}")
        return f"{seen}; {refused}" if refused else seen
    raise Fails(short or refused or "no list came back")


def _impossible(law: Ranked, whole: bool, vocab: int) -> str:
    """What is wrong with a list; the words "the list has" begin what only makes it shorter."""
    mass = float(np.exp(law[1]).sum())
    if len(set(law[0].tolist())) != len(law[0]):
        return (
            f"of {len(law[0]):,} listed ids {len(law[0]) - len(set(law[0].tolist())):,} come twice"
        )
    if mass > 1 + MASS:
        return f"the law sums to {mass:.4f}"
    if whole and vocab and len(law[0]) != vocab:
        return f"the list has {len(law[0]):,} entries for {vocab:,} tokens"
    if whole and mass < 1 - MASS:
        return f"the law sums to {mass:.4f}"
    return ""


def find_places(site: Site) -> None:
    """Find prompts at which every hidden setting would show somewhere, and their laws; first a rough one."""
    prompts = _candidates(site)
    listed = [site.asker.law(prompt, site.top) for prompt in prompts]
    rough = int(np.argmax([entropy(law) for law in listed[:_CANDIDATES]]))
    likely = listed[rough][0][:24]
    for i in range(_WORN):
        some = tuple(int(t) for t in site.rng.permutation(likely)[: 5 + 5 * (i % 2)])
        worn = (*prompts[rough], *some) if i % 2 else (*some, *some, *some[:2])
        prompts.append(worn)
        listed.append(site.asker.law(worn, site.top))
    none = np.empty(0, dtype=np.int64)
    drawn = [site.drawn(law, none, u) for u, law in zip(prompts, listed, strict=True)]
    shares = dict.fromkeys((rough, int(np.argmin([abs(again(d) - 0.4) for d in drawn]))), 0.3)
    for i, n in plan(drawn, 1000, _PLACES):
        shares[i] = max(shares.get(i, 0.1), n / 1000)
    for i, share in shares.items():
        law = site.asker.law(prompts[i], site.whole)
        site.places.append(Place(prompts[i], law, share))
        site.lists.append((prompts[i], law))


def _candidates(site: Site) -> list[tuple[int, ...]]:
    """Arbitrary tokens, then beginnings of texts."""
    texts = _TEXTS if site.speech else ()
    own = [site.speech.encode_continuation(text) for text in texts] if site.speech else []
    return [site.tokens(3) for _ in range(_CANDIDATES)] + own


def logprobs(site: Site) -> str:
    """Is what is stated along rollouts what the laws at their prefixes say?"""
    site.need_lists()
    worst, count = 0.0, 0
    with lies_fail():
        rows = site.asker.rows([Call(usual(site), length=6, top=0, seed=s) for s in (2, 3)])
        for row in rows:
            for t, (token, stated) in enumerate(zip(row.ids, row.logprobs, strict=False)):
                prompt = (*usual(site), *row.ids[:t])
                law = site.asker.law(prompt, site.top)
                site.lists.append((prompt, law))
                worst, count = max(worst, _off(law, token, stated)), count + 1
    if not worst <= AGREE:
        raise Fails(f"a stated log-probability is {worst:.3g} nats off the law at its prefix")
    if not count:
        raise Fails("no log-probability came with drawn tokens")
    return f"{count} along 2 rollouts are those of the laws there, within {worst:.1g} nats"


def _off(law: Ranked, token: int, stated: float) -> float:
    """Nats by which a log-probability contradicts a list."""
    known = law[1][law[0] == token]
    off = abs(known[0] - stated) if len(known) else max(0.0, stated - float(law[1][-1]))
    return float(off)


def raw_lists(site: Site) -> str:
    """Are lists those of the base law, whatever the draws follow?"""
    site.need_lists()
    if "top_k" not in site.table.fields:
        raise NotAsked("the dialect has no top-k")
    plain = site.asker.law(usual(site), site.top)
    with lies_fail():
        told = Ask(Call(usual(site), sampling=Sampling(0.5, 1.0, 0)))
        gap = difference(plain, site.asker.law(usual(site), site.top, told))
    if gap > AGREE:
        raise Fails(
            f"at temperature 0.5 another law is stated, {gap:.2g} nats away: processed, not raw"
        )
    return f"at temperature 0.5 the same law is stated, within {gap:.1g} nats"


def given_tokens(site: Site) -> str:
    """Are tokens that are given scored as when they are drawn?"""
    site.need_lists()
    if not site.table.scores:
        raise NotAsked("the dialect scores no given tokens")
    prompt = usual(site)
    with lies_fail():
        (row,) = site.asker.rows([Call(prompt, length=3, top=0, seed=5)])
        drawn = row.logprobs
        given = _scored(site, prompt, row)
    worst = float(np.abs(np.array(given[: len(drawn)]) - drawn[: len(given)]).max(initial=0.0))
    if not worst <= AGREE:
        raise Fails(f"scores of given tokens are {worst:.3g} nats off those when drawn")
    return f"{min(len(given), len(drawn))} scored as when drawn, within {worst:.1g} nats"


def _scored(site: Site, prompt: tuple[int, ...], row: Row) -> list[float]:
    if site.table.scores == "prompt":
        call = Call((*prompt, *row.ids), top=0, scored=len(row.ids))
        (answer,) = site.asker.ask([call])
        return [score[1] for score in answer.rows[0].scores]
    asked = [
        Call((*prompt, *row.ids[:t]), top=0, force=token, seed=1)
        for t, token in enumerate(row.ids[: len(row.logprobs)])
    ]
    firsts = site.asker.rows(asked)
    for token, first in zip(row.ids, firsts, strict=False):
        if first.ids[0] != token:
            raise Fails(f"a logit bias of 1000 does not force token {token}: {first.ids[0]} came")
    return [first.logprobs[0] for first in firsts if first.logprobs]
