"""docs/language_users.md: its Python runs on a small world, and its prompt is ours."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import pytest

from llmrec_env.content.profiles import Profile
from llmrec_env.content.satisfaction_models import prompt_of

PAGE = (Path(__file__).parents[2] / "docs" / "language_users.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_of_the_page_runs(
    tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tiny.items():
        monkeypatch.setitem(gymnasium.spec("llmrec/Drift-v1").kwargs, name, value)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"language_users.md, block {number}", "exec"), names)
    assert names["env"].unwrapped.simulator.response_model.num_asked > 0  # type: ignore[attr-defined]


def test_the_page_shows_the_prompt() -> None:
    profile = Profile(((2, "slow trains"), (2, "jazz")), ((0, "crime"),))
    assert prompt_of(profile, "Ten trains in the rain") in PAGE
