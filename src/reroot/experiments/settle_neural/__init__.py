"""Settling the barrier on neural policies: small transformers trained from the root and from prefixes."""
