"""Claims of the test server, one by one."""

from __future__ import annotations

from pathlib import Path

from engines import Server
from reroot.generators.remote.granted import Claim
from reroot.generators.remote.wire import Patience
from reroot.probe.running import TESTS, settle
from reroot.probe.site import connect


def claims(
    server: Server,
    folder: Path | None,
    *names: str,
    dialect: str = "",
    budget: int = 20_000,
    seed: int = 0,
) -> dict[str, Claim]:
    """What becomes of ``names`` and of what they need; lists too, as draws rest on them."""
    wanted = {*names}
    for test in reversed(TESTS):
        if test.name in wanted:
            wanted |= {*test.needs} | ({"lists"} - {test.name} if _on_lists(test.name) else set())
    how = Patience(read=20, tries=1, down=2, busy=5)
    site = connect(f"{dialect}:{server.url}" if dialect else server.url, folder, budget, seed, how)
    try:
        return settle(site, [test for test in TESTS if test.name in wanted])
    finally:
        site.asker.wire.close()


def _on_lists(name: str) -> bool:
    return name not in ("continuations", "token ids", "lists")
