"""The digest of the code tells edits of kernels and agents from edits of comments."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import agents
import llmrec_env
from experiments.store.machine import code_digest


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets the digest read a copy of the sources."""
    for package in (llmrec_env, agents):
        copy = tmp_path / package.__name__
        shutil.copytree(package.__path__[0], copy, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(package, "__path__", [str(copy)])
    return tmp_path


@pytest.mark.parametrize(
    "file", ["agents/item_noise.py", "llmrec_env/config.py", "llmrec_env/simulation/noise.py"]
)
def test_an_edit_changes_the_digest_and_a_comment_does_not(copied: Path, file: str) -> None:
    digest, source = code_digest.__wrapped__(), (copied / file).read_text()
    (copied / file).write_text(f"# above\n{source}\n# below\n")
    assert code_digest.__wrapped__() == digest
    (copied / file).write_text(f"{source}\nADDED = 1\n")
    assert code_digest.__wrapped__() != digest
