"""What one request may cost: more than its key's is refused by name, before anything is set aside, and a
round takes no more of a key than that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from reroot import Budget, Contract, InvalidInput
from reroot.access.session import Ask, AskHiddenStates, Consult, Decode, Demonstrate
from reroot.contract import Oracle, Report
from reroot.serving.desk import Desk
from reroot.serving.keys import Key, KeyFile
from reroot.serving.sizes import MOST_QUESTIONS, MOST_SHOWN, MOST_VALUES, Size, TooLarge, size_of
from reroot.serving.tasks import TakeTurn
from reroot.types import Prefix, Query
from serving_toys import Server, serving, unwritten
from toys import H, problems, tree

SAMPLE, TOP, FULL, LOGPROB = (
    Report.parse(text) for text in ("sample", "topk(2)", "full", "logprob")
)
PROMPT, V = 5, 4


def query(prefix: tuple[int, ...] = (), n: int = 1, length: int | None = None, report: Report = SAMPLE,
          forced: tuple[int, ...] | None = None) -> Query:  # fmt: skip
    return Query(Prefix(prefix), n, length, report, forced)


P1, P2 = Prefix((1,)), Prefix((1, 2))


@pytest.mark.parametrize(
    ("message", "size"),
    [  # horizon 10: (tokens, values, questions)
        (Ask((query(n=3),)), (5 + 30, 30, 2)),
        (Ask((query((1, 2), n=3, length=4),)), (7 + 12, 12, 2)),
        (Ask((query((1, 2), n=3, length=99),)), (7 + 24, 24, 2)),
        (Ask((query(n=2, length=3, report=TOP),)), (5 + 6, 6 * 3, 2)),
        (Ask((query((1,), length=1, report=FULL),) * 2), (2 * (6 + 1), 2 * V, 3)),
        (Ask((query((1,), report=LOGPROB, forced=(1, 2)),)), (6 + 2, 2, 2)),
        (Ask((query(n=-5, length=-3), query((1,) * 99))), (5 + 5 + 99, 0, 3)),
        (AskHiddenStates((P1, P2), 3), (6 + 7 + 2, 2 * 3 * V, 1)),
        (AskHiddenStates((P1, P2), None), (6 + 7, 2 * 1024, 1)),
        (Consult(Oracle.REWARD, (P1,) * 16), (16 * 6, 0, 3)),
        (Decode(P2), (2, 0, 1)),
        (Demonstrate(None), (0, 0, 1)),
    ],
)  # fmt: skip
def test_how_large_a_turn_may_become(message: Any, size: tuple[int, int, int]) -> None:
    assert size_of([message], PROMPT, 10, V) == Size(*size)
    twice = size_of([message, message], PROMPT, 10, V)
    assert twice == Size(*(2 * part for part in size))


def key(**more: Any) -> Key:
    return Key("k", "0" * 64, Contract.parse("chosen/full"), **more)


def test_a_request_may_be_as_large_as_its_key_says_and_no_larger() -> None:
    one = key(request_tokens=50)
    Size(50, MOST_VALUES, MOST_QUESTIONS).check(one)
    for size, said in (
        (Size(51, 0, 0), "51 tokens, .* at most 50 "),
        (Size(0, MOST_VALUES + 1, 0), "numbers"),
        (Size(0, 0, MOST_QUESTIONS + 1), "messages and queries"),
        (Size(10**5000, 0, 0), "more than 10.15 tokens"),
    ):
        with pytest.raises(TooLarge, match=said):
            size.check(one)
        assert size.share(one) == 1.0
    assert Size(25, 0, 0).share(one) == 0.5
    assert Size(0, MOST_VALUES // 4, MOST_QUESTIONS // 8).share(one) == 0.25


class Silent(Desk):
    """Nobody works, so that rounds can be looked at."""

    def _work(self) -> None:
        pass


def test_a_round_takes_no_more_of_a_key_than_its_largest_request() -> None:
    """Here three turns of two draws; another key's turn, and one that asks for nothing, wait for none of it."""
    desk, other = Silent(unwritten()), Key("other", "1" * 64, Contract.parse("chosen/full"))
    each = size_of([Ask((query(n=2),))], *desk.catalogue.largest, desk.catalogue.generator.vocab_size).tokens  # fmt: skip
    assert each == 2 * H
    many = key(request_tokens=3 * each + 1)
    for i in range(7):
        desk.submit(TakeTurn(many, session=f"s{i}", number=0, messages=[Ask((query(n=2),))]))
    desk.submit(TakeTurn(other, session="o", number=0, messages=[Ask((query(n=2),))]))

    def taken() -> list[str]:
        return [task.session for task in desk._next() or [] if isinstance(task, TakeTurn)]

    assert [taken() for _ in range(3)] == [["s0", "o", "s1", "s2"], ["s3", "s4", "s5"], ["s6"]]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "'many'"])
def test_the_limit_of_a_key_is_a_number_of_tokens(value: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    told = f"[keys.a]\nsha256 = '{'0' * 64}'\ngrants = 'root/sample'\n"
    file.write_text(told)
    assert KeyFile(file).named("a").request_tokens == 1_000_000
    file.write_text(f"{told}request_tokens = {value}\n")
    with pytest.raises(InvalidInput, match="request_tokens"):
        KeyFile(file)


# ---- over the wire ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tree(), problems(1), tmp_path_factory.mktemp("served")) as started:
        yield started


@pytest.fixture(scope="module")
def plain(server: Server) -> str:
    return server.key("plain", "root/sample")


def ask(server: Server, key: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}", **headers}
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    return httpx2.request(method, server.url + path, content=sent, headers=headers, trust_env=False)


def error(said: httpx2.Response) -> tuple[int, str]:
    return said.status_code, said.json()["error"]["code"]


def test_what_is_too_large_is_refused_by_name_and_sets_nothing_aside(server: Server) -> None:
    """Of a turn nothing is done, whatever else is in it; the session, and the key's account, stay as they were."""
    key = server.key("small", "chosen/full", Budget(tokens=10**9), request_tokens=100)
    account = ask(server, key, "/v1/account").json()
    assert account["request_tokens"] == 100
    session = ask(server, key, "/v1/sessions", {"problem": "p0"}).json()["session"]
    path = f"/v1/sessions/{session}/turns/0"
    asked = {"prefix": [], "n": 10**7, "length": None, "report": "sample", "forced": None}
    for messages in (
        [{"ask": [asked]}],
        [{"ask": [{**asked, "n": 1}]}, {"ask": [asked]}],
        [{"ask": [{**asked, "n": 1}] * 99}],
        [{"ask": [{**asked, "n": 1}]}] * 99,
        [{"text": [1] * 101}],
        [{"reward": [[1]] * 101}],
        [{"ask": [{**asked, "n": 10**4000}]}],
    ):
        said = ask(server, key, path, {"messages": messages})
        assert error(said) == (413, "too_large"), said.text
        assert said.json()["error"]["reroot"]["type"] == "InvalidInput"
        assert "at most 100 (request_tokens)" in said.json()["error"]["message"]
    assert ask(server, key, "/v1/account").json() == account
    assert ask(server, key, path, {"messages": [{"ask": [{**asked, "n": 9}]}]}).status_code == 200
    assert error(ask(server, key, "/v1/decode", {"sequences": [[1] * 60] * 2})) == (
        413,
        "too_large",
    )


def test_what_earlier_turns_have_left_open_counts(server: Server) -> None:
    """A turn with something that is answered at once leaves its questions for the next one."""
    key = server.key("piles", "chosen/full", request_tokens=10 * H)
    session = ask(server, key, "/v1/sessions", {"problem": "p0"}).json()["session"]
    asked = {"prefix": [], "n": 4, "length": None, "report": "sample", "forced": None}
    turn = {"messages": [{"ask": [asked]}, {"text": []}]}

    def take(number: int, body: Any) -> httpx2.Response:
        return ask(server, key, f"/v1/sessions/{session}/turns/{number}", body)

    assert [take(number, turn).json()["open"] for number in (0, 1)] == [1, 2]
    assert error(take(2, turn)) == (413, "too_large")
    said = take(2, {"messages": []}).json()
    assert (len(said["answers"]), said["open"]) == (2, 0)


def test_completions_are_bounded_too_and_what_is_written_down_is_told_again(server: Server) -> None:
    key = server.key("brief", "chosen/full", request_tokens=100)
    once = {"Idempotency-Key": "the same request"}
    for body in ({"prompt": [], "n": 4096}, {"prompt": [1] * 101}):
        found = error(ask(server, key, "/v1/completions", body))
        assert found in ((413, "too_large"), (400, "invalid_request"))
    body = {"prompt": [], "n": 9}
    first = ask(server, key, "/v1/completions", body, **once)
    file = server.keys.read_text()
    server.keys.write_text(file.replace("request_tokens = 100", "request_tokens = 5"))
    again = ask(server, key, "/v1/completions", body, **once)
    assert again.json()["choices"] == first.json()["choices"]
    assert error(ask(server, key, "/v1/completions", body)) == (413, "too_large")
    server.keys.write_text(file)


def test_of_log_probabilities_one_answer_shows_as_many_as_fit(server: Server) -> None:
    key = server.key("wide", "chosen/full")
    said = ask(
        server, key, "/v1/completions", {"prompt": [], "n": 4096, "logprobs": 1 + MOST_SHOWN}
    )
    assert error(said) == (413, "too_large")


def test_the_client_is_told_and_splits_nothing(server: Server) -> None:
    import reroot

    wall = server.connect("learns", "root/sample+reward", request_tokens=50)
    with pytest.raises(InvalidInput, match=r"320 tokens, .* at most 50 \(request_tokens\)"):
        reroot.run("best_of_n:n=64", wall.problems(), wall, grants="root/sample+reward")
    assert wall.account()["spent"]["tokens"] == 0
    wall.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"prompt": [], "n": 1, "n": 2}', "'n' stands twice"),
        (b'{"prompt": [], "metadata": {"a": 1, "b": {"c": 1, "c": 1}}}', "'c' stands twice"),
        (b'{"prompt": [], "metadata": {"a": 1, "\\u0061": 1}}', "'a' stands twice"),
        (b'{"prompt": [], "metadata": ' + b"9" * 5000 + b"}", "out of range"),
        (b'{"prompt": [], "metadata": ' + b"[" * 5000 + b"]" * 5000 + b"}", "recursion"),
        (b'{"prompt": [], "metadata": "\\ud800"}', "Invalid JSON"),
        (b'{"prompt": [], "stop": ' + json.dumps(["a"] * 17).encode() + b"}", "stop"),
        (b'{"prompt": [], "stop": "' + b"a" * 513 + b'"}', "stop"),
        (b'{"prompt": [], "temperature": NaN}', "temperature"),
        (b'{"prompt": [], "best_of": 3}', "best_of"),
        (b'{"prompt": [], "n": 1e400}', "n"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_odd_bodies_are_refused_by_name(body: bytes, said: str, server: Server, plain: str) -> None:
    found = ask(server, plain, "/v1/completions", body)
    assert found.status_code in (400, 403), found.text
    assert said in found.json()["error"]["message"]
