"""Generators: anything that answers requests about an autoregressive law."""
