from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.simulation import elementary
from llmrec_env.simulation.compilation import kernel

EPSILON = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def _over(function):
    @kernel
    def loop(x, out):
        for i in range(x.shape[0]):
            out[i] = function(x[i])

    return loop


def _errors(name, x, kind):
    """The result, and what numpy says in float64."""
    x = x.astype(kind)
    out = np.empty_like(x)
    _over(getattr(elementary, name))(x, out)
    return x.astype(np.float64), out.astype(np.float64)


@pytest.mark.parametrize(("name", "kind", "low", "high"), [
    ("exp32", np.float32, -87.0, 88.0), ("exp64", np.float64, -708.0, 709.0),
])  # fmt: skip
def test_exponentials_are_right_to_the_last_bits_and_cut_beyond(name, kind, low, high):
    x, out = _errors(name, np.linspace(low, high, 200_000), kind)
    np.testing.assert_allclose(out, np.exp(x), rtol=2 * EPSILON[kind])
    _, cut = _errors(name, np.array([-1e30, low, 0.0, high, 1e30]), kind)
    assert cut[0] == cut[1] > 0 and cut[2] == 1.0 and cut[3] == cut[4] < np.inf


@pytest.mark.parametrize(("name", "kind", "most"), [
    ("log32", np.float32, 87.0), ("log64", np.float64, 708.0),
])  # fmt: skip
def test_logarithms_are_right_to_the_last_bits_next_to_one_too(name, kind, most):
    nearby = 1.0 - 2.0 ** -np.arange(1.0, 24 if kind == np.float32 else 53)
    for x in (np.exp(np.linspace(-most, most, 200_000)), nearby, np.linspace(1.001, 3.0, 9999)):
        x, out = _errors(name, x, kind)
        np.testing.assert_allclose(out, np.log(x), rtol=2 * EPSILON[kind])
    assert getattr(elementary, name)(kind(1.0)) == 0.0


@pytest.mark.parametrize(("name", "reference", "low", "high"), [
    ("sine_of_turn", lambda t: np.sin(2 * np.pi * t), -0.25, 0.25),
    ("cosine_of_turn", lambda t: np.cos(2 * np.pi * t), -0.5, 0.5),
    ("tanh32", np.tanh, 0.0, 60.0),
    ("one_minus_exp32", lambda x: 1 - np.exp(-x), 0.0, 200.0),
])  # fmt: skip
def test_bounded_functions_are_right_to_four_parts_in_ten_million(name, reference, low, high):
    x, out = _errors(name, np.linspace(low, high, 200_000), np.float32)
    np.testing.assert_allclose(out, reference(x), atol=4e-7)
