"""No kernel reads or writes outside an array, whatever the sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # no package, and also run as a program
import transcripts

from llmrec_env.simulation.compilation import kernel

ODD: list[tuple[str, dict[str, Any]]] = [
    ("slate", {"dim": 4, "slate_size": 20, "candidates": 300, "interest_slots": 12}),
    ("slate", {"dim": 17, "slate_size": 1, "candidates": 3, "interest_slots": 2, "active_max": 1}),
    ("slate", {"dim": 33, "slate_size": 7, "candidates": 0, "impression_cap": 1, "horizon": 3}),
    ("slate", {"dim": 31, "slate_size": 20, "candidates": 0, "impression_cap": 0}),
    ("slate", {"dim": 15, "slate_size": 2, "candidates": 2, "observation": "vector"}),
    ("cascade", {"dim": 48, "slate_size": 20, "candidates": 257, "observation_dim": 1}),
    ("cascade", {"dim": 9, "slate_size": 1, "candidates": 1, "warmup_slates": 1}),
    ("weights", {"dim": 19, "slate_size": 3, "candidates": 513, "recall": "two-stage"}),
    ("weights", {"dim": 16, "slate_size": 20, "candidates": 20, "interest_slots": 9}),
    ("query", {"dim": 130, "slate_size": 11, "candidates": 600, "impression_cap": 1}),
    ("query", {"dim": 5, "slate_size": 4, "candidates": 0, "recall": "uniform"}),
    ("recipe", {"dim": 18, "slate_size": 5, "candidates": 7}),
    ("catalogue", {"dim": 50, "slate_size": 13}),
    ("item", {"dim": 21, "candidates": 0, "observation": "vector"}),
]


def digests() -> list[str]:
    """Returns the digest of some steps of every odd configuration."""
    small, found = {"active_min": 1, "warmup_slates": 2, "horizon": 6}, []
    for mode, changes in ODD:
        env = transcripts.new_env(mode, 3, **(small | changes))
        vector = changes.get("observation") == "vector"
        found.append(_rewards(env) if vector else transcripts.digest(env, 24))
    return found


def _rewards(env: Any) -> str:
    env.reset(seed=0)
    steps = [env.step(transcripts.actions_of(env, np.arange(3), t)) for t in range(24)]
    return str([(float(s[0].sum()), float(s[1].sum())) for s in steps])


@pytest.mark.slow
def test_odd_sizes_stay_within_bounds(tmp_path: Path) -> None:
    checked = {"NUMBA_BOUNDSCHECK": "1", "LLMREC_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | checked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == digests()


@kernel
def read_behind(numbers):
    """Reads the number behind the last one."""
    return numbers[numbers.shape[0]]


if __name__ == "__main__":
    with pytest.raises(IndexError):  # or nothing below is checked either
        read_behind(np.zeros(3))
    print(json.dumps(digests()))
