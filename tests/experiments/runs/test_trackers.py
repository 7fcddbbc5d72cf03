"""Trainings can be followed in TensorBoard, and in W&B without its server."""

from __future__ import annotations

import os

import pytest

from experiments.runs.spec import RunSpec
from experiments.runs.evaluation import execute_run
from experiments.runs.trackers import tracker

SETTINGS = {"n_steps": 8, "batch_size": 256, "n_epochs": 1}


@pytest.fixture
def spec(tiny):
    return RunSpec("llmrec/Drift-v0", "ppo", 0, 1, 1024, env=tiny, settings=SETTINGS)


def test_tensorboard_gets_our_numbers_and_those_of_the_algorithm(spec, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = execute_run(spec, folder=tmp_path, track=("tensorboard",))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == "llmrec-Drift-v0-ppo-w0-s1"
    found = {}
    for file in folder.rglob("events.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    ((steps, value),) = found["validation/return"]
    assert [[steps, pytest.approx(value)]] == result.learning
    assert "train/loss" in found and "time/fps" in found


def test_following_changes_nothing(spec, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    followed = execute_run(spec, folder=tmp_path, track=("tensorboard",))
    assert followed.episodes == execute_run(spec).episodes


def test_nothing_is_written_unasked(spec, tmp_path):
    execute_run(spec, folder=tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_missing_package_is_named_with_its_extra(spec, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(ImportError, match=r"llmrec-env\[track\]"),
        tracker(tmp_path, spec, ("tensorboard",)),
    ):
        pass


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_wandb_keeps_a_run_to_be_sent_later(spec, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed; it is in no extra")
    monkeypatch.setenv("WANDB_SILENT", "true")
    execute_run(spec, folder=tmp_path, track=("wandb",))
    runs = [name for name in os.listdir(tmp_path / "wandb") if name.startswith("offline-run")]
    assert len(runs) == 1
    assert list((tmp_path / "wandb" / runs[0]).glob("*.wandb"))
