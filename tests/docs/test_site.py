"""The site: every task and agent has a page that says what code and results say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import llmrec_env
from agents import AGENTS
from llmrec_env.config import EnvConfig

ROOT = Path(__file__).parents[2]
HELD = {"src": r"<(?:script|img|iframe)[^>]* src=\"(.*?)\"", "href": r"<link[^>]* href=\"(.*?)\""}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch):
    """The module that makes pages."""
    monkeypatch.syspath_prepend(ROOT / "docs/site_build")
    import site_pages

    return site_pages


def test_every_task_has_a_page_with_its_arguments_and_a_baseline(pages):
    made = pages.task_pages()
    assert len(made) == len(llmrec_env.TASKS)
    for task, changes in llmrec_env.TASKS.items():
        text = made[pages.task_path(task)].text
        assert all(f"| `{name}` | `{value}` |" in text for name, value in changes.items())
        for title in ("Action space", "Rewards", "Episode end", "Baselines", "Version history"):
            assert f"\n## {title}\n" in text
        assert "| random |" in text or "benchmark --tasks" in text, task
    assert "| slateq | 2" in made["tasks/drift-v1.md"].text
    measured = (ROOT / "docs/results/domains.md").read_text("utf-8").split("### `News`")[1]
    first = next(line for line in measured.splitlines() if line.startswith("| random |"))
    assert first in made["tasks/news-v1.md"].text


def test_spaces_are_those_of_the_environment(pages, tiny):
    sizes = {"candidates": tiny["candidates"]}
    for task in ("llmrec/Drift-v1", "llmrec/Item-v1", "llmrec/Weights-v1", "llmrec/Instruct-v1"):
        env = gymnasium.make(task, **(tiny | llmrec_env.TASKS[task]))
        config = EnvConfig.from_kwargs(llmrec_env.TASKS[task] | sizes)
        said = pages.action_space(config)
        names = {x: getattr(gymnasium.spaces, x) for x in ("MultiDiscrete", "Discrete", "Box")}
        if not said.startswith("Box"):
            assert eval(said, names) == env.action_space
        size = pages.observation_size(config)
        assert str(env.observation_space) == f"Box(-1.001, 1.001, ({size},), float32)"


def test_every_agent_has_a_section_and_every_section_is_of_agents(pages):
    titles = pages.sections_of((ROOT / "docs/agents.md").read_text("utf-8"))
    named = [name for title in titles for name in title.split(", ")]
    assert sorted(named) == sorted(AGENTS)
    for title, prose in titles.items():
        assert prose.startswith("**Idea.**") and "**When not to use" in prose, title


def test_settings_are_those_of_the_registry_and_of_the_class(pages):
    text = pages.agent_pages()["agents/drift-aware.md"].text
    assert "| `recent` | `0.566` | 0 to 1.5 | weight of the observed recent interest" in text
    text = pages.agent_pages()["agents/slateq.md"].text
    assert "| `gamma` | `0.98` |" in text and "Discount; 0 looks no further" in text


def test_notebooks_become_text_and_code(pages):
    source = "# ---\n# x\n# ---\n\n# %% [markdown]\n# # Title\n#\n# words\n\n# %%\nx = 1\n"
    assert pages.notebook_text(source) == "# Title\n\nwords\n\n```python\nx = 1\n```\n"


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_asks_nothing_of_other_hosts(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'llmrec-env[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > len(llmrec_env.TASKS) + 40
    for page in pages:
        text = page.read_text("utf-8")
        held = [path for pattern in HELD.values() for path in re.findall(pattern, text)]
        assert [path for path in held if path.startswith(("http", "//"))] == [], page.name
