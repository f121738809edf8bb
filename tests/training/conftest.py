"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def vllm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for vLLM (``trl_vllm.Vllm``), in the mode that the test is parametrized with."""
    import trl_vllm

    with trl_vllm.installed(request.param, monkeypatch) as found:
        yield found
