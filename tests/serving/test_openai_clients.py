"""OpenAI's own client against the service: what it is granted it gets, and what it is refused it raises
as the exceptions that its users catch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")

from reroot import Budget, Chat  # noqa: E402
from serving_toys import Server, serving  # noqa: E402
from toys import H, Wrapped, problem, problems, tree  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tree(), problems(1), tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """contract → OpenAI's client with a key of its own."""
    made: list[Any] = []

    def of(grants: str, budget: Budget | None = None, **more: Any) -> Any:
        key = server.key(f"k{len(server.keys.read_text())}", grants, budget, **more)
        made.append(openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0))
        return made[-1]

    yield of
    for one in made:
        one.close()


@pytest.mark.slow(3)  # its import
def test_models_and_completions(client: Any) -> None:
    one = client("chosen/topk(2)")
    assert [model.id for model in one.models.list()] == ["toy"]
    assert one.models.retrieve("toy").owned_by == "reroot"
    said = one.completions.create(model="toy", prompt=[1], max_tokens=3, n=2, logprobs=2, seed=4)
    assert len(said.choices) == 2
    for choice in said.choices:
        assert choice.finish_reason in ("stop", "length")
        assert all(len(top) == 2 for top in choice.logprobs.top_logprobs)
        shown = choice.text.split()  # without the prefix, and without an end
        assert choice.logprobs.tokens[: len(shown)] == shown
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens
    again = one.completions.create(model="toy", prompt=[1], max_tokens=3, n=2, logprobs=2, seed=4)
    assert again.choices == said.choices


def test_a_root_key_takes_whole_rollouts_whatever_the_limit(client: Any) -> None:
    """Clients name a limit always; one that cuts nothing off is none."""
    one = client("root/sample")
    for most in (H, 16, 4096):
        assert one.completions.create(model="toy", prompt=[], max_tokens=most).choices
    with pytest.raises(openai.PermissionDeniedError):
        one.completions.create(model="toy", prompt=[], max_tokens=H - 1)


def test_streams(client: Any) -> None:
    one = client("root/sample")
    whole = one.completions.create(model="toy", prompt=[], seed=3)
    options = {"include_usage": True}
    parts = list(
        one.completions.create(model="toy", prompt=[], seed=3, stream=True, stream_options=options)
    )
    assert "".join(c.text for part in parts for c in part.choices) == whole.choices[0].text
    assert [c.finish_reason for part in parts for c in part.choices][-1] == whole.choices[
        0
    ].finish_reason
    assert parts[-1].usage == whole.usage


def test_refusals_are_its_own_exceptions(client: Any, server: Server) -> None:
    one = client("root/sample", Budget(rollouts=2))

    def raises(kind: type[Exception], code: str, asker: Any = one, **asked: Any) -> None:
        with pytest.raises(kind) as caught:
            asker.completions.create(**{"model": "toy", "prompt": [], **asked})
        assert caught.value.code == code  # type: ignore[attr-defined]

    raises(openai.PermissionDeniedError, "permission_denied", prompt=[1])
    raises(openai.PermissionDeniedError, "permission_denied", logprobs=1)
    raises(openai.PermissionDeniedError, "permission_denied", temperature=0.5)
    raises(openai.PermissionDeniedError, "permission_denied", stream=True, prompt=[1])
    raises(openai.BadRequestError, "invalid_request", logit_bias={"1": 5})
    raises(openai.BadRequestError, "invalid_request", prompt=[9])
    raises(openai.NotFoundError, "not_found", model="other")
    raises(openai.RateLimitError, "insufficient_quota", n=3)
    wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="rr-wrong", max_retries=0)
    raises(openai.AuthenticationError, "invalid_api_key", wrong)
    with pytest.raises(openai.NotFoundError):
        one.models.retrieve("other")
    with pytest.raises(openai.NotFoundError):
        one.embeddings.create(model="toy", input="a")
    raises(openai.ConflictError, "conflict", extra_headers=named("a"), n=conflicting(one))
    slow = client("root/sample", per_minute=1)
    slow.completions.create(model="toy", prompt=[])
    raises(openai.RateLimitError, "rate_limit_exceeded", slow)


def named(name: str) -> dict[str, str]:
    return {"Idempotency-Key": f"{name * 8}"}


def conflicting(one: Any) -> int:
    """Ask once for one; asking for two under the same name is something else."""
    one.completions.create(model="toy", prompt=[], extra_headers=named("a"))
    return 2


@pytest.mark.parametrize(
    ("grants", "asked", "said"),
    [
        # as lm-evaluation-harness asks for the log-likelihood of a continuation
        ("root/sample", {"prompt": [[1, 2, 0]], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}, "echo"),
        ("chosen/full", {"prompt": [[1, 2, 0]], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}, "echo"),
        # as it asks for what is generated
        ("root/sample", {"prompt": [[1]], "max_tokens": 256, "temperature": 0, "stop": ["\n"], "seed": 1}, "temperature|chosen"),
    ],
)  # fmt: skip
def test_scoring_as_harnesses_ask_for_it_is_refused_by_name(
    grants: str, asked: Any, said: str, client: Any
) -> None:
    with pytest.raises((openai.BadRequestError, openai.PermissionDeniedError), match=said):
        client(grants).completions.create(model="toy", **asked)


class Chatting(Wrapped):
    """A tree with a chat template: of any chat it keeps the last word, a token."""

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        return self.encode(chat.messages[-1][1])


@pytest.mark.slow(1)
def test_chats(tmp_path: Path) -> None:
    """A problem's own chat for any key, and others for chosen control; in parts, with log-probabilities."""
    asked = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1"}]
    parts = [asked[0], {"role": "user", "content": [{"type": "text", "text": "1"}]}]
    chat = problem("chat", prompt=Chat.of(asked), max_tokens=4, demonstration=None)
    with serving(Chatting(), [chat], tmp_path) as server:
        for grants in ("root/topk(2)", "chosen/full"):
            key = server.key(grants.partition("/")[0], grants)
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as one:
                create = one.chat.completions.create
                said = create(model="toy", messages=asked, seed=1, logprobs=True, top_logprobs=2)
                assert (
                    create(model="toy", messages=parts, seed=1).choices[0].message
                    == said.choices[0].message
                )
                (choice,) = said.choices
                assert choice.finish_reason in ("stop", "length")
                assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)
                stream = create(model="toy", messages=asked, seed=1, stream=True)
                told = [c.delta.content or "" for part in stream for c in part.choices]
                assert "".join(told) == choice.message.content
                other = [{"role": "user", "content": "2"}]
                if grants.startswith("root"):
                    with pytest.raises(openai.PermissionDeniedError):
                        create(model="toy", messages=other)
                else:
                    assert create(model="toy", messages=other).choices


def test_chats_need_a_template(client: Any) -> None:
    """The family has none, and says so; a key without chosen control is told that first."""
    chat = {"model": "toy", "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(openai.BadRequestError, match="chat template"):
        client("chosen/sample").chat.completions.create(**chat)
    with pytest.raises(openai.PermissionDeniedError, match="problems that are served"):
        client("root/sample").chat.completions.create(**chat)
