"""The service against its own description: generated requests, good and bad, break nothing and are
answered as it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import checks  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402
from schemathesis.specs.openapi import checks as openapi_checks  # noqa: E402

from reroot import Budget  # noqa: E402
from reroot.serving import description, responses  # noqa: E402
from reroot.serving.app import application  # noqa: E402
from reroot.serving.desk import Desk  # noqa: E402
from reroot.serving.keys import KeyFile, add_key  # noqa: E402
from reroot.serving.ledger import Ledger  # noqa: E402
from reroot.serving.sessions import Sessions  # noqa: E402
from serving_toys import catalogue, serving  # noqa: E402
from toys import layered, problems  # noqa: E402

CONTRACTS = (
    "root/sample",
    "visited/topk(2)+reward",
    "reset/logprob+verifier+value",
    "chosen/full+reward+verifier+demonstration+value+hidden",
)
CASES = int(os.environ.get("REROOT_SCHEMA_CASES", "12"))
"""Requests of each kind for each operation."""

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.unsupported_method,
    openapi_checks.ignored_auth,
]
PATIENT = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Sent:
    """What is sent: the case, with a session that is there, a problem that is served and a key put in."""

    def __init__(self, schema: Any, keys: dict[str | None, str]) -> None:
        self.schema, self.keys, self.count = schema, keys, 0
        self.statuses: dict[int, int] = {}

    def session(self, key: str) -> str:
        case = self.schema["/v1/sessions"]["POST"].Case(
            body={"problem": "p0"}, media_type="application/json"
        )
        opened = case.call(headers={"Authorization": f"Bearer {key}"})
        assert opened.status_code == 201, opened.content
        return opened.json()["session"]

    def send(self, case: Any, data: Any) -> None:
        grants = data.draw(st.sampled_from([*self.keys, "none"]))
        headers = {} if grants == "none" else {"Authorization": f"Bearer {self.keys[grants]}"}
        real = data.draw(st.booleans())
        if real and grants != "none" and "session" in (case.path_parameters or {}):
            case.path_parameters["session"] = self.session(self.keys[grants])
            if "number" in case.path_parameters:
                case.path_parameters["number"] = 0
        if real and isinstance(case.body, dict) and "problem" in case.body:
            case.body["problem"] = "p0"
        if real and isinstance(case.body, dict) and "prompt" in case.body:
            case.body = {
                "prompt": [],
                **{k: v for k, v in case.body.items() if k in ("n", "stream")},
            }
        response = case.call(headers=headers)
        self.statuses[response.status_code] = self.statuses.get(response.status_code, 0) + 1
        self.count += 1
        skipped = [openapi_checks.negative_data_rejection] if real else []
        case.validate_response(response, checks=CHECKS, excluded_checks=skipped, headers=headers)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("served")
    file, generator = folder / "keys.toml", layered()
    keys = {
        grants: add_key(file, f"k{i}", grants, Budget(tokens=10**6), results=bool(i % 2))
        for i, grants in enumerate(CONTRACTS)
    }
    desk = Desk(Sessions(catalogue(generator, problems(2)), Ledger(folder / "db")))
    app = application(desk, KeyFile(file))

    async def always(scope: Any, receive: Any, send: Any) -> None:
        """The service; each request would begin and end it otherwise."""
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})

    sent = Sent(schemathesis.openapi.from_asgi("/openapi.json", always), keys)
    yield sent
    print(sent.count, "requests:", sent.statuses)
    desk.drain()


OPERATIONS = [
    (path, about.method.upper(), mode)
    for path, about in description.PATHS.items()
    for mode in GenerationMode
    if about.keyed or mode is GenerationMode.POSITIVE  # nothing about the others can be wrong
]


@pytest.mark.slow(1)
@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS, ids=str)
def test_generated_requests(path: str, method: str, mode: Any, sent: Sent) -> None:
    operation = sent.schema[path][method]

    @seed(7)
    @PATIENT
    @given(data=st.data())
    def conforms(data: st.DataObject) -> None:
        sent.send(data.draw(operation.as_strategy(generation_mode=mode)), data)

    conforms()


def test_what_openai_clients_get_is_json_of_any_language(tmp_path: Path) -> None:
    """log 0 is written as OpenAI writes it; JSON has no word for infinities. And so in a stream."""
    with serving(layered(), problems(1), tmp_path) as server:
        key = server.key("a", "chosen/topk(2)@T=1,top_k=1")
        whole, streamed = (
            httpx2.post(
                f"{server.url}/v1/completions",
                json={"prompt": [], "logprobs": 2, "stream": stream},
                headers={"Authorization": f"Bearer {key}"},
                trust_env=False,
            ).text
            for stream in (False, True)
        )
    (choice,) = json.loads(whole, parse_constant=pytest.fail)["choices"]
    *events, done = [line.removeprefix("data: ") for line in streamed.split("\n\n")[:-1]]
    assert done == "[DONE]"
    first, last = [responses.TextChunk.model_validate_json(event).choices[0] for event in events]
    assert first.logprobs is not None
    for tops in (choice["logprobs"]["top_logprobs"], first.logprobs.top_logprobs):
        assert all(sorted(top.values()) == [-9999.0, 0.0] for top in tops or [{}])
    assert last.finish_reason == choice["finish_reason"]
