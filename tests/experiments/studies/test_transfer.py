"""Agents of one world in another, end to end on a tiny world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import store
from experiments.runs.runner import RunOptions
from experiments.store import Episode
from experiments.studies import study, transfer
from experiments.studies.study import Scale

AGENTS = ("content", "drift-aware", "ease", "joint")
SHIFTS = ("world", "switching", "catalogue")


@pytest.fixture(scope="module")
def moved(tiny: dict[str, Any], tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    how = {"agents": AGENTS, "env": tiny, "scale": Scale(worlds=2, users=3)}
    transfer.run(shifts=("world",), options=RunOptions(output=folder), **how)
    again = RunOptions(output=folder, resume=True)
    return folder, transfer.run(shifts=SHIFTS, options=again, **how)


def _lines(folder, start):
    page = (folder / "transfer.md").read_text("utf-8")
    return [line for line in page.splitlines() if line.startswith(start)]


def test_every_agent_is_judged_after_every_shift(moved):
    folder, found = moved
    assert [(x.shift, x.agent) for x in found] == [(s, a) for s in SHIFTS for a in AGENTS]
    by_agent = {(x.shift, x.agent): x for x in found}
    kept = by_agent["switching", "joint"]
    assert kept.kept.value == pytest.approx(kept.transferred.value / kept.native.value)
    assert by_agent["world", "content"].transferred is None  # it does not learn
    assert len(_lines(folder, "| world |")) == 5
    assert "not trained" in _lines(folder, "| world |")[1]
    assert _lines(folder, "**Kendall's tau")
    assert (folder / "transfer.csv").is_file() and (folder / "figures" / "transfer.svg").is_file()


def test_what_is_of_items_alone_is_not_defined_among_others(moved):
    folder, found = moved
    ease = {x.shift: x for x in found if x.agent == "ease"}
    assert ease["catalogue"].transferred is None and ease["world"].transferred is not None
    kept = 1  # the second table
    assert "not defined" in _lines(folder, "| catalogue |")[kept]
    assert "not defined" not in _lines(folder, "| world |")[kept]


def test_both_play_the_same_users(moved):
    folder, _ = moved
    places: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for x in store.read_table(folder, Episode):
        places.setdefault((x.task, x.agent), set()).add((x.world, x.user))
    assert places["home", "joint"] == places["world from home", "joint"]
    assert places["switching", "joint"] == places["switching from home", "joint"]
    assert len(places["home", "joint"]) == 6
    assert not {("world", "joint"), ("world from home", "content")} & places.keys()


def test_an_agent_moves_to_the_next_world_and_is_another_than_who_is_at_home(moved):
    returns: dict[str, list[float]] = {}
    for x in store.read_table(moved[0], Episode):
        if x.agent == "ease":
            returns.setdefault(x.task, []).append(x.ret)
    for shift, native in (("world", "home"), ("switching", "switching")):
        assert len(returns[native]) == len(returns[f"{shift} from home"]) == 6
        assert returns[native] != returns[f"{shift} from home"]
    home = study.plan_runs(("llmrec/Drift-v1",), AGENTS, Scale(worlds=3), {}, label="home")
    moves = {x.world: transfer._neighbour(x, home).world for x in home}
    assert moves == {0: 2, 1: 0, 2: 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shifts": ("cascades",)}, r"Unknown shift 'cascades'\. Did you mean 'cascade'"),
        ({"scale": Scale(worlds=1)}, "needs another world than home; set --worlds 2"),
        ({"rival": "ppo"}, "rival='ppo' learns online"),
        ({"agents": ("contnt",)}, "Did you mean 'content'"),
        ({"task": "llmrec/Static-v1", "shifts": ("switching",)}, "'switching' changes nothing"),
        ({"env": {"switch_rate": 0.5}, "shifts": ("switching",)}, "switch_rate=1.5 is out of"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_runs(changes, said, tmp_path: Path):
    folder = tmp_path / "none"
    with pytest.raises(ValueError, match=said):
        transfer.run(**changes, options=RunOptions(output=folder))
    assert not folder.exists()
