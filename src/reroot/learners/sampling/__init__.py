"""Sampling methods of the field, each under the weakest contract that it needs."""
