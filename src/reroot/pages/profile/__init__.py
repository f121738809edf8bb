"""The page of an access profile: what a probe has found out about an endpoint."""

from __future__ import annotations

from .page import write_profile_page

__all__ = ["write_profile_page"]
