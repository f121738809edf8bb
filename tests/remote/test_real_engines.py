"""``Remote`` on real engines: llama-server and vLLM, each with SmolLM2; see ``engines.real`` and ``make engines``.

What vLLM states in fp32 is compared with our own engine on the same folder, what llama-server states with the same
file in process where libllama is installed, and else with its own laws one step at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("httpx2")

import httpx2

from engines import suite
from engines.real import KINDS, Running, altered, running, smollm2_file, smollm2_folder
from engines.suite import BASE, Pair
from engines.tree import tree
from reroot import BackendError, InvalidInput, Report, Sampling
from reroot.contract import Contract, Control
from reroot.generators import Remote
from reroot.generators.base import Request
from reroot.types import FloatArray

pytestmark = [pytest.mark.engine, pytest.mark.slow(60), pytest.mark.xdist_group("engines")]

TEXT = "My favourite thing in the whole wide world is"
ODD = " an old"
HALF_CHARACTERS = "Party! 🎉🎊 💡🎁 Here are more emojis: 🎈"
SOME = [BASE, Sampling(temperature=0.6), Sampling(temperature=1.5, top_p=0.7, top_k=30)]


@pytest.fixture(scope="module", params=sorted(KINDS))
def engine(request: pytest.FixtureRequest) -> Iterator[Running]:
    if why := KINDS[request.param].missing:
        pytest.skip(why)
    with running(request.param) as engine:
        yield engine


@pytest.fixture(scope="module")
def pair(engine: Running) -> Iterator[Pair]:
    remote = Remote(engine.url, patience=600.0)
    prompt = remote.encode(TEXT)
    letters = [remote.encode_continuation(c) for c in ODD]
    prefix = tuple(token for letter in letters for token in letter)
    forced = (*remote.encode_continuation(" the"), 17, 40_000)
    yield Pair(remote, _known(engine, remote), 1e-3, prompt, prefix, forced)
    remote.close()


def _known(engine: Running, remote: Remote) -> suite.Law:
    """The base law at all tokens so far, by another engine where there is one."""
    if engine.kind.name == "vllm":
        from reroot.generators.transformers import Transformers

        own = Transformers(smollm2_folder())
    else:
        own = _in_process() or remote

    @lru_cache(256)
    def law(tokens: tuple[int, ...]) -> FloatArray:
        return own.log_laws(tokens[:1], [tokens[1:]])[0]

    return law


def _in_process():
    from reroot.errors import MissingDependency
    from reroot.generators import GGUF

    file = smollm2_file()
    assert file is not None
    try:
        return GGUF(file)
    except MissingDependency:
        return None


def test_the_check_at_the_start_grants_all_of_it(pair: Pair) -> None:
    granted = pair.remote.granted
    assert not [claim for claim in granted.claims if not claim.holds]
    assert (granted.control, granted.report, granted.forced) == (Control.CHOSEN, Report.FULL, True)
    assert granted.refusal(Contract.parse("chosen/full@T=0.7,top_p=0.9")) is None
    assert pair.remote.end_token == 2


def test_laws_of_the_same_weights(pair: Pair) -> None:
    """Also after letters one by one, and after tokens that follow on nothing."""
    suite.states_laws(pair)


def test_laws_of_the_file_in_process(engine: Running, pair: Pair) -> None:
    if engine.kind.name == "llamacpp" and _in_process() is None:
        pytest.skip("llama-cpp-python is not installed: laws are compared with the server's own")
    known = pair.law(pair.prompt)
    assert abs(np.exp(known).sum() - 1) < 1e-3


@pytest.mark.parametrize("sampling", SOME, ids=str)
@pytest.mark.parametrize("report", ["logprob", "topk(3)", "full", "argmax(2)"])
def test_reports_are_of_the_law_drawn_from(pair: Pair, report: str, sampling: Sampling) -> None:
    suite.states_reports(pair, Report.parse(report), sampling, 2)


@pytest.mark.parametrize("sampling", SOME, ids=str)
def test_draws_follow_the_law(pair: Pair, sampling: Sampling) -> None:
    suite.draws_from_its_law(pair, sampling, 300)


@pytest.mark.parametrize("sampling", SOME[:2], ids=str)
@pytest.mark.parametrize("report", ["logprob", "topk(2)"])
def test_given_tokens_are_scored(pair: Pair, report: str, sampling: Sampling) -> None:
    """Tokens that nobody would draw too: by scores of the prompt, or forced by a bias."""
    suite.scores_given_tokens(pair, Report.parse(report), sampling)


def test_draws_are_a_function_of_key_and_number(pair: Pair) -> None:
    suite.draws_by_key_and_number(pair)


def test_rules_end_outputs_wherever_they_say(pair: Pair) -> None:
    suite.ends_where_rules_say(pair, ["e", " t"], n=8, length=8)


@pytest.mark.parametrize("text", [TEXT, HALF_CHARACTERS])
def test_every_token_of_a_rollout_has_its_log_probability(pair: Pair, text: str) -> None:
    """Those that end inside a character, and those of a stop text."""
    other = suite.replace(pair, prompt=pair.remote.encode(text))
    suite.states_what_it_draws(other, [" the", "!"], Report.LOGPROB, 3, 8)


def test_cached_tokens_are_counted(pair: Pair) -> None:
    prompt = pair.remote.encode("Once upon a time there were three little bears. " * 8)
    request = Request(prompt, stop=pair.remote.stops(()))
    pair.remote.answer([request])
    before = pair.remote.physical()
    pair.remote.answer([request])
    after = pair.remote.physical()
    assert after.cached - before.cached > len(prompt) / 2 > after.computed - before.computed


def test_a_tree_is_asked_depth_first(pair: Pair) -> None:
    prefixes = tree(48)
    before = pair.remote.physical()
    rule = pair.remote.stops(())
    pair.remote.answer([Request(pair.prompt, u, stop=rule) for u in prefixes])
    after = pair.remote.physical()
    sent = sum(len(pair.prompt) + len(u) for u in prefixes)
    assert after.forwards - before.forwards == len(prefixes)
    if pair.remote.describe()["dialect"] == "llamacpp":  # vLLM keeps whole blocks of 32 alone
        assert after.cached - before.cached > sent / 2


def test_cancelled_requests_end_on_the_server(engine: Running, pair: Pair) -> None:
    rule = pair.remote.stops(())
    futures = pair.remote.submit(
        [Request(pair.prompt, length=1500, stop=rule, key=(i, i)) for i in range(3)]
    )
    while _busy(engine) < 3:
        threading.Event().wait(2.5)
    assert all(future.cancel() for future in futures)
    while _busy(
        engine
    ):  # llama-server looks after clients when no answer has been ready for a second
        threading.Event().wait(2.5)


def _busy(engine: Running) -> int:
    """Requests that it works on."""
    if engine.kind.name == "llamacpp":
        slots = httpx2.get(f"{engine.url}/slots", timeout=60).json()
        return sum(slot["is_processing"] for slot in slots)
    text = httpx2.get(f"{engine.url}/metrics", timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    return int(sum(float(line.split()[-1]) for line in lines))


def test_refusals_are_the_callers_errors(pair: Pair) -> None:
    with pytest.raises(InvalidInput, match="pass the server's 2048 positions"):
        pair.remote.answer([Request(pair.prompt, length=2100, stop=pair.remote.stops(()))])


@pytest.mark.timeout(1200)
def test_it_dies_in_the_middle_and_goes_on(
    engine: Running, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """What is drawn after it came back is what would have been drawn: seeds are honoured."""
    rule = pair.remote.stops(())
    asked = [
        Request(pair.prompt, (), 1, 60 if i else 2, Report.LOGPROB, stop=rule, key=(i, 7))
        for i in range(12)
    ]
    known = [reply.continuation(0) for reply in pair.remote.answer(asked)]
    futures = pair.remote.submit(asked)
    wait(futures[:1], timeout=100)  # some engines work on all of them together
    engine.kill()
    back = threading.Timer(0.5, engine.start)
    with caplog.at_level(logging.WARNING, "reroot.remote"):
        back.start()
        seen = [future.result(timeout=900).continuation(0) for future in futures]
    back.join()
    assert "is down" in caplog.text
    assert seen == known


def test_one_that_stays_dead_is_given_up(engine: Running, pair: Pair) -> None:
    """After which it is gone."""
    remote = Remote(engine.url, patience=0.3)
    engine.kill()
    with pytest.raises(BackendError, match=r"has been down for 0.3 s .*answered before is kept"):
        remote.answer([Request(pair.prompt, stop=remote.stops(()))])
    remote.close()


def test_the_sampling_of_a_models_folder_is_not_drawn_from(engine: Running, tmp_path: Path) -> None:
    """What vLLM takes from the folder for fields that a request does not name: all are named."""
    if engine.kind.name != "vllm":
        pytest.skip("llama-server has defaults of its own, under which all other tests run")
    engine.kill()  # one at a time
    settings = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    folder = altered(smollm2_folder(), tmp_path / "altered", **settings)
    with running("vllm", model=folder) as other:
        remote = Remote(other.url)
        assert not [claim for claim in remote.granted.claims if not claim.holds]
        prompt = remote.encode(TEXT)
        ask = Pair(remote, lambda tokens: remote.log_laws(tokens, [()])[0], 1e-3, prompt, ())
        suite.draws_from_its_law(ask, BASE, 300)
        remote.close()
