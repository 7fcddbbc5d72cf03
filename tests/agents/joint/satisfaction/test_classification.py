"""The classification report and temperature scaling, on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from agents.joint.satisfaction.classification import evaluate, fit_temperature


def test_report_of_numbers_worked_out_by_hand():
    report = evaluate([0.9, 0.8, 0.6, 0.4, 0.3, 0.1], [1, 1, 0, 1, 0, 0], bins=3)
    assert report.accuracy == pytest.approx(4 / 6)
    assert report.precision == pytest.approx(2 / 3) and report.recall == pytest.approx(2 / 3)
    assert report.f1 == pytest.approx(2 / 3) and report.auc == pytest.approx(8 / 9)
    assert [tuple(x) for x in report.reliability] == [
        pytest.approx((0.2, 0.0, 2)),
        pytest.approx((0.5, 0.5, 2)),
        pytest.approx((0.85, 1.0, 2)),
    ]
    assert report.calibration_error == pytest.approx((0.2 + 0.0 + 0.15) / 3)
    losses = -np.log([0.9, 0.8, 0.4, 0.4, 0.7, 0.9])
    assert report.log_loss == pytest.approx(losses.mean())


def test_equal_predictions_are_evaluated_as_one():
    one, other = (evaluate([0.5] * 40, np.roll([0] * 20 + [1] * 20, by)) for by in (0, 7))
    assert one == other and one.calibration_error == 0 and one.auc == 0.5


def test_no_predicted_yes_has_no_precision():
    report = evaluate([0.1, 0.2], [0, 1], bins=1)
    assert np.isnan(report.precision) and report.recall == 0 and report.f1 == 0


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_is_found_and_calibrates(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    z = rng.random(20_000) < expit(logits)
    fitted = fit_temperature(logits * temperature, z)
    assert fitted == pytest.approx(temperature, rel=0.05)
    before = evaluate(expit(logits * temperature), z).calibration_error
    after = evaluate(expit(logits * temperature / fitted), z).calibration_error
    assert after < 0.015 < 0.05 < before


@pytest.mark.parametrize(
    ("probability", "outcome"),
    [([0.5], [1, 0]), ([0.5, 1.2], [0, 1]), ([0.5, np.nan], [0, 1]), ([0.5, 0.6], [1, 1])],
)
def test_predictions_that_cannot_be_evaluated_are_refused(probability, outcome):
    with pytest.raises(ValueError):
        evaluate(probability, outcome, bins=1)
