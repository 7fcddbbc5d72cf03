"""docs/users_that_speak.md: its Python runs as it stands, on a small world."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import pytest

from llmrec_env.interface.instructions import WORDINGS

PAGE = (Path(__file__).parents[2] / "docs" / "users_that_speak.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_of_the_page_runs(
    tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in tiny.items():
        monkeypatch.setitem(gymnasium.spec("llmrec/Instruct-v1").kwargs, name, value)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"users_that_speak.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r'step \d+: typed the instruction "', said) and "llmrec prompt 1" in said


def test_the_page_lists_every_wording() -> None:
    for wording in (text for kind in WORDINGS for text in kind):
        assert f'"{wording.format("X")}"' in PAGE
