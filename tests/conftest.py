"""Settings that every test runs under: reproducible, offline, no clocks."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# No deadline: how long an example takes says something about the machine, not about the code.
# "explore" draws new examples every time: pytest --hypothesis-profile=explore
settings.register_profile("reroot", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("reroot")
