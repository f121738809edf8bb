"""GGUF files through libllama: ``GGUF``."""

from .generator import GGUF

__all__ = ["GGUF"]
