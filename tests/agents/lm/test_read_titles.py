"""The script of the docs that lets a model read titles before it learns from logs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[3] / "docs" / "read_titles.py"


def test_a_model_that_has_read_the_titles_finds_them_likelier(tiny_lm, tmp_path, monkeypatch):
    from agents.lm.causal import CausalModel

    titles = [f"tea in town number {number}" for number in range(64)]
    items = tmp_path / "items.csv"
    items.write_text("text,title\n" + "".join(f"all about {x},{x}\n" for x in titles), "utf-8")
    words = [str(tiny_lm), str(tmp_path / "read"), "--catalog", str(items), "--epochs", "8"]
    monkeypatch.setattr(sys, "argv", ["read_titles.py", *words])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    asked = [f" {title}" for title in titles]
    before, after = (
        CausalModel(str(model)).log_likelihoods("", asked) for model in (tiny_lm, tmp_path / "read")
    )
    assert np.mean(after - before) > 0.5
