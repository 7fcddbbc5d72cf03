import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from made_up import child, end, go, lines_of, wait_for

from experiments.runs.spec import RunSpec
from experiments.store import CHECKPOINTS

KILLS = 10
# As `running` does, but in short segments, and telling a log how far checkpoints were.
REAL = """
from functools import partial
from experiments.runs import training
from experiments.runs.evaluation import execute_run
training.SEGMENT = 4096
restored = training._restored
def tell(*arguments):
    found = restored(*arguments)
    with open(folder / "restored", "a") as file:
        file.write(f"{found[0]}\\n")
    return found
training._restored = tell
run_sweep = partial(run_sweep, on_done=lambda result: training.discard(folder, result.cell))
"""


def plan(tiny: dict[str, Any]) -> list[RunSpec]:
    return [
        RunSpec(
            *("llmrec/Drift-v0", agent, world, seed, 12_000 * (agent == "ppo")),
            env=tiny,
            watched=2 * (world == 0),
        )
        for world in range(3)
        for agent in ("random", "content", "ppo")
        for seed in range(4 if agent == "ppo" else 1)
    ]


def real(folder: Path, specs: list[RunSpec]) -> Any:
    folder.mkdir(exist_ok=True)
    return child(folder, specs, REAL, run="partial(execute_run, folder=folder)")


@pytest.mark.slow
def test_real_cells_killed_at_random_moments_give_the_same_bytes(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    pytest.importorskip("stable_baselines3")
    specs, moment = plan(tiny), random.Random(time.time_ns())
    started = time.monotonic()
    expected = real(tmp_path / "whole", specs).communicate(timeout=300)[0].split()[1]
    print(f"\nnot killed: {time.monotonic() - started:.1f} s")
    folder, moments, kept = tmp_path / "killed", [], []

    def checkpoints() -> set[tuple[str, int]]:
        found = (folder / CHECKPOINTS).glob("*.pt")
        return {(path.name, path.stat().st_mtime_ns) for path in found if path.exists()}

    for number in range(KILLS):
        process = real(folder, specs)
        go(process)
        started, before = time.monotonic(), checkpoints()
        if number % 2:  # so that some moments surely fall within a training
            wait_for(lambda before=before: checkpoints() - before, 60.0)
        time.sleep(moment.uniform(0.0, 0.4 if number % 2 else 1.5))
        assert process.poll() is None
        end(process)
        moments.append(round(time.monotonic() - started, 2))
        kept.append(len(lines_of(folder)) if (folder / "cells.jsonl").exists() else 0)
    digest = real(folder, specs).communicate(timeout=300)[0].split()[1]
    resumed = [int(line) for line in (folder / "restored").read_text().splitlines()]
    print(f"killed after {moments} s, with {kept} of {len(specs)} cells kept;")
    print(f"trainings began at user-step: {dict(sorted(Counter(resumed).items()))}")
    assert digest == expected
    assert any(resumed)
    assert len({line["key"] for line in lines_of(folder)}) == len(lines_of(folder)) == len(specs)
    assert not list((folder / CHECKPOINTS).iterdir())
