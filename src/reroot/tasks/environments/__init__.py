"""Environments of the package verifiers as tasks."""
