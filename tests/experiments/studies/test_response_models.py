"""The study of a language model as the user: agreement, cost, and agents under both responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.runs.runner import RunOptions
from experiments.studies import response_models
from experiments.studies.response_models import BUILT_IN, MODEL
from experiments.studies.study import Scale
from llmrec_env.config import EnvConfig


@pytest.fixture(scope="module")
def clicks():
    tiny = {"encoder": "hashing", "num_items": 600, "num_users": 300, "dim": 32, "candidates": 20}
    config = EnvConfig(**tiny, horizon=30, split="test", response="llm")
    return response_models.clicks_of(config, 25)


def test_the_built_in_response_is_calibrated_on_its_own_clicks(clicks):
    """So the probabilities are those with which these clicks satisfied, of the right users."""
    chance, z = clicks.chance[BUILT_IN], clicks.satisfied
    error = np.sqrt((chance * (1 - chance)).sum()) / len(z)
    assert abs(chance.mean() - z.mean()) < 3 * error
    assert chance[z == 1].mean() > chance[z == 0].mean() + 0.05
    assert len(np.unique(clicks.user)) == 25 and (clicks.user % 10 == 9).all()


def test_users_of_other_worlds_are_other_users(clicks):
    both = response_models.joined([clicks, clicks])
    assert len(np.unique(both.user)) == 50 and len(both.chance[MODEL]) == 2 * len(clicks.user)


def test_its_tables_tell_agreement_cost_and_returns(tiny: dict[str, Any], tmp_path: Path):
    output = tmp_path / "study"
    found = response_models.run(
        agents=("random", "content"),
        env=tiny | {"num_users": 100},
        scale=Scale(worlds=1, users=10),
        options=RunOptions(output=output),
    )
    assert set(found["cost"]) == {"logit", "llm, new pairs", "llm, known pairs"}
    assert all(value > 0 for value in found["cost"].values())
    assert 0.0 <= found["agreement"][MODEL]["calibration_error"] <= 1.0
    page = (output / "response-model.md").read_text("utf-8")
    assert "| built in |" in page and "| content |" in page and "llm: return" in page


def test_agreement_is_told_where_nobody_plays(tiny: dict[str, Any], tmp_path: Path):
    output = tmp_path / "new" / "study"
    response_models.run(
        agents=(),
        env=tiny | {"num_users": 100},
        scale=Scale(worlds=1, users=10),
        options=RunOptions(output=output),
    )
    assert "| built in |" in (output / "response-model.md").read_text("utf-8")


def test_an_unknown_agent_is_refused_before_anything_runs(tmp_path: Path):
    with pytest.raises(ValueError, match="Did you mean 'random'"):
        response_models.run(agents=("randon",), options=RunOptions(output=tmp_path / "x"))
