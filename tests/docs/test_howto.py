"""docs/HOWTO.md does what it says: its blocks are applied to a copy of the project, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = re.split(r"^## ", (ROOT / "docs/HOWTO.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
FILES = {
    "An agent": 2,
    "An online learner": 2,
    "Stable-Baselines3 on a belief": 0,
    "An algorithm, tested where information is no limit": 0,
    "A user in words": 0,
    "An explanation": 0,
    "Logs with propensities": 0,
    "A mechanism": 3,
    "A task": 1,
    "An encoder": 2,
    "A catalogue": 0,
    "An observation block": 1,
    "A reward": 2,
}
"""Files that each addition touches, its own new ones included."""
COMPILED_ANEW = ("A mechanism", "An observation block")
"""They change compiled code, and wait for it a minute."""
SLOW = (*COMPILED_ANEW, "An explanation")  # which learns `joint` and loads an encoder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("llmrec_env", "agents", "experiments", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def applied(diff: str, text: str) -> str:
    """Returns the text with the lines of a diff replaced: context and `-` by context and `+`."""
    before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] in " -")
    after = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] in " +")
    assert text.count(before) == 1, f"the page names lines that are not there once:\n{before}"
    return text.replace(before, after)


def run(command: list[str], project: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(project)}
    command = [sys.executable, *command]
    answer = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]


@pytest.mark.parametrize(
    "title",
    [pytest.param(title, marks=pytest.mark.slow if title in SLOW else ()) for title in FILES],
)
def test_what_a_section_says_works(title: str, project: Path) -> None:
    section = next(section for section in SECTIONS if section.startswith(f"{title}\n"))
    touched = set()
    for kind, body in re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
        path = re.match(r"# (\S+\.py)\n", body)
        if path:
            touched.add(path[1])
        if kind == "diff":
            assert path
            file = project / path[1]
            file.write_text(applied(body[path.end() :], file.read_text("utf-8")), "utf-8")
        elif kind == "python" and path:
            (project / path[1]).write_text(body, "utf-8")
        elif kind == "python":
            run(["-c", body], project)
        else:
            assert kind == "sh"
            for line in body.splitlines():
                program, *arguments = re.findall(r'"[^"]*"|\S+', line)
                assert program == "python"
                run([argument.strip('"') for argument in arguments], project)
    assert len(touched) == FILES[title]


def test_every_section_is_tried() -> None:
    titles = [section.splitlines()[0] for section in SECTIONS]
    assert [title for title in titles if "```" in SECTIONS[titles.index(title)]] == list(FILES)
