"""What a client can send that no learner's side would let out: sessions, names, turns, keys and the
fields of OpenAI's requests. Each is refused with its status, and the account stays as it was.

The messages of the in-process attacks go over the wire in ``tests/access/test_attacks_over_wire.py``.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from attacks import FORGED, QUERY
from reroot import Budget, Contract
from reroot.generators.stops import Stop
from reroot.serving.keys import Key, KeyFile, hash_of, revoke_key
from serving_toys import Server, serving
from toys import END, H, Wrapped, layered, problem, problems

EVERYTHING = "chosen/full+reward+verifier+demonstration+value+hidden"
ROLLOUT = {"messages": [{"ask": [QUERY]}]}


class Client:
    """Requests of one key, as they are."""

    def __init__(self, server: Server, key: str) -> None:
        self.server, self.key = server, key
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx2.Client(base_url=server.url, headers=headers, trust_env=False)

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return self.http.post(path, json=body, headers=headers)

    def session(self, **terms: Any) -> str:
        said = self.post("/v1/sessions", {"problem": "p0", **terms})
        assert said.status_code == 201, said.text
        return f"/v1/sessions/{said.json()['session']}"

    def account(self) -> Any:
        told = self.http.get("/v1/account").json()
        return told["spent"], told["reserved"]

    def refused(
        self, path: str, body: Any, status: int, code: str | None = None, **headers: str
    ) -> str:
        """What is said to a request that is refused, and changes no account."""
        before = self.account()
        said = self.post(path, body, **headers)
        assert said.status_code == status, said.text
        assert code in (None, said.json()["error"]["code"])
        assert self.account() == before
        return said.json()["error"]["message"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(layered(), problems(2), tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    """contract → a client with a key of its own."""
    made: list[Client] = []

    def of(grants: str, budget: Budget | None = None, **more: Any) -> Client:
        name = f"k{len(server.keys.read_text())}"
        made.append(Client(server, server.key(name, grants, budget, **more)))
        return made[-1]

    yield of
    for one in made:
        one.http.close()


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.slow(2)
def test_forged_messages_are_refused_and_the_session_goes_on(client: Any) -> None:
    """One forged message refuses its whole turn, and nothing of it was asked."""
    one = client(EVERYTHING)
    turn = f"{one.session()}/turns/0"
    for message in FORGED:
        one.refused(turn, {"messages": [message]}, 400, "invalid_request")
        one.refused(turn, {"messages": [{"ask": [QUERY]}, message]}, 400, "invalid_request")
    said = one.post(turn, ROLLOUT)
    assert said.status_code == 200
    assert said.json()["answers"][0]["spent"]["rollouts"] == 1


ASKED = [  # contract, message, error, as the weakest contract says
    ("root/full", {"ask": [{**QUERY, "prefix": [1]}]}, "chosen/sample"),
    ("root/full", {"ask": [{**QUERY, "length": 1}]}, "visited/sample or episode/sample"),
    ("visited/full", {"ask": [{**QUERY, "prefix": [1], "length": 1}]}, "chosen/sample"),
    ("reset/full", {"ask": [{**QUERY, "prefix": [1, 2], "length": 1}]}, "chosen/sample"),
    ("reset/sample", {"ask": [{**QUERY, "report": "logprob"}]}, "root/logprob"),
    ("chosen/topk(2)", {"ask": [{**QUERY, "report": "topk(3)"}]}, "root/topk(3)"),
    ("chosen/topk(2)", {"ask": [{**QUERY, "report": "full"}]}, "root/full"),
    ("chosen/sample", {"ask": [{**QUERY, "forced": [1], "report": "logprob"}]}, "reset/logprob"),
    *(("chosen/full", {name: []}, f"root/none+{name}") for name in ("reward", "verifier", "value")),
    ("chosen/full", {"demonstration": 0}, "root/none+demonstration"),
    ("chosen/full", {"hidden": [], "layers": 1}, "root/none+hidden"),
]  # fmt: skip


@pytest.mark.parametrize(("grants", "message", "weakest"), ASKED, ids=str)
def test_what_a_contract_does_not_grant(
    grants: str, message: Any, weakest: str, client: Any
) -> None:
    one = client(grants)
    before = one.account()
    (said,) = one.post(f"{one.session()}/turns/0", {"messages": [message]}).json()["answers"]
    assert said["error"]["type"] == "AccessDenied"
    assert said["error"]["weakest"] == weakest
    assert said["line"]["value"] is None
    assert one.account() == before


def test_what_one_session_built_another_has_not(client: Any) -> None:
    one = client("reset/sample")
    first, second = one.session(), one.session()
    step = {"messages": [{"ask": [{**QUERY, "length": 1}]}]}
    child = {"messages": [{"ask": [{**QUERY, "prefix": [1], "length": 1}]}]}
    for number, body in enumerate((step, child)):
        assert one.post(f"{first}/turns/{number}", body).json()["answers"][0]["error"] is None
    (said,) = one.post(f"{second}/turns/0", child).json()["answers"]
    assert said["error"]["type"] == "AccessDenied"


# ---- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "contract",
    [
        *("chosen/sample", "reset/logprob", "reset/argmax(1)", "reset/sample+reward", "episode/topk(1)"),
        *("reset/sample@T=0.5", "reset/sample@T=1,top_k=1", "root/full", "ＲＥＳＥＴ/full", EVERYTHING),
    ],
)  # fmt: skip
def test_no_session_has_more_than_its_key(contract: str, client: Any) -> None:
    status = 400 if contract.startswith("Ｒ") else 403
    client("reset/sample").refused("/v1/sessions", {"problem": "p0", "contract": contract}, status)


def test_a_session_has_no_more_budget_than_its_key(client: Any) -> None:
    """Whatever it says of its own; and many sessions together have no more either."""
    one = client("root/sample", Budget(rollouts=3))
    paths = [one.session(budget=b) for b in ({"rollouts": 10**9}, {}, {"tokens": 2**200})]
    for path in paths:
        assert one.post(f"{path}/turns/0", ROLLOUT).json()["answers"][0]["error"] is None
    for path in paths:
        (said,) = one.post(f"{path}/turns/1", ROLLOUT).json()["answers"]
        assert said["error"] == {"type": "BudgetExceeded", "currency": "rollouts", "requested": 1, "remaining": 0, "of": "key"}  # fmt: skip
    assert one.account()[0]["rollouts"] == 3


def test_turns_are_taken_once_and_in_order(client: Any) -> None:
    one = client("root/sample")
    path = one.session()
    one.refused(f"{path}/turns/1", ROLLOUT, 409, "conflict")
    first = one.post(f"{path}/turns/0", ROLLOUT).json()
    two = {"messages": [{"ask": [{**QUERY, "n": 2}]}]}
    one.refused(f"{path}/turns/0", two, 409, "conflict")
    one.refused(f"{path}/turns/0", {"messages": []}, 409, "conflict")
    one.refused(f"{path}/turns/2", ROLLOUT, 409, "conflict")
    assert one.post(f"{path}/turns/0", ROLLOUT).json() == first
    assert one.account()[0]["rollouts"] == 1


def test_a_closed_session_is_closed(client: Any) -> None:
    one = client("root/sample+reward")
    path = one.session()
    first = one.post(f"{path}/turns/0", ROLLOUT).json()
    closed = one.post(f"{path}/close", {"output": [1] * H})
    assert closed.json()["attempt"]["reward"] == 1.0
    one.refused(f"{path}/turns/1", ROLLOUT, 409, "conflict")
    one.refused(f"{path}/turns/1", {"messages": [{"reward": [[1] * H]}]}, 409, "conflict")
    one.refused(f"{path}/close", {"output": [0] * H}, 409, "conflict")  # a second reward
    assert one.post(f"{path}/close", {"output": [1] * H}).json() == closed.json()
    assert one.post(f"{path}/turns/0", ROLLOUT).json() == first


@pytest.mark.parametrize(
    "ended",
    [
        {"output": [9]},
        {"output": [2**80]},
        {"output": [1] * (H + 1)},
        {"output": [END, 1]},
        {"output": [1, 2]},
        {"error": {"kind": "E", "message": "m", "who": "generator", "file": "/etc/passwd", "line": 1}},
    ],
)  # fmt: skip
def test_what_a_client_says_at_the_end_is_not_believed(ended: Any, client: Any) -> None:
    one = client("root/sample")
    attempt = one.post(f"{one.session()}/close", ended).json()["attempt"]
    assert attempt["passed"] is False
    assert attempt["error"] is None or attempt["error"]["who"] == "learner"


def test_results_are_for_keys_that_have_them(client: Any) -> None:
    told = [
        one.post(f"{one.session()}/close", {"output": output}).json()["attempt"]
        for one in [client("root/sample", results=False)]
        for output in ([1] * H, [0] * H)
    ]
    hidden = ("reward", "surprisal", "accepted", "passed")
    assert [[a[name] for name in hidden] for a in told] == [[None, None, None, False]] * 2


def test_sessions_of_others_are_not_there(client: Any) -> None:
    """Not their turns, account or end; and the same idempotency key is another session."""
    mine, thief = client("root/sample"), client(EVERYTHING)
    body, once = {"problem": "p0"}, {"Idempotency-Key": "a name of mine"}
    path = f"/v1/sessions/{mine.post('/v1/sessions', body, **once).json()['session']}"
    mine.post(f"{path}/turns/0", ROLLOUT)
    before, missing = mine.account(), f"/v1/sessions/{'0' * 32}"
    for end, sent in (("/turns/0", ROLLOUT), ("/turns/1", ROLLOUT), ("/close", {})):
        told = thief.refused(path + end, sent, 404, "not_found")
        assert told == thief.refused(missing + end, sent, 404).replace("0" * 32, path[-32:])
    assert thief.http.get(path).status_code == 404
    other = thief.post("/v1/sessions", body, **once).json()["session"]
    assert not path.endswith(other)
    assert mine.account() == before


def test_one_name_stands_for_one_request(client: Any) -> None:
    """With another body under it: refused, for sessions and completions alike."""
    one, once = client(EVERYTHING), {"Idempotency-Key": "once and no more"}
    assert one.post("/v1/sessions", {"problem": "p0"}, **once).status_code == 201
    for body in (
        {"problem": "p1"},
        {"problem": "p0", "seed": 1},
        {"problem": "p0", "budget": {"tokens": 5}},
    ):
        one.refused("/v1/sessions", body, 409, "conflict", **once)
    first = one.post("/v1/completions", {"prompt": [], "n": 2}, **once)
    assert first.status_code == 200
    for change in (
        {"n": 3},
        {"n": 1},
        {"seed": 5},
        {"max_tokens": 1},
        {"logprobs": 1},
        {"prompt": [1]},
    ):
        one.refused("/v1/completions", {"prompt": [], "n": 2, **change}, 409, "conflict", **once)
    again = one.post("/v1/completions", {"prompt": [], "n": 2}, **once).json()
    assert again["choices"] == first.json()["choices"]
    assert one.account()[0]["rollouts"] == 2


class Stopping(Wrapped):
    """A tree whose outputs end at any token that is named as a stop text."""

    def stops(self, texts: Sequence[str]) -> Stop:
        return Stop(frozenset({END, *map(int, texts)}))


def test_one_name_stands_for_one_place_to_stop(tmp_path: Path) -> None:
    """Of a prompt that is the client's own: it is not answered with draws that ended elsewhere."""
    served = problem("p", prompt=(1,), max_tokens=4, demonstration=None)
    with serving(Stopping(), [served], tmp_path) as server:
        one, once = (
            Client(server, server.key("a", "chosen/sample")),
            {"Idempotency-Key": "1234 5678"},
        )
        asked = {"prompt": [2], "max_tokens": 3, "stop": ["0"], "seed": 1}
        first = one.post("/v1/completions", asked, **once)
        assert first.status_code == 200, first.text
        assert (
            one.post("/v1/completions", asked, **once).json()["choices"] == first.json()["choices"]
        )
        one.refused("/v1/completions", {**asked, "stop": ["1"]}, 409, "conflict", **once)
        one.http.close()


def test_a_completion_is_no_way_into_a_session(client: Any) -> None:
    """The session behind it is the key's own: under the same contract, and charged."""
    one = client("root/sample", Budget(rollouts=2))
    once, key = "once and no more", one.server
    one.post("/v1/completions", {"prompt": []}, **{"Idempotency-Key": once})
    import hashlib

    (name,) = [k.name for k in KeyFile(key.keys).all() if k.sha256 == hash_of(one.key)]
    mark = hashlib.sha256(f"{name}\x1fcompletion\x1f{once}".encode()).hexdigest()[:32]
    path = f"/v1/sessions/{mark}"
    deeper = {"messages": [{"ask": [{**QUERY, "prefix": [1]}]}]}
    (said,) = one.post(f"{path}/turns/1", deeper).json()["answers"]
    assert said["error"]["type"] == "AccessDenied"
    assert one.post(f"{path}/turns/2", ROLLOUT).json()["answers"][0]["error"] is None
    (said,) = one.post(f"{path}/turns/3", ROLLOUT).json()["answers"]
    assert said["error"]["type"] == "BudgetExceeded"


def test_seeds_of_a_secret_are_no_seeds_of_a_run(client: Any) -> None:
    """A client that computes the uniforms of its seed knows nothing of draws that a secret keys."""
    plain, secret = client("root/sample"), client("root/sample", secret_seed=True)
    many = {"messages": [{"ask": [{**QUERY, "n": 20}]}]}
    drawn = [
        one.post(f"{one.session(seed=5)}/turns/0", many).json()["answers"][0]["line"]["value"][0][
            "tokens"
        ]
        for one in (plain, plain, secret, secret)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[2] == drawn[3] != drawn[0]


# ---- keys ------------------------------------------------------------------------------------------


def test_a_wrong_key_takes_as_many_comparisons_as_a_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Structure alone: all hashes are compared, in constant time, whatever is given."""
    file, keys = KeyFile.__new__(KeyFile), [f"key{i}" for i in range(5)]
    known = tuple(Key(k, hash_of(k), Contract.parse("root/sample")) for k in keys)
    monkeypatch.setattr(KeyFile, "all", lambda self: known)
    compared: list[tuple[str, str]] = []

    def counting(a: str, b: str) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for given in ("key0", "key4", "key", "", "\u212aey0", "key0 ", "key0\x00"):
        compared.clear()
        assert (file.find(given) is None) == (given not in keys)
        assert len(compared) == 5
        assert all(len(a) == len(b) == 64 for a, b in compared)


def test_a_revoked_key_is_refused_at_once_in_the_middle_of_a_session(client: Any) -> None:
    one = client("root/sample")
    path = one.session()
    (name,) = [k.name for k in KeyFile(one.server.keys).all() if k.sha256 == hash_of(one.key)]
    revoke_key(one.server.keys, name)
    said = one.post(f"{path}/turns/0", ROLLOUT)
    assert said.status_code == 401
    assert said.headers["www-authenticate"] == "Bearer"
    assert one.key not in said.text


# ---- OpenAI's fields -------------------------------------------------------------------------------

FIELDS = [  # contract, what is asked besides an empty prompt, status
    *(("chosen/full", {name: value}, 400) for name, value in (
        ("best_of", 2), ("suffix", "x"), ("echo", True), ("logit_bias", {"1": 100}), ("tools", [{}]),
        ("functions", [{}]), ("response_format", {"type": "json_object"}), ("presence_penalty", 1),
        ("frequency_penalty", -2), ("stop", "\n"), ("stop", ["a"]), ("n", 0), ("n", 5000), ("n", 1.5), ("n", True),
        ("max_tokens", 0), ("max_tokens", -1), ("seed", 2**63), ("logprobs", -1),
        ("logprobs", True), ("hidden", [[]]), ("min_p", 0.1), ("prompt_logprobs", 1), ("guided_regex", "a"),
        ("prompt", [9]), ("prompt", [True]), ("prompt", [1.0]), ("prompt", [[], []]), ("prompt", [1, END, 1]),
        ("prompt", [1] * (H + 1)),
    )),
    *(("chosen/full", asked, 403) for asked in (
        {"temperature": 0}, {"temperature": 0.5}, {"temperature": float(2)}, {"top_p": 0.5},
    )),
    *(("root/full", asked, 403) for asked in ({"prompt": [1]}, {"max_tokens": 1}, {"max_tokens": H - 1})),
    *(("visited/full", asked, 403) for asked in ({"prompt": [1]}, {"prompt": [1, 2]})),
    *(("reset/sample", asked, 403) for asked in ({"logprobs": 0}, {"logprobs": 1}, {"prompt": [1, 2]})),
    ("chosen/topk(2)", {"logprobs": 3}, 403),
    ("chosen/logprob", {"logprobs": 1}, 403),
    ("root/sample", {"stream": True, "prompt": [1]}, 403),
    ("root/sample", {"model": "other"}, 404),
]  # fmt: skip


@pytest.mark.slow(3)
@pytest.mark.parametrize(("grants", "asked", "status"), FIELDS, ids=str)
def test_fields_of_openai_give_no_more_than_the_contract(
    grants: str, asked: Any, status: int, client: Any
) -> None:
    one = client(grants)
    told = one.refused("/v1/completions", {"prompt": [], **asked}, status)
    assert told


def test_a_chat_passes_no_prefix_either(client: Any) -> None:
    one = client("root/sample")
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "1"}]}
    one.refused("/v1/chat/completions", chat, 403, "permission_denied")
    one.refused("/v1/chat/completions", {**chat, "top_logprobs": 2}, 400)
    odd = {"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}
    one.refused("/v1/chat/completions", {"messages": [odd]}, 400)


def test_the_budget_bounds_completions(client: Any) -> None:
    one = client("root/sample", Budget(tokens=2 * H))
    one.refused("/v1/completions", {"prompt": [], "n": 3}, 429, "insufficient_quota")
    assert one.post("/v1/completions", {"prompt": [], "n": 2}).status_code == 200
