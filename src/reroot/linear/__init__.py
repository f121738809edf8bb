"""Linear methods that several learners share: spanners, projections, regression, and laws by operators."""

from __future__ import annotations
