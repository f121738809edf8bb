"""Certificates: what each method's output law is said to be, compared with what the learner does.

    certificates = [certify(case) for case in cases_of("smc")]

Every random choice is enumerated, the generator's and the learner's own, so the laws are exact; Markov
chains are checked step by step, properly weighted samples with their weights; what cannot be enumerated
is sampled, with an interval.
"""

from __future__ import annotations

from .case import EXACT, Aim, Case, Chain, Sampled, Weighted
from .cases import cases_of
from .check import Certificate, Distances, certify
from .every import certify_methods
from .toys import SHORT, TOYS, Toy

__all__ = [
    "EXACT",
    "SHORT",
    "TOYS",
    "Aim",
    "Case",
    "Certificate",
    "Chain",
    "Distances",
    "Sampled",
    "Toy",
    "Weighted",
    "cases_of",
    "certify",
    "certify_methods",
]
