"""The main job end to end on a tiny world: tables, figures, report, resuming, refusals."""

from __future__ import annotations

import pytest

import llmrec_env
from experiments import store
from experiments.report.page import write_report
from experiments.runs.runner import RunOptions
from experiments.studies import benchmark

AGENTS = ("random", "content", "ppo", "oracle-planning")
TABLES = (*store.FILES.values(), store.SESSIONS)


@pytest.fixture(scope="module")
def tiny_env(tiny):
    return tiny


@pytest.fixture(scope="module")
def settings(tiny_env):
    return dict(agents=AGENTS, worlds=2, steps=4096, env=tiny_env)


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, benchmark.run(**settings, options=RunOptions(folder))


def test_the_order_of_agents_and_the_sizes_are_those_asked_for(run):
    _, rows = run
    assert [row.agent for row in rows] == list(AGENTS)
    assert {row.worlds for row in rows} == {2}
    assert {row.users for row in rows} == {12}  # 6 test users in each world of 60
    assert [row.train_steps for row in rows] == [0, 0, 4096, 0]
    assert rows[0].mean < rows[1].mean < rows[3].mean


def test_every_preset_leaves_out_the_task_that_differs_by_its_action_alone():
    for preset in benchmark.PRESETS.values():
        assert "llmrec/Weights-v1" not in preset.tasks and "llmrec/Drift-v1" in preset.tasks
    assert len(benchmark.PRESETS["full"].tasks) == len(llmrec_env.TASKS) - 1


def test_tables_figures_manifest_and_report_are_there(run):
    folder, rows = run
    assert store.read_table(folder, store.Row) == rows
    manifest = store.read_manifest(folder)
    assert [x["name"] for x in manifest["encoders"]] == ["hashing"]
    assert manifest["wall_seconds"] > 0
    assert manifest["command"][:1] != [__file__] and manifest["seconds"]["ppo"]["training"] > 0
    assert "oracle-planning" in write_report(folder).read_text(encoding="utf-8")
    kinds = ("leaderboard", "dynamics", "distribution", "improvement", "learning", "diversity")
    drawn = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert {f"llmrec-Drift-v1-{kind}" for kind in kinds} <= drawn


def test_no_text_of_a_user_is_in_the_results(run, world):
    folder, _ = run
    # The page and its figures look the texts of synthetic users up.
    files = [x for x in folder.rglob("*") if x.is_file() and x.name != store.REPORT]
    written = b"".join(x.read_bytes() for x in files if x.parent.name != "figures")
    assert not any(text.encode() in written for text in world.phrases.texts)


def test_a_run_in_two_parts_and_two_processes_writes_the_same_bytes(run, settings, tmp_path):
    folder, _ = run
    rows = benchmark.run(**settings, options=RunOptions(tmp_path, jobs=2))
    for path in sorted((tmp_path / store.RUNS).iterdir())[3:]:
        path.unlink()
    assert benchmark.run(**settings, options=RunOptions(tmp_path, resume=True)) == rows
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_other_settings_are_not_mixed_in(run, settings):
    folder, _ = run
    with pytest.raises(store.ResultsError, match=r"worlds was 2, now 1"):
        benchmark.run(**{**settings, "worlds": 1}, options=RunOptions(folder, resume=True))
    with pytest.raises(store.ResultsError, match="already holds"):
        benchmark.run(**settings, options=RunOptions(folder))


def test_a_dry_run_lists_the_runs_and_writes_nothing(settings, tmp_path, capsys):
    benchmark.run(**settings, options=RunOptions(tmp_path / "none"), dry_run=True)
    *specs, whole = capsys.readouterr().out.splitlines()
    assert len(specs) == 2 * len(AGENTS)
    assert "4,096 steps" in specs[2] and specs[2].endswith(" s")
    assert whole.startswith("8 runs (4 agents, 2 worlds), 8,192 steps")
    assert not (tmp_path / "none").exists()
