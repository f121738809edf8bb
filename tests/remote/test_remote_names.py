"""Names of servers, keys, and what is told of a server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("uvicorn")

from engines import serve
from engines.language import save_tokenizer
from reroot import BackendError, InvalidInput
from reroot.cli import main
from reroot.generators import Remote
from reroot.generators.base import Request
from reroot.generators.remote.dialects import DIALECTS
from reroot.generators.remote.endpoint import Endpoint, is_endpoint
from reroot.generators.remote.found import About

pytestmark = pytest.mark.slow(1.5)  # a server, and the check at the start

KEY = "sk-very-secret-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(
    ("text", "url", "model", "dialect"),
    [
        ("http://localhost:8000", "http://localhost:8000", None, None),
        ("http://localhost:8000/", "http://localhost:8000", None, None),
        ("http://localhost:8000/v1", "http://localhost:8000", None, None),
        ("http://h:1/org/model", "http://h:1", "org/model", None),
        ("vllm:http://h:1/m", "http://h:1", "m", "vllm"),
        ("llamacpp:https://h", "https://h", None, "llamacpp"),
        ("openai:gpt-x", "https://api.openai.com", "gpt-x", "chat"),
    ],
)
def test_names(text: str, url: str, model: str | None, dialect: str | None) -> None:
    found = Endpoint.parse(text, {})
    assert (found.url, found.model, found.dialect) == (url, model, dialect)
    assert is_endpoint(text)


def test_openais_address_may_be_another() -> None:
    found = Endpoint.parse("openai:m", {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"})
    assert (found.url, found.key_variable) == ("http://127.0.0.1:9", "OPENAI_API_KEY")
    assert Endpoint.parse("http://h:1").key_variable == "REROOT_API_KEY"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"http://user:{KEY}@h:1", "has credentials in it"),
        (f"vllm:http://{KEY}@h:1/m", "has credentials in it"),
        (f"http://h:1/m?key={KEY}", "has a query"),
        ("http://", "no address"),
        ("http://h:99999", "no address"),
        ("openai:", "needs the name of a model"),
        ("vlm:http://h:1", "Did you mean 'vllm'"),
    ],
)
def test_names_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        Remote(text)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["smollm2", "org/model", "ngram:f.txt", "FILE.py:make", "/a/b"])
def test_other_models_are_no_servers(name: str) -> None:
    assert not is_endpoint(name)


def test_nothing_there_is_said() -> None:
    with serve("vllm") as server:
        pass
    with pytest.raises(BackendError, match="cannot be reached: ConnectError"):
        Remote(server.url, connect_timeout=2)


def test_what_is_no_inference_server_is_said(folder: Path) -> None:
    with serve("vllm") as server:
        with pytest.raises(InvalidInput, match="has no model 'other'; it has toy"):
            Remote(f"{server.url}/other", tokenizer=folder)
        with pytest.raises(InvalidInput, match=r"name a folder with its tokenizer\.json"):
            Remote(server.url)
        with pytest.raises(InvalidInput, match=r"there is no tokenizer\.json"):
            Remote(server.url, tokenizer=folder / "no")


def test_keys_are_sent_and_shown_nowhere(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In a whole run that ends with an error which quotes the key, as providers do."""
    monkeypatch.setenv("REROOT_API_KEY", KEY)
    for name in ("reroot", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    with serve("vllm") as server:
        model = f"{server.url}:tokenizer={folder},patience=1,tries=2"
        command = (
            f"compare --task copy --horizons 2 --problems 1 --seeds 1 --budget-tokens 20 "
            f"--grants root/sample --transcripts --learner first_success --out {tmp_path / 'run'}"
        )
        main([*command.split(), "--model", model])
        assert {h["authorization"] for h in server.engine.headers} == {f"Bearer {KEY}"}
        remote = Remote(server.url, tokenizer=folder, tries=1)
        server.misbehave(quotes=True)
        with pytest.raises(BackendError, match="Incorrect API key provided: …") as caught:
            remote.answer([Request((70, 80), stop=remote.stops(()))])
        assert KEY not in str(caught.value)
        assert KEY not in str(remote.describe()) + repr(remote)
        remote.close()
    written = [f for f in (tmp_path / "run").rglob("*") if f.is_file()]
    assert any("transcripts" in str(f) for f in written)
    for file in written:
        assert KEY.encode() not in file.read_bytes(), file
    shown = capfd.readouterr()
    assert KEY not in shown.out + shown.err + caplog.text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("org/model-1.5", "org/model-1.5"),
        ("/home/somebody/models/one", "one"),
        ("../models/one.Q4_1.gguf", "one.Q4_1.gguf"),
        (r"C:\Users\somebody\one.gguf", "one.gguf"),
        ("C:/models/one", "one"),
    ],
)
def test_identity_has_no_folders_of_the_servers_machine(said: str, shown: str) -> None:
    assert About(DIALECTS["vllm"], said).shown == shown


def test_identity_has_no_address(folder: Path) -> None:
    seen = []
    for _ in range(2):
        with serve("vllm") as server:
            remote = Remote(server.url, tokenizer=folder)
            seen.append(dict(remote.describe()))
            remote.close()
            assert "127.0.0.1" not in str(seen)
    assert seen[0] == seen[1]
