"""What goes wrong on the way, and on the other side: handled, or one clear error each; never silent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")

from engines import Server, serve
from engines.language import save_tokenizer
from reroot import BackendError, InvalidInput, Report
from reroot.generators import Remote
from reroot.generators.base import Request
from reroot.generators.remote.limits import Pace
from reroot.types import Reply

pytestmark = pytest.mark.slow(1.5)  # a server, and the check at the start

PROMPT = (70, 80, 304)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve("vllm") as server:
        yield server


@pytest.fixture
def remote(server: Server, folder: Path) -> Iterator[Remote]:
    remote = Remote(server.url, tokenizer=folder, patience=20, read_timeout=20)
    yield remote
    remote.close()


def requests(remote: Remote, count: int = 12, length: int = 3, **settings: object) -> list[Request]:
    return [
        Request(PROMPT, (5 + i,), length=length, key=(i, 0), stop=remote.stops(()), **settings)  # type: ignore[arg-type]
        for i in range(count)
    ]


def outputs(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.continuation(0) for reply in replies]


@pytest.mark.parametrize("fault", ["busy", "fails", "cuts"])
def test_what_returned_nothing_is_asked_again(
    fault: str, server: Server, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(remote)
    known = outputs(remote.answer(asked))
    server.misbehave(fault)
    with caplog.at_level(logging.WARNING, "reroot.remote"):
        assert outputs(remote.answer(asked)) == known
    assert "asked again in" in caplog.text


def test_a_proxys_page_is_no_answer(server: Server, remote: Remote) -> None:
    server.misbehave(html=3)
    assert len(remote.answer(requests(remote))) == 12
    server.misbehave(html=1)
    with pytest.raises(BackendError, match="half an answer, or no JSON: <html>"):
        _impatient(remote).answer(requests(remote, 1))


def _impatient(remote: Remote) -> Remote:
    """With two tries and almost no time."""
    how = remote._wire._patience
    object.__setattr__(how, "tries", 2)
    return remote


@pytest.mark.parametrize(
    ("fault", "report", "message"),
    [
        ("garbles", "sample", "is no vllm reply"),
        ("nan", "logprob", "log-probability of nan"),
        ("other_ids", "sample", "speaks of other tokens than it was asked"),
        ("longer", "sample", "a continuation of 4 tokens came back, 1 to 3 were asked for"),
        ("text_keys", "logprob", "names tokens by text"),
        ("ignored_logprobs", "logprob", "ignores that they were asked for"),
        ("ignored_n", "sample", "2 continuations were asked for, 1 came back"),
        ("bos_on_ids", "sample", "the server read 5 prompt tokens where 4 were sent"),
    ],
)
def test_what_cannot_be_true_is_an_error_that_says_what(
    fault: str, report: str, message: str, server: Server, remote: Remote
) -> None:
    server.misbehave(fault, **({"garbles": 1} if fault == "garbles" else {}))
    with pytest.raises(BackendError, match=message):
        remote.answer(requests(remote, 8, n=2, report=Report.parse(report)))


def test_an_engine_that_ends_outputs_by_itself_is_found_out(server: Server, remote: Remote) -> None:
    server.misbehave(defaults={}, language={}, finish="length")
    rule = remote.stops(())
    asked = Request(PROMPT, n=64, length=40, stop=rule)
    with pytest.raises(BackendError, match="is said to have ended for its length"):
        remote.answer([asked])


def test_laws_that_do_not_sum_to_one_are_said_once(
    server: Server, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    server.misbehave("mass_below_one")
    with caplog.at_level(logging.WARNING, "reroot.remote"):
        remote.log_laws(PROMPT, [(5,), (6,), (7,)])
    assert caplog.text.count("a law sums to 0.97") == 1


@pytest.mark.slow(2)
def test_ten_megabytes_are_read(server: Server, remote: Remote) -> None:
    server.misbehave("large_replies")
    assert len(remote.answer(requests(remote, 1))) == 1


def test_a_server_that_shows_other_settings_is_not_believed() -> None:
    with serve("llamacpp") as server:
        remote = Remote(server.url)
        server.misbehave("default_temperature")
        with pytest.raises(BackendError, match=r"was told temperature=1.0 and runs with 0.8"):
            remote.answer(requests(remote, 1))
        remote.close()


def test_it_dies_in_the_middle_and_what_was_answered_is_not_asked_again(
    server: Server, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(remote, 40)
    known = outputs(remote.answer(asked))
    server.misbehave(delay=0.02)
    remote._pace.most, remote._pace.window = 4, 4.0
    before = server.counts.requests
    futures = remote.submit(asked)
    wait(futures[:1], timeout=20)
    server.die()
    back = threading.Timer(0.4, server.revive)
    with caplog.at_level(logging.WARNING, "reroot.remote"):
        back.start()
        replies = [future.result(timeout=30) for future in futures]
    back.join()
    assert outputs(replies) == known
    assert "is down" in caplog.text
    assert 40 <= server.counts.requests - before <= 40 + 2 * 4


def test_one_that_stays_dead_is_given_up(server: Server, folder: Path) -> None:
    remote = Remote(server.url, tokenizer=folder, patience=0.3)
    server.die()
    with pytest.raises(
        BackendError, match=r"has been down for 0.3 s .*what was answered before is kept"
    ):
        remote.answer(requests(remote, 3))
    server.revive()
    assert len(remote.answer(requests(remote, 3))) == 3
    remote.close()


def test_late_answers_are_not_drawn_again(server: Server, folder: Path) -> None:
    remote = Remote(server.url, tokenizer=folder, read_timeout=0.3)
    server.misbehave(delay=30)
    before = server.counts.requests
    with pytest.raises(BackendError, match="short answers would be preferred to long ones"):
        remote.answer(requests(remote, 1))
    assert server.counts.requests == before + 1
    remote.close()


def test_cancelled_requests_end_on_the_server(server: Server, remote: Remote) -> None:
    quick, *slow = requests(remote, 4)
    server.misbehave(delay=20)
    futures = remote.submit([quick, *slow])
    while server.engine.running < 4:
        threading.Event().wait(0.01)
    assert all(future.cancel() for future in futures)
    while server.counts.cancelled < 4:
        threading.Event().wait(0.01)
    with pytest.raises(CancelledError):
        futures[0].result()
    server.misbehave(delay=0)
    assert len(remote.answer(requests(remote, 2))) == 2


def test_refusals_are_the_callers_errors(server: Server, remote: Remote) -> None:
    with pytest.raises(InvalidInput, match="pass the server's 2048 positions"):
        remote.answer([Request(PROMPT, length=2100, stop=remote.stops(()))])
    server.misbehave(positions=10)
    future = remote.submit([Request(PROMPT, length=20, stop=remote.stops(()))])[0]
    with pytest.raises(InvalidInput, match="maximum context length is 10 tokens"):
        future.result(timeout=20)


def test_errors_are_each_requests_own(server: Server, remote: Remote) -> None:
    good, bad = requests(remote, 1)[0], Request((70, 999), stop=remote.stops(()))
    first, second = remote.submit([bad, good])
    with pytest.raises(InvalidInput, match="token 999 is outside the vocabulary"):
        first.result(timeout=20)
    assert second.result(timeout=20).n == 1


def test_a_busy_server_is_asked_less_at_once(server: Server, folder: Path) -> None:
    remote = Remote(server.url, tokenizer=folder, window=16)
    server.misbehave(most_at_once=3, delay=0.02, retry_after=0.05)
    assert len(remote.answer(requests(remote, 60))) == 60
    assert remote._pace.places < 16
    assert server.counts.errors < server.counts.requests / 2
    remote.close()


def test_limits_per_minute_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(8, 3, 100)
    assert pace._wait(10) <= 0
    pace._spent.extend([(now - 59.5, 1, 40), (now, 1, 40)])
    assert pace._wait(10) <= 0
    assert pace._wait(30) == pytest.approx(0.5)
    pace._spent.append((now, 1, 0))
    assert pace._wait(0) == pytest.approx(0.5)
    now += 1
    assert pace._wait(0) <= 0
    pace.limit(2, None)
    assert pace._wait(0) == pytest.approx(59)
    pace.refused(90)
    assert pace._wait(0) == pytest.approx(90)
    assert pace.places == 4


def test_dollars_are_never_overspent(server: Server, folder: Path) -> None:
    """What is charged is what the server counts; a call that may pass the limit is not made."""
    prices = {"price_in": 1000.0, "price_out": 3000.0}
    remote = Remote(server.url, tokenizer=folder, **prices)
    used, before = server.counts.prompt_tokens, server.counts.generated
    assert remote.usd == pytest.approx(used / 1000 + before * 3 / 1000)
    check = remote.usd
    remote.close()
    remote = Remote(server.url, tokenizer=folder, **prices, most_usd=check + 0.5)
    with pytest.raises(BackendError, match=r"are left of \$.*: nothing more is asked"):
        remote.answer(requests(remote, 40, length=5))
    assert check < remote.usd <= check + 0.5
    remote.close()
    with pytest.raises(InvalidInput, match="price_in must be a finite number >= 0"):
        Remote(server.url, tokenizer=folder, price_in=-1.0)


def test_idle_connections_are_given_up_before_servers_close_them() -> None:
    """vLLM and SGLang run on uvicorn; a request on a connection that it is closing comes to nothing."""
    import uvicorn

    from reroot.generators.remote.wire import IDLE

    assert uvicorn.Config(app=lambda: None).timeout_keep_alive / 2 >= IDLE
