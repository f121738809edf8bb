"""Learners in processes of their own, behind walls: what is there stands in ``walls``."""
