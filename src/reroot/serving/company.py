"""How long a pass of the generator waits for more requests, which it answers at little more cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

_SHARE, _SHORT, _LONGEST = 0.1, 0.05, 0.5  # of a pass, and seconds
_QUIET = 0.1  # of what a pass may wait


class Company:
    """Who is likely to ask soon, and how long a pass waits for them.

    Whoever was told something since the last pass began is likely to ask again, and whose session is closed
    to open another: the next one waits until all of these have come. They are counted, by key. How many the
    last pass had says little: one that went without a straggler would have the next one go without him,
    too. Newcomers are told nothing yet, and where one comes, others do, as at the beginning of a run: it
    waits until none has come for a while.

    It waits at most a tenth of the time that the last one took and half a second, from its end or the first
    request behind it; and a tenth of that for one more newcomer. A short one (under 50 ms) halves that:
    one of scores between two of draws is no reason to begin the next with whoever is first, but many are.
    Who has not come when a pass begins is not waited for any more.
    """

    def __init__(self) -> None:
        self._due: Counter[tuple[str, str]] = Counter()
        self._ended = self._most = 0.0
        self._newest = -math.inf

    def came(self, key: str, what: str, now: float) -> None:
        """A request of a key has come, which is to ``"open"`` a session, or a ``"turn"``."""
        if self._due[key, what] > 0:
            self._due[key, what] -= 1
        elif what == "open":
            self._newest = now

    def was(self, due: Iterable[tuple[str, str]], passes: int, began: float, ended: float) -> None:
        """A round is over.

        Args:
            due: what is likely to come of each whom it tells something (see ``came``).
            passes: how many requests a pass has answered.
            began, ended: when that was, in seconds.
        """
        if passes:
            self._due.clear()
            took = ended - began
            fresh = _SHARE * took if took >= _SHORT else 0.0
            self._most = min(_LONGEST, max(fresh, self._most / 2))
            self._ended = ended
        self._due.update(due)

    @property
    def matters(self) -> bool:
        """Whether passes are so long that they wait."""
        return self._most >= _SHARE * _SHORT

    def left(self, since: float, now: float) -> float:
        """Seconds for which requests that wait for a pass, the first ``since`` then, may wait."""
        until = max(self._ended, since) + self._most
        return max(0.0, until - now) if self.matters else 0.0

    def hold(self, since: float, now: float) -> float:
        """Seconds for which they are to wait for others, if no request comes meanwhile."""
        left = self.left(since, now)
        if any(self._due.values()):
            return left
        return min(left, max(0.0, self._newest + _QUIET * self._most - now))
