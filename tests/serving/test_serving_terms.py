"""What a key allows is known before a comparison begins, and what its account no longer pays is no result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reroot
from reroot import Budget, InvalidInput
from reroot.runs.plan import DEFAULT_GRANTS
from serving_toys import Server, serving
from toys import as_learner, problems, tree

LEARNERS = ["best_of_n:n=4", "plurality_walk:draws_per_token=4"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tree(), problems(3), tmp_path) as found:
        yield found


def compared(wall: Any, out: Path, **more: Any) -> reroot.Comparison:
    settings: dict[str, Any] = {"learners": LEARNERS, "budget_tokens": 400, **more}
    return reroot.compare(generator=wall, out=out, **settings)


def granted(folder: Path) -> list[str]:
    return json.loads((folder / "config.json").read_text())["grants"]


def test_by_default_what_the_key_is_granted_is_compared(server: Server, tmp_path: Path) -> None:
    wall = server.connect("a", "root/sample+reward")
    found = compared(wall, tmp_path / "a")
    assert found.failures is None
    assert granted(tmp_path / "a") == ["root/sample+reward@T=1"]
    assert {row["learner"] for row in found.results.to_dicts()} == {"best_of_n(n=4)"}
    whole = server.connect("b", "chosen/full+reward+verifier+demonstration+value")
    compared(whole, tmp_path / "b")
    assert granted(tmp_path / "b") == list(DEFAULT_GRANTS)
    wall.close()
    whole.close()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"grants": "chosen/full"}, r"chosen/full: its key is granted root/sample\+reward@T=1"),
        ({"grants": "root/sample+verifier"}, "cannot honour root/sample.verifier: its key"),
        ({"grants": "root/sample@T=0.5"}, "cannot honour root/sample@T=0.5: its key"),
    ],
)
def test_more_than_the_key_is_granted_is_refused_at_once(
    more: dict[str, Any], said: str, server: Server, tmp_path: Path
) -> None:
    wall = server.connect("a", "root/sample+reward")
    with pytest.raises(InvalidInput, match=said):
        compared(wall, tmp_path / "a", **more)
    assert not (tmp_path / "a").exists()
    for given in ({"task": "copy"}, {"problems": wall.problems()}, {"value": "prm:x"}):
        with pytest.raises(InvalidInput, match="server's problems are"):
            compared(wall, tmp_path / "a", **given)
    with pytest.raises(InvalidInput, match="its key is granted"):
        reroot.run(as_learner(_one), wall.problems(), wall, grants="reset/sample")
    assert server.desk.answered == 0
    wall.close()


async def _one(session: reroot.Session) -> object:
    return (await session.rollouts(1)).outputs()[0]


def test_a_key_that_is_told_no_rewards_compares_nothing(server: Server, tmp_path: Path) -> None:
    wall = server.connect("a", "root/sample+reward", results=False)
    with pytest.raises(InvalidInput, match=r"rewards .* which the key is not told: .*--results"):
        compared(wall, tmp_path / "a")
    found = reroot.run("best_of_n:n=4", wall.problems(), wall, grants="root/sample+reward")
    assert all(attempt.abstained for attempt in found.attempts)
    wall.close()


def test_what_an_account_no_longer_pays_is_made_when_it_does(
    server: Server, tmp_path: Path
) -> None:
    """Attempts that meet the end of their key's account fail, whatever their learner makes of it; with more in
    the account the same call makes them, and is as if there had always been enough."""
    free = server.connect("b", "chosen/full+reward")
    expected = compared(free, tmp_path / "here", grants="chosen/full+reward")
    wall = server.connect("a", "chosen/full+reward", Budget(tokens=40))
    short = compared(wall, tmp_path / "there", grants="chosen/full+reward", concurrency=1)
    rows = short.results.to_dicts()
    failed = [row for row in rows if row["error"]]
    assert 0 < len(failed) < len(rows)
    assert all("are left of the key's account" in row["error"] for row in failed)
    assert all(row["text"] is None or not row["text"] for row in failed)
    spent = wall.account()["spent"]["tokens"]
    assert spent == sum(row["cost_tokens"] for row in rows) <= 40
    raised = reroot.run(LEARNERS[0], wall.problems(), wall, grants="chosen/full+reward")
    assert {attempt.stopped for attempt in raised.attempts} == {"account"}
    server.keys.write_text(server.keys.read_text().replace("tokens = 40", "tokens = 4000"))
    whole = compared(wall, tmp_path / "there", grants="chosen/full+reward")
    assert whole.failures is None
    free.close()
    kept = ("learner", "surprisal", "reward", "cost_tokens", "cost_rollouts")
    assert whole.results.select(kept).equals(expected.results.select(kept))
    wall.close()
