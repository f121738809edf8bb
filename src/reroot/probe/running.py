"""One probe: all claims in the order of what they carry, the contract that follows, the profile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..checks import check_int
from ..contract import Contract, Control, Report
from ..errors import BackendError, InvalidInput
from ..generators.base import Generator
from ..generators.remote.granted import Claim
from ..generators.remote.wire import Fault, Patience
from . import conduct, draws, laws, texts
from .asking import Fails, NotAsked, OutOfBudget
from .reference import compare
from .site import EACH, LEVEL, Site, connect

_log = logging.getLogger("reroot.probe")
BUDGET = 20_000
"""Tokens of one probe, where nothing is said."""


@dataclass(frozen=True, slots=True)
class Test:
    """One claim and how it is found out.

    Attributes:
        name: of the claim.
        ask: site → what was seen; raises what was wrong.
        needs: claims without which it makes no sense.
        chance: whether it errs with probability ``EACH``; else no chance is involved.
        carries: whether a contract may rest on it.
    """

    name: str
    ask: Callable[[Site], str]
    needs: tuple[str, ...] = ()
    chance: bool = False
    carries: bool = False


_LISTED = ("continuations", "token ids")
TESTS: tuple[Test, ...] = (
    Test("continuations", conduct.continuations, carries=True),
    Test("token ids", laws.token_ids, carries=True),
    Test("lists", laws.lists, _LISTED, carries=True),
    Test("log-probabilities", laws.logprobs, _LISTED, carries=True),
    Test("given tokens", laws.given_tokens, ("log-probabilities",), carries=True),
    Test("choices", draws.choices, _LISTED, chance=True),
    Test("draws", draws.neutral, _LISTED, chance=True, carries=True),
    Test("raw lists", laws.raw_lists, _LISTED, carries=True),
    Test("sampling fields", draws.sampling_fields, ("draws",), chance=True, carries=True),
    Test("seeds", conduct.seeds, ("continuations",)),
    Test("repeatable", conduct.repeatable, _LISTED, carries=True),
    Test("stop reasons", conduct.stop_reasons, ("continuations",)),
    Test("cache", conduct.cache, _LISTED, carries=True),
    Test("logit bias", conduct.logit_bias, ("continuations",)),
    Test("unknown fields", conduct.unknown_fields, ("continuations",)),
    Test("text boundaries", texts.text_boundaries, _LISTED),
    Test("begin token", texts.begin_token, ("continuations",)),
    Test("chat template", texts.chat_template, ("continuations",)),
    Test("last turn", texts.last_turn, ("continuations",)),
    Test("draws, no field", draws.silent, _LISTED, chance=True),
    Test("draws, temperature alone", draws.alone, _LISTED, chance=True),
)
"""In the order in which a budget is spent: what takes many draws, and no contract rests on, last."""
_AT_PLACES = (draws.choices, draws.neutral, draws.silent, draws.alone)
"""What needs prompts to draw at, whichever of them comes first."""


def probe(
    endpoint: str,
    *,
    budget_tokens: int = BUDGET,
    tokenizer: str | Path | None = None,
    reference: Generator | None = None,
    seed: int = 0,
    read_timeout: float = 120.0,
    patience: float = 20.0,
    on_start: Callable[[int, int], object] = lambda total, done: None,
    on_claim: Callable[[str], object] = lambda name: None,
) -> dict[str, Any]:
    """Find out by asking what a server grants: its access profile.

    Keys come from the environment and are in no profile, log or error.

    Args:
        endpoint: a server, as ``--model`` names it: ``http://HOST:PORT[/MODEL]``, ``DIALECT:http://…``,
            ``openai:MODEL``.
        budget_tokens: most tokens, prompts and continuations together; a claim that does not fit is undetermined.
        tokenizer: a folder with ``tokenizer.json``, for claims about texts.
        reference: a generator whose law the server's is compared with.
        seed: of prompts and draws.
        read_timeout: seconds within which an answer must be there.
        patience: seconds that a server may be down before it is given up.
        on_start: told how many claims there are, and how many of them are settled (0).
        on_claim: told the name of each claim that is settled.

    Returns:
        What ``profile.json`` holds: ``contract``, ``claims`` and what they were found by.

    Raises:
        InvalidInput: no such name, credentials in it, no tokenizer, or a number out of range.
        BackendError: the server cannot be reached, is none that is known, or answers nothing at all.
        MissingDependency: httpx2 or tokenizers is not installed.
    """
    budget = check_int("budget_tokens", budget_tokens, 1)
    how = Patience(read=read_timeout, tries=1, down=patience, busy=patience)
    site = connect(endpoint, tokenizer, budget, check_int("seed", seed, 0), how)
    try:
        tests = (*TESTS, Test("reference", partial(compare, reference), chance=True))
        on_start(len(tests) + 1, 0)
        found = settle(site, tests, on_claim)
        if not site.asker.answered:
            raise BackendError(f"nothing can be probed: {found['continuations'].evidence}")
        found["service"] = settled(site, Test("service", conduct.service), found)
        on_claim("service")
        return _profile(site, found)
    finally:
        site.asker.wire.close()


def settle(
    site: Site, tests: Sequence[Test], on_claim: Callable[[str], object] = lambda name: None
) -> dict[str, Claim]:
    """Name → claim, in order; what a test needs comes before it."""
    found: dict[str, Claim] = {}
    for test in tests:
        found[test.name] = settled(site, test, found)
        on_claim(test.name)
    return found


def settled(site: Site, test: Test, found: dict[str, Claim]) -> Claim:
    """What became of one claim."""
    begun = site.asker.spent
    holds, evidence, settings = _asked(site, test, found)
    claim = Claim(
        test.name,
        holds,
        evidence,
        site.asker.spent - begun,
        EACH if test.chance and holds is not None else 0.0,
        test.carries and not evidence.startswith("not asked"),
        settings,
    )
    _log.info("%s: %s: %s", claim.name, claim.holds, claim.evidence)
    return claim


def _asked(
    site: Site, test: Test, found: dict[str, Claim]
) -> tuple[bool | None, str, tuple[Any, ...]]:
    for name in test.needs:
        if not found[name].holds and (site.table.ids or name != "token ids"):
            return None, f"not asked: {name!r} is not known to hold", ()
    try:
        _prepare(site, test)
        return True, test.ask(site), ()
    except Fails as seen:
        return False, str(seen), seen.settings
    except NotAsked as why:
        return None, f"not asked: {why}", ()
    except OutOfBudget as why:
        return None, f"undetermined: the budget does not reach: {why}", ()
    except Fault as error:
        return None, f"undetermined: {error}", ()
    except InvalidInput as error:  # the server says so, with 400
        return False, str(error), ()
    except BackendError as error:
        return False, str(error), ()


def _prepare(site: Site, test: Test) -> None:
    """Prompts to draw at, once lists may be relied on."""
    if test.ask in _AT_PLACES and site.longest and not site.places:
        laws.find_places(site)


def strongest(site: Site, found: dict[str, Claim]) -> Contract:
    """The strongest contract that the claims carry: chosen needs token ids; log-probabilities need the laws,
    their agreement along rollouts, repetition, and draws that follow them."""

    def holds(*names: str) -> bool:
        return all(bool(found[name].holds) for name in names)

    if not holds("continuations"):
        return Contract(Control.ROOT, Report.NONE)
    if not holds("token ids"):
        return Contract(Control.ROOT, Report.SAMPLE)
    listed = site.longest and holds("log-probabilities", "draws", "repeatable")
    if not listed or found["cache"].holds is False:
        return Contract(Control.CHOSEN, Report.SAMPLE)
    whole = site.longest == site.vocab
    return Contract(Control.CHOSEN, Report.FULL if whole else Report.TOPK(site.longest))


def _profile(site: Site, found: dict[str, Claim]) -> dict[str, Any]:
    about = site.about
    return {
        "contract": str(strongest(site, found)),
        "claims": [claim.written() for claim in found.values()],
        "endpoint": site.asker.wire.url,
        "model": about.shown,
        "dialect": about.table.name,
        "server": _version(site),
        "vocab_size": site.vocab,
        "longest_list": site.longest,
        "choices": site.most_choices,
        "known_prompt": _known(site),
        "tokens": site.asker.spent,
        "budget_tokens": site.asker.budget,
        "calls": site.asker.answered,
        "error_rate": LEVEL,
        "seed": site.seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "reroot": __version__,
    }


def _known(site: Site) -> dict[str, Any] | None:
    """A prompt and the beginning of its law, by which the model is known again."""
    if site.law is None:
        return None
    ids, logs = site.law[0][:20], site.law[1][:20]
    numbers = [float(x) if np.isfinite(x) else None for x in logs]
    return {"prompt": list(site.rough), "ids": ids.tolist(), "logprobs": numbers}


def _version(site: Site) -> str:
    """What the server says of its version; "" where it does not."""
    wire = site.asker.wire
    try:
        for path, key in (
            ("/version", "version"),
            ("/props", "build_info"),
            ("/get_server_info", "version"),
        ):
            said = wire.wait(wire.get(path))
            if isinstance(said, dict) and isinstance(said.get(key), str):
                return wire.hidden(said[key])[:200]
    except BackendError:
        pass
    return ""
