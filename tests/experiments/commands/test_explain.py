"""The command that tells which texts moved a slate."""

from __future__ import annotations

import pytest

from experiments.commands import explain

SMALL = {"encoder": "hashing", "num_items": 300, "num_users": 300, "candidates": 30, "dim": 16}


def test_the_parts_of_a_slate_are_told_and_drawn(tmp_path, capsys):
    parts = explain.run("content", user=9, step=5, texts=3, output=tmp_path, env=SMALL)
    told = capsys.readouterr().out
    assert parts.entries.shape[0] == 5
    assert "score" in told and "popularity" in told and "satisfied" in told
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"content-user-9-step-5.{kind}" for kind in ("pdf", "png", "svg")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "popular"}, "cannot tell which texts moved it; use one"),
        ({"user": 300}, "user=300 does not exist; allowed: 0 to 299"),
        ({"step": -1}, "step=-1"),
        ({"tokens": True}, "tokens need a transformer, not encoder='hashing'"),
    ],
)
def test_what_cannot_be_explained_is_named(tmp_path, changes, message):
    if "tokens" in changes:
        pytest.importorskip("captum", reason="needs the extra `explain`")
    asked = {"agent": "content", "user": 9, "step": 2} | changes
    with pytest.raises(ValueError, match=message):
        explain.run(**asked, output=tmp_path, env=SMALL)
