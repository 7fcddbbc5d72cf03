"""Bands are stacked without gaps, and labels stay inside them and inside their width."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from llmrec_env.envs.bands import fit, roomiest, stack, text_width


def test_bands_lie_on_each_other_and_are_as_wide_as_their_weights() -> None:
    weights = np.random.default_rng(0).random((3, 5))
    lower, upper = stack(weights)
    np.testing.assert_allclose(upper - lower, weights)
    np.testing.assert_allclose(lower[1:], upper[:-1], atol=1e-12)
    assert not lower[0].any()


def test_a_label_goes_where_a_band_stays_widest() -> None:
    lower, upper = np.array([0.0, 0.0, 0.5, 0.0, 0.0]), np.array([1.0, 3.0, 3.0, 2.0, 0.1])
    assert roomiest(lower, upper, 1) == (1, 0.0, 3.0)
    assert roomiest(lower, upper, 2) == (1, 0.5, 3.0)
    assert roomiest(lower, upper, 5) == (0, 0.5, 0.1)


@pytest.mark.parametrize("text", ["a rather long title that does not fit at all", "W" * 40])
def test_texts_are_cut_to_their_width(text: str) -> None:
    lines = fit(text, 6.0, 60.0, 2)
    assert len(lines) == len(text.split()[:2])
    assert lines[-1].endswith("…")
    assert all(text_width(line, 6.0) <= 60.0 for line in lines)
    assert fit("short", 6.0, 60.0, 2) == ["short"]
