"""Run folders on shared storage (``s3://``, ``gs://``, ``sftp://``, …), through fsspec."""

from __future__ import annotations

from .folders import address_at_hand, fetched, stored

__all__ = ["address_at_hand", "fetched", "stored"]
