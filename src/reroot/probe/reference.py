"""The claim about a reference model: is it the same law?"""

from __future__ import annotations

import numpy as np

from ..generators.base import Generator
from .asking import Fails, NotAsked
from .sampling_law import same_law
from .site import EACH, Site

_PREFIXES = 12
"""Laws of the reference model that are computed."""


def compare(reference: Generator | None, site: Site) -> str:
    """Is the server's law that of the reference model?"""
    if reference is None:
        raise NotAsked("no reference model was named")
    if not site.lists:
        raise NotAsked("no list that may be relied on was seen")
    if reference.vocab_size < site.vocab:
        raise Fails(
            f"the server's vocabulary has {site.vocab:,} tokens, the reference's {reference.vocab_size:,}"
        )
    chosen = site.lists[:_PREFIXES]
    theirs = [reference.log_laws(prompt[:1], [prompt[1:]])[0] for prompt, _ in chosen]
    stated = [law for _, law in chosen]
    found = same_law(stated, [np.asarray(law, dtype=np.float64) for law in theirs], EACH)
    if not found.holds:
        raise Fails(found.evidence)
    return found.evidence
