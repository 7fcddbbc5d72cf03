"""The README's Python runs as it stands, on a small world and for fewer steps."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import pytest

import llmrec_env

pytest.importorskip("stable_baselines3")
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")  # SB3's progress bar
@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(snippet, tiny, tmp_path, monkeypatch, capsys):
    for task in llmrec_env.TASKS:
        for name, value in tiny.items():
            monkeypatch.setitem(gymnasium.spec(task).kwargs, name, value)
    monkeypatch.setitem(gymnasium.spec("llmrec/Item-v1").kwargs, "warmup_slates", 20)
    rows = [f"Chapter {i}: what the diary of year {i // 7} says of day {i}" for i in range(600)]
    (tmp_path / "my_items.csv").write_text("\n".join(["text", *rows]), "utf-8")
    monkeypatch.chdir(tmp_path)
    exec(
        compile(re.sub(r"learn\([\d_]+", "learn(512", snippet), "README.md", "exec"),
        {"gym": gymnasium},
    )
