"""What vectors and graphs beside texts are worth, compared in the same sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.runs.runner import RunOptions
from experiments.studies import channels
from experiments.studies.study import Scale


def test_readings_are_compared_in_the_same_sessions(tiny: dict[str, Any], tmp_path: Path):
    output = tmp_path / "channels"
    found = channels.run(
        agents=("content", "popular"),
        shares=(0.5,),
        length=4,
        env=tiny,
        scale=Scale(worlds=1),
        options=RunOptions(output=output),
    )
    assert set(found["vectors t=0.5 content"]) == {"concatenation", "gated-sum"}
    assert set(found["graph t=0.5 content"]) == {"concatenation", "gated-sum", "neighbours"}
    for channel in ("vectors", "graph"):
        for same in found[f"{channel} t=0.5 popular"].values():  # it reads no text
            assert same.value == same.low == same.high == 0.0
    page = (output / "channels.md").read_text("utf-8")
    assert "| 0.5 | content |" in page and "with neighbours" in page
    assert (output / "figures" / "channels.svg").is_file()


def test_what_is_made_is_the_same_each_time():
    np.testing.assert_array_equal(channels.made_vectors(5, 3), channels.made_vectors(5, 3))
    lines = channels.made_graph(50).decode().splitlines()
    assert lines[0] == "head,relation,tail" and len(lines) == 1 + 8 * 50
    assert channels.made_graph(50) == channels.made_graph(50)


def test_an_unknown_channel_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"Unknown channel 'graphs'\. Did you mean 'graph'"):
        channels.run(channels=("graphs",), options=RunOptions(output=tmp_path / "x"))
