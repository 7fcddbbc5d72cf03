"""The notebooks of docs/notebooks run from the first cell to the last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))


def test_the_page_names_every_notebook():
    page = (DOCS / "notebooks.md").read_text("utf-8")
    assert re.findall(r"\(notebooks/(\w+\.py)\)", page) == [path.name for path in NOTEBOOKS]


def test_a_notebook_is_text_and_code_of_a_title_and_a_task():
    for path in NOTEBOOKS:
        cells = re.split(r"^# %%", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
        assert cells[0].startswith(f" [markdown]\n# # {path.name[0]} ")
        assert cells[-1].startswith(" [markdown]") and "**To try.**" in cells[-1]
        assert len(cells) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))  # the kernel is another process
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own keeps pictures
    notebook = jupytext.read(path)
    run = client.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": tmp_path}})
    run.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs) or "2_" in path.stem
