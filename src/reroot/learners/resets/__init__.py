"""Reinforcement learning with and without resets, on block MDPs: one file each, over a session."""
