"""``Lifted`` runs every row that says "can": masks, image, bans, constant bias, rejection, lifted modes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reroot import InvalidInput, Report, Sampling
from reroot.generators import Request, Tabular
from reroot.generators.law import log_normalize, sampling_laws
from reroot.generators.lifted import Bias, Exactness, Lifted, LogitServer, Narrowed
from reroot.generators.lifted.by_root import log_bound
from reroot.generators.lifted.prefixes import best_constant_bias
from reroot.randomness import stream_key
from reroot.testing import check_generator
from reroot.types import FloatArray, Reply

TREE = Tabular.random(4, 2, seed=7, concentration=2.0)
PREFIXES = [(), (0,), (2,)]


def image_tree() -> tuple[Tabular, FloatArray]:
    """A tree of 2 levels over 6 tokens whose logits are W·h with d = 2, and W."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(6, 2))
    laws = [np.exp(log_normalize(rng.normal(size=(*(6,) * t, 2)) @ image.T)) for t in range(2)]
    return Tabular(laws), image


@pytest.mark.parametrize(
    ("by", "size", "k", "bias", "calls"),
    [
        ("fewest", 4, 2, Bias(2, 6.0), 2),
        ("masks", 4, 2, Bias(2, 1.0), 3),
        ("masks", 6, 3, Bias(4, 1.0), 3),
    ],
)
def test_laws_by_another_reduction(by: str, size: int, k: int, bias: Bias, calls: int) -> None:
    tree = Tabular.random(size, 2, seed=7, concentration=2.0)
    lifted = Lifted(LogitServer(tree, f"chosen/topk({k})", bias), "chosen/full", by=by)
    found = lifted.log_laws((), PREFIXES)
    assert found == pytest.approx(tree.log_laws((), PREFIXES), abs=1e-10)
    assert lifted.used.calls == calls * len(PREFIXES)
    assert lifted.price.value == calls
    assert [step.row for step in lifted.price.paid] == [by]
    assert lifted.price.exactness == Exactness.EXACT


def test_laws_by_a_known_image() -> None:
    tree, image = image_tree()
    lifted = Lifted(LogitServer(tree, "chosen/topk(3)", Bias(2, 30.0)), "chosen/full", image=image)
    assert lifted.log_laws((), PREFIXES) == pytest.approx(tree.log_laws((), PREFIXES), abs=1e-9)
    assert lifted.used.calls == len(PREFIXES) == lifted.price.value * len(PREFIXES)


@pytest.mark.slow(5)
@pytest.mark.parametrize("by", ["masks", "image", "constant bias"])
def test_they_are_generators(by: str) -> None:
    tree, image = image_tree()

    def make() -> Lifted:
        if by == "image":
            server = LogitServer(tree, "chosen/topk(3)", Bias(2, 30.0))
            return Lifted(server, "chosen/full", image=image)
        if by == "masks":
            server = LogitServer(TREE, "chosen/topk(2)", Bias(2, 1.0))
            return Lifted(server, "chosen/full", by=by)
        return Lifted(LogitServer(TREE, "root/full", Bias(4, 6.0)), "chosen/full")

    assert by in [step.row for step in make().price.paid]
    check_generator(make, tolerance=1e-9, draws=300, length=2)


@pytest.mark.parametrize("kind", ["topk", "argmax"])
def test_longer_lists_by_bans(kind: str) -> None:
    """⌈L/k⌉ calls for the list of a prefix, once; each draw is one more call but the first."""
    server = LogitServer(TREE, f"chosen/{kind}(1)", Bias(3, 1.0))
    lifted = Lifted(server, f"chosen/{kind}(3)", by="bans")
    report = Report.parse(f"{kind}(3)")
    request = Request((), (2,), 5 if report.draws else 1, 1, report)
    (reply,) = lifted.answer([request])
    (known,) = TREE.answer([Request((), (2,), 1, 1, report)])
    assert reply.top_tokens is not None
    assert reply.top_logprobs is not None
    assert known.top_tokens is not None
    assert known.top_logprobs is not None
    assert (reply.top_tokens == known.top_tokens).all()
    assert reply.top_logprobs == pytest.approx(
        np.broadcast_to(known.top_logprobs, reply.top_logprobs.shape)
    )
    assert lifted.used.calls == request.n + lifted.price.value
    assert lifted.price.value == 3
    if report.draws:
        law = TREE.log_laws((), [(2,)])[0]
        assert reply.logprobs is not None
        assert reply.logprobs[:, 0] == pytest.approx(law[reply.tokens[:, 0]])
        (mode,) = lifted.answer([Request((), (2,), 1, 1, Report.ARGMAX(2))])
        assert mode.tokens[0, 0] == law.argmax()


def test_a_constant_bias_makes_laws_at_chosen_prefixes() -> None:
    """Exact, in the expected rollouts of its convex program (30 seeds, 4.5 standard errors)."""
    u = (2,)
    laws = TREE.log_laws((), [()])
    price = math.exp(best_constant_bias(laws, u, 4.0, u).log_rollouts)
    assert price < 0.7 / float(np.exp(laws[0, 2]))
    used: list[int] = []
    for seed in range(30):
        held = LogitServer(TREE, "root/full", Bias(1, 4.0))
        lifted = Lifted(held, "chosen/full", seed=seed)
        assert "constant bias" in [step.row for step in lifted.price.paid]
        found = lifted.log_laws((), [(), u])
        assert found == pytest.approx(TREE.log_laws((), [(), u]), abs=1e-9)
        used.append(lifted.used.calls - 1)  # the law at the root is one rollout
    assert abs(np.mean(used) - price) <= 4.5 * np.sqrt(price * (price - 1) / 30)


def test_a_constant_bias_at_another_temperature() -> None:
    lifted = Lifted(LogitServer(TREE, "root/full@T=2", Bias(2, 4.0)), "chosen/full")
    found = lifted.log_laws((), PREFIXES)
    assert found == pytest.approx(TREE.log_laws((), PREFIXES), abs=1e-9)


def outputs_law(sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Probability of every output of TREE at a sampling law."""
    found: dict[tuple[int, ...], float] = {}
    for y in itertools.product(range(4), repeat=2):
        rows = sampling_laws(TREE.log_laws((), [y[:t] for t in range(2)]), sampling)
        found[y] = float(np.exp(rows[np.arange(2), list(y)].sum()))
    return found


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("T=2", "T=1"),
        ("T=1", "T=1,top_k=2"),
        pytest.param("T=1", "T=1,top_p=0.6", marks=pytest.mark.slow(1)),
        pytest.param("T=1,top_k=3", "T=0.5,top_k=2,top_p=0.9", marks=pytest.mark.slow(2)),
    ],
)
def test_outputs_by_rejection_follow_the_wanted_law(held: str, wanted: str) -> None:
    """Chi-squared of 100 outputs at error 1e-4; rollouts as bounded, within 4.5 standard errors."""
    lifted = Lifted(Narrowed(TREE, f"root/full@{held}"), f"root/full@{wanted}")
    assert "rejected outputs" in [step.row for step in lifted.price.paid]
    there = Sampling.parse(wanted)
    request = Request((), (), 100, 2, Report.FULL, there, key=stream_key(3, "", "outputs"))
    (reply,) = lifted.answer([request])
    law = outputs_law(there)
    counts = dict.fromkeys(law, 0)
    for i in range(100):
        counts[reply.continuation(i)] += 1
    assert all(law[y] > 0 for y, n in counts.items() if n)
    inside = [y for y in law if law[y] > 0]
    fit = stats.chisquare([counts[y] for y in inside], [100 * law[y] for y in inside])
    assert fit.pvalue > 1e-4
    bound = math.exp(log_bound(Sampling.parse(held), there, 4, 2))
    assert abs(lifted.used.calls / 100 - bound) <= 4.5 * bound / math.sqrt(100)
    assert_reports(reply, there)
    (again,) = lifted.answer([request])
    assert (again.tokens == reply.tokens).all()
    with pytest.raises(InvalidInput, match="from the root"):
        lifted.answer([Request((), (0,), 1, 1, Report.SAMPLE, there)])


def assert_reports(reply: Reply, sampling: Sampling) -> None:
    """Laws and log-probabilities along the outputs are those of the wanted law."""
    assert reply.laws is not None
    assert reply.logprobs is not None
    for i in range(10):
        y = reply.continuation(i)
        known = sampling_laws(TREE.log_laws((), [y[:t] for t in range(2)]), sampling)
        assert np.exp(reply.laws[i]) == pytest.approx(np.exp(known), abs=1e-12)
        assert reply.logprobs[i] == pytest.approx(known[np.arange(2), list(y)])


@pytest.mark.parametrize(
    ("held", "wanted"),
    [("T=2", "T=1"), ("T=3", "T=1.5,top_k=2"), ("T=1", "T=1,top_p=0.3"), ("T=1,top_k=3", "T=0")],
)
def test_the_bound_holds_for_all_laws(held: str, wanted: str) -> None:
    """Per token, at 2,000 random laws; it is attained to within a factor of 2."""
    laws = np.log(np.random.default_rng(0).dirichlet(np.full(4, 0.7), 2000))
    laws[0] = math.log(0.25)
    one, other = (sampling_laws(laws, Sampling.parse(x)) for x in (held, wanted))
    kept = other > -np.inf
    most = float((other[kept] - one[kept]).max())
    bound = log_bound(Sampling.parse(held), Sampling.parse(wanted), 4, 1)
    assert bound - math.log(2) <= most <= bound + 1e-9


def test_a_cooler_law_needs_a_bound() -> None:
    held = Narrowed(TREE, "root/full@T=0.5")
    with pytest.raises(InvalidInput, match="need a log_bound"):
        Lifted(held, "root/sample").answer([Request((), (), 1, 2)])
    law, cool = outputs_law(Sampling()), outputs_law(Sampling(0.5))
    bound = max(math.log(law[y] / cool[y]) for y in law)
    (reply,) = Lifted(held, "root/sample", log_bound=bound + 1e-9).answer([Request((), (), 3, 2)])
    assert reply.tokens.shape == (3, 2)


@pytest.mark.parametrize("report", ["full", "topk(2)", "topk(1)", "logprob", "sample"])
def test_lists_along_modes_out_of_truncated_rollouts(report: str) -> None:
    """Greedy rollouts with true lists; exact where values are reported, else 0.5 nats at two sigma."""
    flat = Tabular(
        [np.array([0.2, 0.5, 0.3]), np.array([[0.3, 0.4, 0.3], [0.3, 0.2, 0.5], [0.1, 0.2, 0.7]])]
    )
    held = LogitServer(flat, f"root/{report}@T=0.5,top_k=2", Bias(3, 2.0))
    lifted = Lifted(held, "root/argmax(3)@T=1", epsilon=0.5, gap=1.5, seed=2)
    assert "lifting" in [step.row for step in lifted.price.paid]
    (reply,) = lifted.answer([Request((), (), 1, 2, Report.ARGMAX(3))])
    (known,) = flat.answer([Request((), (), 1, 2, Report.ARGMAX(3))])
    assert reply.top_logprobs is not None
    assert known.top_logprobs is not None
    assert (reply.tokens == known.tokens).all()
    error = np.abs(np.sort(reply.top_logprobs) - np.sort(known.top_logprobs)).max()
    assert error <= (0.5 if report == "sample" else 1e-9)
    assert lifted.price.exactness == (Exactness.WITHIN if report == "sample" else Exactness.EXACT)


def test_what_does_not_fit_is_refused() -> None:
    server = LogitServer(TREE, "chosen/topk(2)", Bias(2, 30.0))
    with pytest.raises(InvalidInput, match="by must be one of"):
        Lifted(server, "chosen/full", by="magic")
    with pytest.raises(InvalidInput, match="comes with an image"):
        Lifted(server, "chosen/full", by="image")
    with pytest.raises(InvalidInput, match="lists longer"):
        Lifted(server, "chosen/full", by="bans")
    with pytest.raises(InvalidInput, match="makes no law by a bias"):
        Lifted(Narrowed(TREE, "chosen/logprob"), "chosen/full", by="masks")
    truncated = LogitServer(TREE, "root/sample@T=1,top_k=2", Bias(2, 3.0))
    lifted = Lifted(truncated, "root/argmax(2)@T=1", gap=9.0)
    with pytest.raises(InvalidInput, match="R <= B"):
        lifted.log_laws((), [()])
