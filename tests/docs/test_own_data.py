"""docs/own_data.md says what its commands say."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import gymnasium
import pytest

from experiments.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "own_data.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
WORLDS = [
    (body, BLOCKS[i + 1][1])
    for i, (kind, body) in enumerate(BLOCKS)
    if "experiments world" in body and kind == "sh"
]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files, in which commands run."""
    shutil.copytree(DOCS / "own_data", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> int:
    *python, name, rest = line.split(maxsplit=4)
    assert python == ["python", "-m", "experiments"]
    return main([name, *shlex.split(rest)])


def test_making_a_world_prints_what_the_page_shows(shop: Path, capsys: pytest.CaptureFixture[str]):
    assert len(WORLDS) == 6
    for command, shown in WORLDS[:3]:
        failed = run(command)
        said = capsys.readouterr()
        assert (said.err if failed else said.out).strip() == shown.strip()
        assert bool(failed) == shown.startswith("error") == (not (shop / "my_world").exists())


def test_the_python_of_the_page_runs(shop: Path):
    code = next(body for kind, body in BLOCKS if kind == "python")
    names: dict[str, object] = {}
    exec(compile(code, "own_data.md", "exec"), names)
    env = names["env"]
    assert isinstance(env, gymnasium.Env)
    assert env.observation_space.contains(names["observation"])


def test_items_with_more_than_a_text_make_what_the_page_shows(
    shop: Path, capsys: pytest.CaptureFixture[str]
):
    code = next(body for kind, body in BLOCKS if kind == "python" and "covers" in body)
    exec(compile(code, "own_data.md", "exec"), {})
    for command, shown in WORLDS[3:]:
        assert run(command) == 0
        assert capsys.readouterr().out.strip() == shown.strip()


def test_the_first_lines_of_the_files_are_shown(shop: Path):
    for file in ("items.csv", "logs.tsv"):
        for line in (shop / file).read_text("utf-8-sig").splitlines()[:2]:
            assert f"\n{line}\n" in PAGE


@pytest.mark.slow
def test_agents_train_in_the_world_and_are_evaluated(
    shop: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(WORLDS[2][0]) == 0
    (commands,) = (body for kind, body in BLOCKS if kind == "sh" and "train ppo" in body)
    for line in commands.splitlines():
        assert run(line.replace("2e4", "2e3").replace("1000", "100")) == 0
    assert "10 test users" in capsys.readouterr().out
