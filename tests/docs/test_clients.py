"""The lines of docs/clients.md run, where their library is in the extra `all`."""

from __future__ import annotations

import runpy
from pathlib import Path

import gymnasium
import pytest

import llmrec_env

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs/try_client.py"))
INSTALLED = {
    "stable-baselines3": "stable_baselines3",
    "sb3-contrib": "sb3_contrib",
    "one file": "torch",
    "minari": "minari",
}


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Minari, what it would like to be told
def test_the_lines_run(name, tiny, monkeypatch, tmp_path):
    pytest.importorskip(INSTALLED[name], reason=f"{name} is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for task in llmrec_env.TASKS:
        for field, value in tiny.items():
            monkeypatch.setitem(gymnasium.spec(task).kwargs, field, value)
    exec(compile(SCRIPT["blocks"]()[name], "clients.md", "exec"), {})


def test_every_section_says_what_it_wants():
    blocks = SCRIPT["blocks"]()
    assert {*INSTALLED, "torchrl", "rllib", "tianshou"} == blocks.keys()
    assert all(SCRIPT["requirements"](block) for block in blocks.values())
    assert SCRIPT["main"]("no such library") == 2
