"""Models that servers run: vLLM, llama.cpp, SGLang, and what speaks OpenAI's dialects."""

from __future__ import annotations

from .endpoint import is_endpoint
from .granted import Claim, Granted, Profile
from .remote import Remote

__all__ = ["Claim", "Granted", "Profile", "Remote", "is_endpoint"]
