"""Trainings end with the same bits whatever is compiled or loaded, on how many threads or jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

import trainings
from trainings import SETTINGS, Killed, as_run, digest, spec_of

from agents.registry import AGENTS
from experiments.runs.runner import run_sweep
from llmrec_env.simulation.kernel_cache import cache_home

ONLINE = [name for name in SETTINGS if AGENTS[name].learns == "online"]
_LONG = 60_000


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """Digests of trainings in this process, which loads compiled code where it can."""
    return {name: digest(spec_of(name)) for name in SETTINGS}


def digests_elsewhere(cache: Path, threads: int, steps: int) -> dict[str, str]:
    """Digests of trainings in a new process, with a cache of compiled code of its own."""
    names = ("OMP", "OPENBLAS", "MKL")
    environment = {f"{name}_NUM_THREADS": str(threads) for name in names}
    environment |= {"LLMREC_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, trainings.__file__, json.dumps(dict.fromkeys(SETTINGS, steps))]
    answer = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout)


def test_a_process_that_compiles_agents_on_two_threads_ends_with_the_same_bits(
    expected: dict[str, str], tmp_path: Path
) -> None:
    cache, compiled = tmp_path / "cache", "machine_code"
    without_agents = shutil.ignore_patterns("agents.*")  # the simulator takes a minute to compile
    shutil.copytree(cache_home() / compiled, cache / compiled, ignore=without_agents)
    assert digests_elsewhere(cache, 2, trainings.STEPS) == expected
    assert [*(cache / compiled).glob("agents.*")]


@pytest.mark.slow
def test_long_trainings_end_with_the_same_bits(tmp_path: Path) -> None:
    here = {name: digest(spec_of(name, _LONG)) for name in SETTINGS}
    assert digests_elsewhere(tmp_path, 2, _LONG) == here  # compiles everything
    assert digests_elsewhere(tmp_path, 1, _LONG) == here  # loads


def test_jobs_end_with_the_bits_of_one_process(expected: dict[str, str], tmp_path: Path) -> None:
    results = run_sweep([spec_of(name) for name in SETTINGS], tmp_path, jobs=2, execute=as_run)
    weights = {result.spec.agent: result.values["weights"] for result in results}
    assert weights == {name: float(int(expected[name][:12], 16)) for name in SETTINGS}


@pytest.mark.parametrize("name", ONLINE)
def test_a_training_that_was_killed_goes_on_to_the_same_bits(
    expected: dict[str, str], name: str, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        digest(spec_of(name), tmp_path, kill_at=2)
    assert [*tmp_path.rglob("*.pt")]  # of the first segment
    assert digest(spec_of(name), tmp_path) == expected[name]


def test_other_seeds_end_with_other_bits(expected: dict[str, str]) -> None:
    spec = spec_of("reinforce-topk")
    assert len({*expected.values()}) == len(expected)
    assert digest(type(spec)(**{**vars(spec), "seed": 4})) != expected["reinforce-topk"]
