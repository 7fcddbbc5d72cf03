"""The config: what it minimises, when it stops, going on bit for bit, several processes."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from agents.neural.trainer import TrainConfig, fit

ROOT = Path(__file__).parents[3]
CONFIG = TrainConfig(epochs=6, batch_size=32, learning_rate=0.05, patience=10)
X = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.3


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.linear, self.drop = nn.Linear(3, 1), nn.Dropout(0.2)

    def loss(self, rows):
        return (self.linear(self.drop(X[rows]))[:, 0] - Y[rows]).square().mean()


def run(config=CONFIG, **more):
    model = Line()
    whole = np.arange(128)
    progress = fit(model, 128, model.loss, lambda: float(model.loss(whole)), config, **more)
    return model, progress


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_learns_and_keeps_the_best_weights():
    model, progress = run()
    assert progress.epoch == 6 and len(progress.train_loss) == 6
    assert progress.best == min(progress.validation_loss) < 0.5 * progress.validation_loss[0]
    assert float(model.loss(np.arange(128)).detach()) == pytest.approx(progress.best)
    assert not model.training


def test_it_stops_when_validation_gains_no_more():
    model, calls = Line(), iter([1.0, 0.5, 0.6, 0.7, 0.8, 0.1])
    config = dataclasses.replace(CONFIG, patience=1)
    kept = []
    progress = fit(
        *(model, 128, model.loss, lambda: next(calls), config),
        on_epoch=lambda _: kept.append(weights(model)),
    )
    assert progress.epoch == 4 and progress.best == 0.5
    torch.testing.assert_close(weights(model), kept[1], rtol=0, atol=0)


def test_it_goes_on_bit_for_bit(tmp_path):
    model, progress = run()
    path = tmp_path / "state.pt"

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.epoch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run(checkpoint=path, on_epoch=kill)
    torch.rand(5)  # other draws in between
    again, other = run(checkpoint=path)
    assert other == progress
    torch.testing.assert_close(weights(again), weights(model), rtol=0, atol=0)


def test_a_seed_decides_and_the_callers_rng_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model = Line()
    torch.manual_seed(3)
    fit(model, 128, model.loss, lambda: 0.0, CONFIG)
    torch.testing.assert_close(torch.rand(2), expected)
    other, _ = run(dataclasses.replace(CONFIG, seed=1))
    assert (weights(other) != weights(run()[0])).any()


def test_checkpoints_of_other_trainings_and_broken_ones_are_refused(tmp_path):
    path = tmp_path / "state.pt"
    run(checkpoint=path)
    with pytest.raises(
        ValueError, match=r"state.pt: was trained by another configuration; delete it"
    ):
        run(dataclasses.replace(CONFIG, seed=5), checkpoint=path)
    with pytest.raises(ValueError, match=r"trained on other data or with other settings"):
        run(checkpoint=path, identity="other")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"state.pt: not a checkpoint of this model .*; delete it"):
        run(checkpoint=path)


def test_a_loss_that_is_not_finite_stops_with_the_best_weights():
    model, seen = Line(), []

    def loss(rows):
        seen.append(weights(model))
        return model.loss(rows) * (math.nan if len(seen) > 9 else 1.0)

    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 2; .* learning_rate"):
        fit(model, 128, loss, lambda: -float(len(seen)), CONFIG)
    torch.testing.assert_close(weights(model), seen[8], rtol=0, atol=0)  # after two whole epochs


def test_groups_have_their_own_rates():
    model = Line()
    start = weights(model)
    groups = [
        {"params": [model.linear.weight], "rate": 0.0},
        {"params": [model.linear.bias]},
    ]
    fit(model, 128, model.loss, lambda: 0.0, CONFIG, groups=groups)
    torch.testing.assert_close(weights(model)[:3], start[:3], rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    script = f"""
import json, os, sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import test_trainer as t
t.nn.Dropout = lambda share: t.nn.Identity()  # processes draw different random numbers
_, progress = t.run()
if os.environ.get("RANK", "0") == "0":
    print(json.dumps(vars(progress)))
"""
    path = tmp_path / "train.py"
    path.write_text(script)

    def curve(*command):
        done = subprocess.run(
            [sys.executable, *command, str(path)], capture_output=True, text=True, timeout=120
        )
        return json.loads(done.stdout.splitlines()[-1])

    one = curve()
    two = curve("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29541")
    assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)
    assert one["validation_loss"] == pytest.approx(two["validation_loss"], rel=1e-4)
