"""What an endpoint really grants: claims about a server, found out by asking, with error rates."""

from __future__ import annotations

from .running import BUDGET, probe

__all__ = ["BUDGET", "probe"]
