"""What item vectors are worth, compared with texts alone in the same sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs.runner import RunOptions
from experiments.studies import channels
from experiments.studies.study import Scale

TASK = "llmrec/Drift-v1"


def test_readings_are_compared_in_the_same_sessions(tiny: dict[str, Any], tmp_path: Path):
    output = tmp_path / "channels"
    found = channels.run(
        agents=("content", "popular"),
        shares=(0.5,),
        readings=("gated-sum",),
        length=4,
        env=tiny,
        scale=Scale(worlds=1),
        options=RunOptions(output=output),
    )
    assert set(found["content t=0.5"]) == {"gated-sum"}
    same = found["popular t=0.5"]["gated-sum"]  # it reads no text
    assert same.value == same.low == same.high == 0.0
    page = (output / "channels.md").read_text("utf-8")
    assert "| 0.5 | content |" in page and "with gated-sum" in page
    assert (output / "figures" / "channels.svg").is_file()


def test_the_vectors_are_made_anew_with_the_same_numbers(tiny: dict[str, Any]):
    made = [channels.made_vectors(TASK, tiny | {"item_vectors": "x"}, 3) for _ in range(2)]
    np.testing.assert_array_equal(*made)
    assert made[0].shape == (600, 3)
