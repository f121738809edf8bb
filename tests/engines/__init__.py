"""A small server over a toy language model that speaks the dialects of inference engines, and misbehaves on demand.

``with serve("vllm") as server:`` runs it on a free port of 127.0.0.1; ``python -m engines vllm --port N`` in a process
of its own.
"""

from __future__ import annotations

from .behaviour import HONEST, MISBEHAVIOURS, Behaviour, behaviour
from .server import Server, serve

__all__ = ["HONEST", "MISBEHAVIOURS", "Behaviour", "Server", "behaviour", "serve"]
