"""docs/language_agents.md: its Python runs as it stands, on a small world."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import pytest

from agents.lm.causal import CausalModel

PAGE = (Path(__file__).parents[2] / "docs" / "language_agents.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_of_the_page_runs(
    tiny: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("transformers")
    for name, value in tiny.items():
        monkeypatch.setitem(gymnasium.spec("llmrec/Drift-v1").kwargs, name, value)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"language_agents.md, block {number}", "exec"), names)
    CausalModel(tmp_path / "tiny-lm", device="cpu")
    said = capsys.readouterr().out
    layout = re.search(r"^```text\n(.*?)^Earlier", PAGE, re.DOTALL | re.MULTILINE)
    assert layout and said.startswith(layout[1])
    assert said.rstrip().endswith("['' 'not numbers' 'repeated number']")
