"""Sampling methods: each states the law of its output, and is certified against it."""
