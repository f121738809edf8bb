"""Families: exact generators whose right outputs the interface makes hard or easy to find.

The hidden ones have a secret; Dyck strings are right by a rule that all know.
``parse("hidden_path:K=4,H=16,p=0.4")`` reads a spec as the command line writes it; the result
builds instances: ``spec(seed=3)``, ``spec(seed=3, horizon=8)``.
"""

from __future__ import annotations

from .combination_lock import CombinationLock
from .composed import Mixture
from .decoy_path import DecoyPath
from .dyck import Dyck
from .dyck_grammar import DyckError, ErrorKind
from .from_logits import FromLogits
from .hidden_path import HiddenPath, PathFamily
from .hidden_trie import HiddenTrie
from .linear_optimum import LinearOptimum, Needle
from .low_rank import LowRank
from .noisy_parity import NoisyParity, fidelity
from .planted import Planted
from .product import Product
from .registry import FAMILIES, Family
from .rotated import Rotated
from .softmax_hard import SoftmaxHard
from .spec import Spec, catalogue, parse
from .staircase import Staircase

__all__ = [
    "FAMILIES",
    "CombinationLock",
    "DecoyPath",
    "Dyck",
    "DyckError",
    "ErrorKind",
    "Family",
    "FromLogits",
    "HiddenPath",
    "HiddenTrie",
    "LinearOptimum",
    "LowRank",
    "Mixture",
    "Needle",
    "NoisyParity",
    "PathFamily",
    "Planted",
    "Product",
    "Rotated",
    "SoftmaxHard",
    "Spec",
    "Staircase",
    "catalogue",
    "fidelity",
    "parse",
]
