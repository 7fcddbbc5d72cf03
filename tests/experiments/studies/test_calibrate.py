"""The calibration study finds parameters, tells what does not fit, and needs logs with times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.statistics.consumption import distances, measured
from experiments.studies import calibrate
from experiments.studies.calibrate import FITTED, KEPT, NOT_FITTED, busyness, simulated
from llmrec_env.config import EnvConfig
from llmrec_env.datasets import RecordsError, make_world
from llmrec_env.world import load_world

pytest.importorskip("optuna")

NOUNS = "harbour violin glacier market lantern orchard engine pepper castle falcon".split()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a world of 300 items and logs of 40 users, with times or without."""
    pandas = pytest.importorskip("pandas")
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    texts = [
        f"A {NOUNS[i % 10]} {NOUNS[(7 * i) % 9]} and {NOUNS[(i // 10) % 10]} {i}"
        for i in range(300)
    ]
    items = pandas.DataFrame(
        {"item": range(300), "text": texts, "topic": [NOUNS[i % 10] for i in range(300)]}
    )
    user = np.repeat(np.arange(40), 20)
    item = np.concatenate([rng.permutation(300)[:20] for _ in range(40)])
    logs = {"user": user, "item": item, "value": rng.integers(1, 6, 800)}

    def make(timed: bool) -> Path:
        times = {"timestamp": 1_600_000_000 + 90 * np.arange(800)} if timed else {}
        path = folder / f"timed-{timed}"
        if not path.exists():
            make_world(items, pandas.DataFrame(logs | times), output=path, encoder="hashing")
        return path

    return make


def test_it_writes_what_fits_and_what_does_not(shop, tmp_path, capsys):
    fit = calibrate.run(str(shop(True)), length=20, trials=3, output=tmp_path)
    said = capsys.readouterr().out
    assert "40 users with 20 items or more" in said and "mean distance" in said
    for name, (low, high, _) in FITTED.items():
        assert low <= fit.parameters[name] <= high
    assert EnvConfig(**fit.parameters).active_min == fit.parameters["active_min"]
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert written["parameters"] == fit.parameters and set(written["misfit"]) == set(fit.real)
    page = (tmp_path / "calibration.md").read_text()
    assert page.count("does NOT fit") == sum(
        abs(x) > 2 for name, x in fit.misfit().items() if name not in NOT_FITTED
    )
    assert "not fitted" in page and KEPT not in fit.real
    assert (tmp_path / "calibration.csv").read_text().startswith("statistic,real,real_low,real_hi")


def test_it_needs_logs_of_real_users_with_times(shop, tmp_path):
    with pytest.raises(RecordsError, match="comes without logs of real users"):
        calibrate.run("video", length=20, output=tmp_path)
    with pytest.raises(RecordsError, match="the logs have no times"):
        calibrate.run(str(shop(False)), output=tmp_path)
    with pytest.raises(ValueError, match="trials=0"):
        calibrate.run(str(shop(True)), trials=0, output=tmp_path)
    with pytest.raises(ValueError, match="lower length"):
        calibrate.run(str(shop(True)), length=40, output=tmp_path)


@pytest.mark.slow
def test_the_search_finds_its_way_to_users_who_switch_often():
    base: dict[str, Any] = {"encoder": "hashing", "num_items": 1000, "num_users": 300, "dim": 64}
    base |= {"warmup_slates": 150}
    moved = load_world(EnvConfig(**base, switch_rate=0.2, choice_quality=1.5, world_seed=5))
    vectors, topics = moved.items.vectors, moved.catalog.topics
    real = measured(simulated(moved, 30, 200), vectors, topics)
    found = calibrate.search(real, base, 30, 200, 60, 0)
    assert 0.1 < found["switch_rate"] < 0.3  # it is .2
    assert found["choice_quality"] > 0.4  # 1.5; the default is .25

    def misfit(**changes: Any) -> float:
        world = load_world(EnvConfig(**(base | changes), world_seed=6))
        apart = distances(real, measured(simulated(world, 30, 200), vectors, topics))
        return float(np.mean(np.abs([x for name, x in apart.items() if name not in NOT_FITTED])))

    assert misfit(**found) < 0.75 * misfit()
    usual = busyness(load_world(EnvConfig(**base)))
    assert busyness(load_world(EnvConfig(**(base | found)))) == pytest.approx(usual, rel=0.3)
