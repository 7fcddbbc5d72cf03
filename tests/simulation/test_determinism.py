"""The same bits in every process, batch and on every CPU: digests of whole sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec_env.interface.history import replay
from llmrec_env.simulation.logging_policy import warm_up
from llmrec_env.simulation.step import advance

sys.path.insert(0, str(Path(__file__).parent))  # no package, and also run as a program
import transcripts

GOLDEN = {
    "slate": "0fe05c56de51e0f9",
    "item": "26080aac623fbda1",
    "weights": "e0102f235758eba5",
    "query": "d70f18cf578b7082",
    "recipe": "2ea152e02231ffa0",
    "catalogue": "78bd30b1769f4ab9",
    "cascade": "51952d43632c8fae",
}
"""Of 300 steps of 64 sessions. A change of these is a change of the dynamics: it makes every
published number old, and is said in the changelog under Dynamics."""

LONG = ("slate=300", "weights=200", "query=100", "recipe=100", "catalogue=100")  # 51,200 steps
SHORT = ("slate=20", "weights=20", "query=10", "recipe=10", "catalogue=5")


@pytest.mark.parametrize("mode", transcripts.MODES)
def test_sessions_have_the_bits_they_always_had(mode):
    assert transcripts.digest(transcripts.new_env(mode, 64), 300) == GOLDEN[mode]


@pytest.mark.parametrize("mode", transcripts.MODES)
def test_a_session_has_the_same_bits_alone_and_among_64(mode):
    among, steps = transcripts.new_env(mode, 64), 60
    for i in (0, 17, 63):
        alone = transcripts.new_env(mode, 1)
        seen = alone.reset(seed=i), among.reset(seed=0)
        for step in range(steps):
            for name in seen[0][0]:
                assert seen[0][0][name][0].tobytes() == seen[1][0][name][i].tobytes(), (name, step)
            seen = (
                alone.step(transcripts.actions_of(alone, [i], step)),
                among.step(transcripts.actions_of(among, np.arange(64), step)),
            )
            assert [x[0] for x in seen[0][1:4]] == [x[i] for x in seen[1][1:4]], step


def test_one_compilation_serves_every_shape():
    """A new size compiles nothing: it is a number in the records, not a part of their types."""
    sizes: list[dict[str, Any]] = [{}, {"horizon": 17}, {"slate_size": 3}, {"dim": 24}]
    sizes += [{"warmup_slates": 4}, {"impression_cap": 2}, {"interest_slots": 11}]
    for changes in sizes:
        env = transcripts.new_env("slate", 3, **changes)
        env.reset(seed=0)
        for step in range(12):
            env.step(transcripts.actions_of(env, [0, 1, 2], step))
        signatures = len(advance.signatures), len(warm_up.signatures), len(replay.signatures)
        if not changes:
            before = signatures
        assert signatures == before, changes


def _print_digests(cache: Path, *arguments: str, **settings: str) -> str:
    """Returns what a process of its own prints, with machine code kept in `cache`."""
    environment = os.environ | {"LLMREC_CACHE": str(cache), "OMP_NUM_THREADS": "1"} | settings
    command = [sys.executable, transcripts.__file__, *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_who_compiles_and_who_loads_compiled_code_see_the_same_bits(tmp_path):
    cold = _print_digests(tmp_path, *LONG)
    assert len(cold.splitlines()) == len(LONG)
    assert _print_digests(tmp_path, *LONG) == cold
    assert _print_digests(tmp_path, "callees", *LONG) == cold


@pytest.mark.slow
def test_callees_compiled_first_give_the_same_bits(tmp_path):
    assert _print_digests(tmp_path / "a", "callees", *SHORT) == _print_digests(tmp_path, *SHORT)


@pytest.mark.slow
def test_a_cpu_without_vectors_and_fused_operations_gives_the_same_bits(tmp_path):
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert _print_digests(tmp_path, *SHORT, **generic) == _print_digests(tmp_path, *SHORT)
