"""The rows of the price list: single reductions from one interface to another, with their prices."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...contract import Contract, Control, Report, Sampling
from ...types import FloatArray
from ..law import sampling_laws
from . import formulas
from .pairs import narrow
from .place import Interface
from .server import Bias
from .sizes import Sizes
from .steps import Exactness, Step
from .tempering import draws_expected, retempered

Rule = Callable[[Interface, "Space", Sizes], Iterator[Step]]


@dataclass(frozen=True, slots=True)
class Space:
    """What a path may pass: reports, sampling laws and biases of its two ends, and the usual ones."""

    controls: tuple[Control, ...]
    reports: tuple[Report, ...]
    samplings: tuple[Sampling, ...]
    biases: tuple[Bias | None, ...]

    def interfaces(
        self,
        one: Interface,
        controls: Sequence[Control] = (),
        reports: Sequence[Report] = (),
        samplings: Sequence[Sampling] = (),
        biases: Sequence[Bias | None] = (),
    ) -> Iterator[Interface]:
        """``one`` with each of these in place of its own part, where any are given."""
        own = one.contract
        for control, report, sampling, bias in itertools.product(
            controls or (own.control,),
            reports or (own.report,),
            samplings or (own.sampling,),
            biases or (one.bias,),
        ):
            yield _made(control, report, sampling, bias)


# ---- what decides ------------------------------------------------------------------------------------


def greedy(sampling: Sampling) -> bool:
    """Whether nothing but the mode is ever drawn."""
    return sampling.temperature == 0 or sampling.top_k == 1


def whole(sampling: Sampling) -> bool:
    """Whether every token may be drawn."""
    return not narrow(Report.SAMPLE, sampling)


def determines(held: Sampling, wanted: Sampling) -> bool:
    """Whether the law at one sampling law fixes that at another one."""
    if held == wanted or whole(held) or greedy(wanted):
        return True
    nested = held.top_p == 1 and 0 < wanted.top_k <= held.top_k
    return nested and held.temperature > 0


def laws_of(one: Interface) -> Sampling:
    """The sampling law of an interface."""
    sampling = one.contract.resolved.sampling
    assert sampling is not None
    return sampling


def again(one: Interface) -> bool:
    """Whether a prefix may be asked again at once."""
    return one.contract.control not in (Control.ROOT, Control.EPISODE)


def _steers(one: Interface) -> bool:
    """Whether tokens may be put in; passes, which may not return, must draw."""
    passes = one.contract.control == Control.EPISODE
    return one.contract.report.draws if passes else one.contract.control > Control.EPISODE


def _tells(one: Interface, wanted: Sampling) -> bool:
    """Whether an answer at a prefix says the law there at another sampling law, or what is to be seen of it."""
    report, held = one.contract.report, laws_of(one)
    if report.has_law and determines(held, wanted):
        return True
    kept = whole(held) or 0 < wanted.top_k <= held.top_k
    listed = report.top >= wanted.top_k > 0 and wanted.top_p == held.top_p == 1
    return (listed and kept and held.temperature > 0) or (greedy(wanted) and report.top >= 1)


def _with(
    one: Interface,
    report: Report | None = None,
    sampling: Sampling | None = None,
    bias: Bias | None = None,
) -> Interface:
    """``one`` with another report or sampling law, and just this bias."""
    own = one.contract
    return _made(own.control, report or own.report, sampling or laws_of(one), bias)


@functools.lru_cache(maxsize=65536)
def _made(control: Control, report: Report, sampling: Sampling, bias: Bias | None) -> Interface:
    return Interface(Contract(control, report, sampling), bias)


def _again_factor(has: Interface, sizes: Sizes) -> tuple[float, str]:
    """What a further answer at one prefix costs, where it is waited for."""
    if again(has):
        return 1.0, ""
    if has.contract.control == Control.EPISODE:
        return formulas.passed_calls(sizes.surprises), "·(1 + Σ_t 1/Π_{s ≥ t} P(u_s))"
    return formulas.waited_rollouts(sizes.surprises), "/P(u)"


# ---- rules -------------------------------------------------------------------------------------------


def free(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Weaker contracts, a bias or scores unused, what a known law says, and modes."""
    own, sampling = has.contract, laws_of(has)
    if has.scores:
        yield Step("coarsen", Interface(own, has.bias), Exactness.FREE, "nothing", 1.0)
    for other in space.interfaces(
        has, controls=space.controls, reports=space.reports, biases=(has.bias, None)
    ):
        if other != has and other.contract.control <= own.control:
            if other.contract.control == Control.EPISODE and _steers(other) > _steers(has):
                continue
            shown = own.report.top >= (sampling.top_k or sizes.vocab_size - 1)
            known = own.report.has_law or (shown and sampling.top_p == 1)
            if other.contract.report <= own.report or known or greedy(sampling):
                yield Step("coarsen", other, Exactness.FREE, "nothing", 1.0)
    if not own.report.draws and own.control in (Control.ROOT, Control.EPISODE):
        # passes draw: without draws there is the rollout of modes alone
        for control in (Control.ROOT, Control.EPISODE) if has.bias is None else ():
            other = _made(control, own.report, sampling, None)
            yield Step("coarsen", other, Exactness.FREE, "nothing", 1.0)
    if not again(has):
        # a rollout of modes is always the same: its prefixes are all that can be visited
        if greedy(sampling) or not own.report.draws:
            for other in space.interfaces(has, controls=(Control.VISITED,), biases=(None,)):
                yield Step("coarsen", other, Exactness.FREE, "nothing", 1.0)
        return
    kept = (None,) if has.bias is None or has.bias.raw else (None, has.bias)
    for other in space.interfaces(has, samplings=space.samplings, biases=kept):
        wanted = laws_of(other)
        if wanted != sampling and _tells(has, wanted):
            yield Step("retempered law", other, Exactness.FREE, "nothing", 1.0, "τ known")
    for bias in space.biases:
        if own.report.has_law and bias is not None and has.bias is None and whole(sampling):
            yield Step("biased law", _with(has, bias=bias), Exactness.FREE, "nothing", 1.0)


def by_bias(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Laws at temperature 1 from lists, ids and draws with a bias."""
    own, sampling, bias = has.contract, laws_of(has), has.bias
    if bias is None or not again(has):
        return
    K, k = sizes.vocab_size, own.report.top
    full = Interface(Contract(own.control, Report.FULL, Sampling()), None)
    listed = min(k, sampling.top_k or k)
    big = "B >= R"
    if listed >= 2 and not bias.raw and sampling.top_p == 1 and sampling.temperature:
        value = formulas.anchored_calls(K, listed, bias.tokens)
        price = "1 + ⌈(K − k)/min(b, k − 1)⌉"
        yield Step("anchored", full, Exactness.EXACT, price, value, big)
    if k == 1 and not bias.raw and sampling.is_base:  # longer lists have the stable one
        value = formulas.fewest_calls(K, k)
        yield Step(
            "fewest", full, Exactness.EXACT, "⌈(K − 1)/k⌉", value, f"{big}; exact arithmetic"
        )
    if own.report.has_logprob and bias.raw:
        value = formulas.raw_calls(K, max(1, k))
        yield Step("raw", full, Exactness.EXACT, "K − k", value, "B large")
    if not own.report.draws or not whole(sampling):
        value = formulas.bisection_calls(K, sizes.gap, sizes.epsilon)
        price = "1 + (K − 1)⌈log₂(R/2ε)⌉"
        if own.report.draws and not greedy(sampling):
            price += " times the draws of a majority"
        yield Step("bisection", full, Exactness.WITHIN, price, value, big)
    elif sampling.is_base:
        b = min(bias.tokens, K - 1)
        value = (K - 1) * formulas.biased_draws_together(b, sizes.epsilon) / b
        price = "(K − 1)(1 + √b)²z²/(bε²)"
        yield Step("biased counts", full, Exactness.WITHIN, price, value, "B ≳ log 1/p")


def by_draws(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Laws from scores, from drawn log-probabilities and from counts."""
    own, K = has.contract, sizes.vocab_size
    if not own.report.draws or own.report.has_law or greedy(laws_of(has)):
        return
    factor, unit = _again_factor(has, sizes)
    raw = has.bias is not None and has.bias.raw
    for bias in (None,) if has.bias is None or raw else (None, has.bias):  # at each β its own law
        full = _with(has, Report.FULL, bias=bias)
        if has.scores and not raw:
            yield Step("scores", full, Exactness.EXACT, "K − 1", K - 1, "ids accepted")
        if own.report.has_logprob and not raw:
            value = formulas.collecting_draws(K) * factor
            price = f"until one token is unseen: about K(H_K − 1){unit} where tokens are even"
            yield Step("collecting", full, Exactness.EXACT, price, value, "random price")
        value = formulas.frequency_draws(K, sizes.epsilon) * factor
        yield Step("counts", full, Exactness.WITHIN, f"(K − 1)/(2πε²){unit}", value)


def by_sampling(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Draws at another temperature or truncation, and biased draws."""
    own, held = has.contract, laws_of(has)
    if not again(has) or not own.report.draws or not whole(held):
        return
    law = sizes.log_law()
    here = retempered(law, 1 / held.temperature)
    for sampling in space.samplings:
        sample = _with(has, Report.SAMPLE, sampling)
        if whole(sampling) and sampling != held:
            tau = held.temperature / sampling.temperature
            price = "(⌊τ⌋ + Σ x^(τ−1))/Σ x^τ, x = P_τ" if tau % 1 else "τ/Σ x^τ, x = P_τ"
            assumes = "" if tau >= 1 else "support known"
            value = draws_expected(here, tau)
            yield Step("retempered draws", sample, Exactness.IN_LAW, price, value, assumes)
        short = sampling.top_p == 1 and 0 < sampling.top_k <= own.report.top
        if short and sampling.temperature == held.temperature:
            kept = np.sort(np.exp(here))[::-1][: sampling.top_k].sum()
            yield Step("kept draws", sample, Exactness.IN_LAW, "1/(1 − m)", 1 / float(kept))
    for bias in space.biases:
        if bias is not None and has.bias is None:
            sample = _with(has, Report.SAMPLE, bias=bias)
            price, value = "e^(max β)/Σ P e^β, at most e^2B", math.exp(min(700.0, 2 * bias.bound))
            yield Step("biased draws", sample, Exactness.IN_LAW, price, value)


def by_control(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Prefixes: waited for, redrawn, walked to, or forced by a bias."""
    own, sampling = has.contract, laws_of(has)
    if own.control == Control.EPISODE and own.report.draws:
        yield from _by_passes(has, space, sizes)
    surprises, length, K = sizes.surprises, sizes.length, sizes.vocab_size
    for other in space.interfaces(has, controls=space.controls, biases=(None,)):
        to = other.contract.control
        if own.control == Control.ROOT and to != Control.ROOT:
            taken = has.bias if has.bias is not None and not has.bias.raw else None
            if own.report.has_law and taken is not None and whole(sampling):
                p = math.exp(-sizes.surprise)
                value = formulas.constant_bias_rollouts(K, sizes.length, p, taken.bound)
                price = "min_β Π_t Σ_a P(a|u_<t)e^β(a)/(P(u_t|u_<t)e^β(u_t))"
                needs = "laws along u known; at these sizes: all tokens of u distinct"
                yield Step("constant bias", other, Exactness.IN_LAW, price, value, needs)
            if own.report.draws and (whole(sampling) or to == Control.VISITED):
                value = formulas.waited_rollouts(surprises)
                yield Step("waiting", other, Exactness.IN_LAW, "1/P(u)", value, "P(u) > 0")
        if own.control == Control.VISITED and to in (Control.RESET, Control.CHOSEN):
            with_bias = _with(other, bias=has.bias)
            if own.report.draws and whole(sampling):
                build = formulas.redrawn_calls(surprises, m=0)
                price = "Σ_t 1/P(u_t|u_<t) + m"
                needs = "P(u) > 0"
                yield Step("redrawing", with_bias, Exactness.EXACT, price, 1.0, needs, build)
            if has.bias is not None:
                price, needs = "|u| + m", "B >= R"
                yield Step("forcing", with_bias, Exactness.EXACT, price, 1.0, needs, length)
        if own.control == Control.RESET and to == Control.CHOSEN:
            with_bias = _with(other, bias=has.bias)
            walked = Interface(with_bias.contract, with_bias.bias, has.scores)
            yield Step("walking", walked, Exactness.EXACT, "|u| + m", 1.0, "", length)


def by_lifting(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Lists along the modes from the root: one token put ahead leaves the mode in a list of two or more."""
    own, sampling = has.contract, laws_of(has)
    if own.control != Control.ROOT or has.bias is None or not own.report.draws:
        return
    if sampling.top_k < 2 or sampling.top_p < 1 or not sampling.temperature:
        return
    each = 1.0 if own.report.has_logprob else formulas.biased_draws(sizes.epsilon)
    value = each * formulas.lifted_rollouts(
        sizes.vocab_size, sampling.top_k, sizes.length, sizes.gap / sampling.temperature
    )
    price = "(K − 1)(k − 1 + e^(R/τ))^(|u| + 1)" + ("" if own.report.has_logprob else "·4z²/ε²")
    exactness = Exactness.EXACT if own.report.has_logprob else Exactness.WITHIN
    for other in space.interfaces(
        has,
        reports=[r for r in space.reports if not r.draws],
        samplings=space.samplings,
        biases=(None,),
    ):
        yield Step("lifting", other, exactness, price, value, "B >= R")


def _by_passes(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """A pass of its own for each answer; with a bias all tokens of the prefix are forced."""
    sampling, value = laws_of(has), formulas.passed_calls(sizes.surprises)
    price = "1 + Σ_t 1/Π_{s ≥ t} P(u_s|u_<s), t and s odd"
    for other in space.interfaces(has, controls=space.controls, biases=(has.bias,)):
        to = other.contract.control
        if to <= Control.EPISODE:
            continue
        if has.bias is not None:
            paid = float(sizes.length + 1)
            yield Step("forcing", other, Exactness.IN_LAW, "|u| + 1", paid, "B >= R")
        elif whole(sampling) or to == Control.VISITED:
            yield Step("passing", other, Exactness.IN_LAW, price, value, "P > 0 at odd places")
    for other in space.interfaces(has, samplings=space.samplings, biases=(None,)):
        wanted = laws_of(other)
        if wanted != sampling and _covers(sampling, wanted) and _tells(has, wanted):
            yield Step("passing", other, Exactness.IN_LAW, price, value, "P > 0 at odd places")


def by_outputs(has: Interface, space: Space, sizes: Sizes) -> Iterator[Step]:
    """Rollouts from the root under another sampling law or bias, by rejection of whole outputs."""
    own, held = has.contract, laws_of(has)
    if own.control != Control.ROOT or not own.report.has_law:
        return
    base = sizes.log_law()
    for other in space.interfaces(has, samplings=space.samplings, biases=space.biases):
        wanted = laws_of(other)
        same = wanted == held and other.bias == has.bias
        if same or greedy(held) or not (determines(held, wanted) and _covers(held, wanted)):
            continue
        if other.bias is not None and has.bias is None and not whole(held):
            continue
        there, here = _sampled(base, wanted), _sampled(base, held)
        ratio = there[there > -np.inf] - here[there > -np.inf]
        shift = 2 * other.bias.bound if other.bias is not None and has.bias is None else 0.0
        each = float(ratio.max()) + shift
        value = math.exp(min(700.0, sizes.length * each))
        price = "sup_y P(y)/P_τ(y)"
        yield Step("rejected outputs", other, Exactness.IN_LAW, price, value, "a bound on it known")


def _covers(held: Sampling, wanted: Sampling) -> bool:
    """Whether what may be drawn at ``wanted`` may be drawn at ``held``."""
    return whole(held) or greedy(wanted) or 0 < wanted.top_k <= held.top_k


def _sampled(law: FloatArray, sampling: Sampling) -> FloatArray:
    return sampling_laws(law[None], sampling)[0]


RULES: tuple[Rule, ...] = (free, by_bias, by_draws, by_sampling, by_control, by_lifting, by_outputs)
