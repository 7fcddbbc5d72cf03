"""The trained agents of the repository act as they are, in the world that they were trained in."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.commands import evaluate

FOLDER = Path(__file__).parents[3] / "results/agents"
LEAST = {"joint": 19.0, "ppo": 14.0, "slateq": 21.0}
"""Of 40 test users: far above what an agent earns whose weights do not fit."""


@pytest.mark.parametrize("name", sorted(LEAST))
def test_it_plays_at_once(name: str, tmp_path: Path) -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(LEAST)
    (found,) = evaluate.run(str(FOLDER / name), users=40, output=tmp_path)
    assert found.mean.value > LEAST[name]
