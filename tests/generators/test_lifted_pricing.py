"""The price of every interface in every other one: a path of reductions that exist, or a pair that looks alike."""

from __future__ import annotations

import importlib
import itertools
import math

import numpy as np
import pytest

from reroot import Contract, Control, InvalidInput, Report, Sampling
from reroot.generators import (
    Bias,
    Interface,
    InterfacePrice,
    Never,
    Sizes,
    interface_price,
    interface_prices,
)
from reroot.generators.law import log_normalize, sampling_laws
from reroot.generators.lifted import Exactness, formulas, lattice, open_pairs, settled
from reroot.generators.lifted.pairs import told_apart
from reroot.generators.lifted.steps import REDUCTIONS
from reroot.generators.lifted.unmet import unmet_path
from reroot.types import FloatArray

SMALL = Sizes(8, 3, 0.7)
PLACES = ("by_lists", "by_root", "together", "by_draws", "tempering", "prefixes")


def test_every_row_names_a_function_or_a_control() -> None:
    modules = [importlib.import_module(f"reroot.generators.lifted.{name}") for name in PLACES]
    for row, function in REDUCTIONS.items():
        if function.isidentifier():
            assert any(callable(getattr(module, function, None)) for module in modules), row


@pytest.mark.slow(12)
@pytest.mark.parametrize(
    "laws",
    [
        ("T=1", "T=0.7", "T=0.5,top_k=2", "T=1,top_k=3", "T=1,top_p=0.5"),
        ("T=1", "T=2", "T=0", "T=1,top_k=2", "T=1,top_p=0.9"),
    ],
)
def test_every_pair_of_interfaces_has_an_answer(laws: tuple[str, ...]) -> None:
    """93,636 pairs: a path, or two laws that look alike, by enumeration; never is closed under composition."""
    nodes = list(lattice(2, [Bias(3, 30.0), Bias(3, 30.0, raw=True)], laws))
    rank = np.zeros((len(nodes), len(nodes)), dtype=np.int64)
    alike: dict[tuple[object, ...], float] = {}
    for i, has in enumerate(nodes):
        for j, found in enumerate(settled(has, nodes, SMALL)):
            assert found is not None
            rank[i, j] = 4 if isinstance(found, Never) else int(found.exactness)
            if isinstance(found, InterfacePrice):
                assert found.value >= 1
                assert {step.row for step in found.paid} <= set(REDUCTIONS)
                continue
            assert found.pair.tv > 1e-6
            if found.pair.where == "∅":
                one = has.contract
                key = (found.pair, one.report, one.sampling)
                own = Contract(Control.CHOSEN, one.report, one.sampling)
                alike[key] = told_apart(found.pair.first, found.pair.second, own, 2)
    assert max(alike.values()) <= 1e-12
    for middle in range(len(nodes)):
        assert (rank <= np.maximum(rank[:, middle, None], rank[middle])).all()


def test_what_is_open_is_counted() -> None:
    """Between two truncated laws of a kind nobody has looked at yet, seen by a constant bias."""
    held = Interface(Contract.parse("root/sample@T=1,top_p=0.3"), Bias(3, 30.0))
    wanted = Interface(Contract.parse("root/sample@T=1,top_p=0.45"))
    assert open_pairs([held, wanted], SMALL) == [(held, wanted)]
    with pytest.raises(InvalidInput, match="no pair forbids"):
        interface_price(held, wanted, SMALL)


def test_stronger_contracts_are_free_and_the_order_is_kept() -> None:
    """What serves more is never dearer, and what is wanted less is never dearer."""
    nodes = list(lattice(2))
    table = {(a, c.wants): c for a in nodes for c in interface_prices(a, nodes, SMALL)}
    rank = {
        key: (4, 0.0) if isinstance(c, Never) else (int(c.exactness), c.value)
        for key, c in table.items()
    }
    for a, b in itertools.product(nodes, repeat=2):
        if b.contract <= a.contract:
            assert rank[a, b] == (0, 1.0)
            for c in nodes:
                assert rank[a, c][0] <= rank[b, c][0]
                assert rank[c, b][0] <= rank[c, a][0]


@pytest.mark.parametrize(
    ("has", "wants", "exactness", "rows"),
    [
        ("chosen/full", "root/sample", Exactness.FREE, []),
        ("chosen/full@T=2", "chosen/full", Exactness.FREE, ["retempered law"]),
        ("chosen/topk(2)", "chosen/sample@T=1,top_k=2", Exactness.FREE, ["retempered law"]),
        ("reset/sample", "chosen/sample", Exactness.EXACT, ["walking"]),
        ("visited/logprob", "visited/topk(2)", Exactness.EXACT, ["collecting"]),
        ("reset/logprob", "reset/full", Exactness.EXACT, ["scores"]),
        ("chosen/sample@T=2", "chosen/sample", Exactness.IN_LAW, ["retempered draws"]),
        ("root/full@T=2", "root/sample", Exactness.IN_LAW, ["rejected outputs"]),
        ("root/sample", "visited/sample", Exactness.IN_LAW, ["waiting"]),
        ("root/sample", "root/full", Exactness.WITHIN, ["counts"]),
        ("root/sample", "episode/sample", Exactness.IN_LAW, ["waiting"]),
        ("episode/sample", "visited/sample", Exactness.IN_LAW, ["passing"]),
        ("episode/full", "chosen/full@T=2", Exactness.IN_LAW, ["passing", "retempered law"]),
        ("visited/sample", "episode/sample", Exactness.EXACT, ["redrawing"]),
        ("root/argmax(1)@T=0", "episode/argmax(1)@T=0", Exactness.FREE, []),
        ("chosen/sample", "chosen/argmax(1)", Exactness.WITHIN, ["counts"]),
    ],
)
def test_some_prices(has: str, wants: str, exactness: Exactness, rows: list[str]) -> None:
    found = interface_price(has, wants, SMALL)
    assert isinstance(found, InterfacePrice)
    assert found.exactness == exactness
    assert [step.row for step in found.paid] == rows


def test_a_pass_is_paid_for_by_each_answer() -> None:
    found = interface_price("episode/logprob", "chosen/full", SMALL)
    assert isinstance(found, InterfacePrice)
    answer = 1 + math.exp(0.7) + math.exp(1.4)  # u_1 and u_3 are drawn
    assert found.value == pytest.approx(answer * formulas.collecting_draws(8))
    forced = Interface(Contract.parse("episode/topk(2)"), Bias(3, 30.0))
    found = interface_price(forced, "chosen/topk(2)", SMALL)
    assert isinstance(found, InterfacePrice)
    assert found.value == 4


@pytest.mark.parametrize(
    ("has", "wants", "where"),
    [
        ("root/sample@T=0", "episode/sample@T=0", "(0, 1)"),
        ("visited/sample@T=0", "episode/sample@T=0", "(0, 1)"),
        ("episode/sample@T=0", "reset/sample@T=0", "(1)"),
        ("episode/sample@T=1,top_k=2", "chosen/sample@T=1,top_k=2", "(1)"),
        ("episode/argmax(1)", "reset/argmax(1)", "(1)"),
    ],
)
def test_what_passes_meet_and_others_do_not(has: str, wants: str, where: str) -> None:
    """Of a greedy generator whose mode is 0 throughout: 1 is never first, but put in behind what is drawn."""
    found = interface_price(has, wants, SMALL)
    assert isinstance(found, Never)
    assert found.pair.where == where
    assert found.pair.tv > 0.5


def test_prefixes_are_built_once() -> None:
    found = interface_price("visited/topk(2)", "chosen/full", SMALL)
    assert isinstance(found, InterfacePrice)
    build, answers = 3 * math.exp(0.7), formulas.collecting_draws(8)
    assert found.value == pytest.approx(build + answers)
    assert found.questions(2) == pytest.approx(build + 2 * answers)


def test_bias_prices_at_the_sizes_of_a_user() -> None:
    held = Contract.parse("chosen/topk(20)")
    for bias, value in ((Bias(300, 20.0), 2587), (Bias(300, 20.0, raw=True), 49_132)):
        found = interface_price(Interface(held, bias), "chosen/full")
        assert isinstance(found, InterfacePrice)
        scored = interface_price(held, "chosen/full")
        assert isinstance(scored, InterfacePrice)
        assert scored.value == 49_151  # teacher forcing at a chosen prefix
        assert found.value == value
    ids = interface_price(
        Interface(Contract.parse("chosen/sample@T=0"), Bias(300, 64.0)),
        "chosen/full",
        Sizes(epsilon=0.01),
    )
    assert isinstance(ids, InterfacePrice)
    assert ids.value == 589_813


def test_constant_bias_is_cheaper_than_waiting_where_few_of_many_tokens_are_used() -> None:
    held = Interface(Contract.parse("root/full"), Bias(300, 20.0))
    found = interface_price(held, "chosen/full", Sizes(surprise=math.log(2)))
    assert isinstance(found, InterfacePrice)
    assert [step.row for step in found.paid] == ["constant bias"]
    assert found.value == pytest.approx(3.76, abs=0.005)
    assert formulas.constant_bias_rollouts(49_152, 256, 0.5, 5) == pytest.approx(20.6, abs=0.05)


@pytest.mark.parametrize("wrong", ["chosen/full+reward", "chosen/none"])
def test_what_has_no_price_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="prices are of reports"):
        interface_price("chosen/full", wrong)


def test_combinations_without_a_meaning_are_refused() -> None:
    raw = Interface(Contract(Control.CHOSEN, Report.FULL, Sampling(2.0)), Bias(raw=True))
    with pytest.raises(InvalidInput, match="temperature 1"):
        interface_price(raw, "chosen/full")
    with pytest.raises(InvalidInput, match="constant bias"):
        interface_price(Interface(Contract.parse("root/argmax(1)"), Bias()), "chosen/full")


@pytest.mark.parametrize(
    ("serves", "u"),
    [
        ("root/sample@T=0", (0, 1)),
        ("root/sample@T=1,top_k=2", (0, 1, 2)),
        ("root/sample@T=1,top_p=0.9", (0, 1)),
    ],
)
def test_no_constant_bias_meets_the_prefix_of_the_pair(serves: str, u: tuple[int, ...]) -> None:
    """At place t the token u_t is far behind: over a grid of biases it is never kept at all places."""
    K = len(u)
    laws = np.array([[-30.0 if a == u[t] else 0.0 for a in range(K)] for t in range(K)])
    assert_unmet(serves, laws, u)
    held = Interface(Contract.parse(serves), Bias(3, 60.0))
    assert isinstance(interface_price(held, "root/sample"), Never)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("T=0.5,top_k=2", "T=1,top_k=3"),
        ("T=1,top_k=2", "T=1,top_p=0.5"),
        ("T=0", "T=1,top_p=0.5"),
        ("T=1,top_p=0.5", "T=0.5,top_k=2"),
        ("T=1,top_p=0.5", "T=1,top_p=0.9"),
        ("T=0.7,top_p=0.6", "T=1,top_p=0.6"),
    ],
)
def test_no_constant_bias_meets_what_other_truncations_keep(held: str, wanted: str) -> None:
    """Rollouts at ``wanted`` meet the path, and those at ``held`` under no bias of a grid."""
    here, there = Sampling.parse(held), Sampling.parse(wanted)
    path = unmet_path(here, there)
    assert path is not None
    places, u = np.arange(len(path.prefix)), list(path.prefix)
    assert np.exp(sampling_laws(path.laws, there)[places, u]).min() > 0.05
    assert_unmet(f"root/sample@{held}", path.laws, path.prefix)
    found = interface_price(
        Interface(Contract(Control.ROOT, Report.SAMPLE, here), Bias(3, 60.0)),
        Contract(Control.ROOT, Report.SAMPLE, there),
    )
    assert isinstance(found, Never)
    assert found.pair.tv > 0.5


def assert_unmet(serves: str, laws: FloatArray, u: tuple[int, ...]) -> None:
    """No bias of a grid, coarse and wide or fine and narrow, keeps every token of u at its place."""
    sampling = Contract.parse(serves).sampling
    assert sampling is not None
    K = laws.shape[1]
    rng = np.random.default_rng(0)
    for scale in (60.0, 3.0, 0.02):
        for beta in rng.uniform(-scale, scale, (150, K)):
            kept = sampling_laws(log_normalize(laws + beta), sampling)
            assert kept[np.arange(len(u)), list(u)].min() == -np.inf


@pytest.mark.parametrize("held", ["T=0", "T=1,top_p=0.5", "T=0.5,top_p=0.9", "T=1,top_k=1"])
def test_lists_along_modes_are_hidden_where_one_token_is_kept(held: str) -> None:
    """At u = (0), behind two tokens alike: every bias that keeps 0 before u shows 0 alone at u, in both laws."""
    sampling = Sampling.parse(held)
    wanted = Contract.parse("root/argmax(1)@T=1")
    one = Interface(Contract(Control.ROOT, Report.FULL, sampling), Bias(2, 60.0))
    found = interface_price(one, wanted)
    assert isinstance(found, Never)
    assert found.pair.where == "(0)"
    met = 0
    for beta in np.random.default_rng(0).uniform(-20, 20, (300, 2)):
        laws = [np.log(x) for x in ((0.5, 0.5), found.pair.first, found.pair.second)]
        before, first, second = sampling_laws(log_normalize(np.array(laws) + beta), sampling)
        if before[0] > -np.inf:
            met += 1
            assert first.tolist() == second.tolist() == [0.0, -np.inf]
    assert met > 50
