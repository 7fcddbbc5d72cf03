from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel

DRAWS = 200_000


@kernel
def over_draws(key, first, out):
    for i in range(out.shape[0]):
        out[i] = noise.uniform(key, first + i)


@kernel
def over_steps(session, draw, out):
    for i in range(out.shape[0]):
        out[i] = noise.uniform(noise.step_key(session, i), draw)


@kernel
def over_keys(draw, out):
    for i in range(out.shape[0]):
        out[i] = noise.uniform(noise.step_key(np.uint64(i), 0), draw)


@kernel
def normals(key, out):
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1] = noise.normal(key, 2 * i), noise.normal(key, 2 * i + 1)


def _numbers(axis: str, draw: int = 0) -> np.ndarray:
    out = np.empty(DRAWS)
    if axis == "draws":
        over_draws(np.uint64(12345), draw, out)
    elif axis == "steps":
        over_steps(np.uint64(12345), draw, out)
    else:
        over_keys(draw, out)
    return out


@pytest.mark.parametrize("axis", ["draws", "steps", "keys"])
def test_uniform_is_uniform_along_draws_steps_and_keys(axis):
    numbers = _numbers(axis)
    assert 0.0 < numbers.min() and numbers.max() < 1.0
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    counts = np.bincount((numbers * 64).astype(int), minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-3


def _independent(first: np.ndarray, second: np.ndarray) -> bool:
    cells = (first * 8).astype(int) * 8 + (second * 8).astype(int)
    table = np.bincount(cells, minlength=64).reshape(8, 8)
    return stats.chi2_contingency(table).pvalue > 1e-4


@pytest.mark.parametrize("axis", ["draws", "steps", "keys"])
@pytest.mark.parametrize("lag", [1, 2, 64])
def test_neighbouring_numbers_are_independent(axis, lag):
    numbers = _numbers(axis)
    assert _independent(numbers[:-lag], numbers[lag:])


@pytest.mark.parametrize("axis", ["steps", "keys"])
@pytest.mark.parametrize("other", [noise.SATISFACTION, noise.WAKE, noise.SWITCH, noise.CANDIDATES])
def test_different_draws_of_one_step_are_independent(axis, other):
    first, second = _numbers(axis, noise.CHOICE), _numbers(axis, other)
    assert _independent(first, second)


def test_the_same_place_gives_the_same_number_always():
    key = noise.step_key(np.uint64(7), 3)
    assert int(key) == 18082564949089933013  # frozen: a change here changes every published result
    assert noise.uniform(key, 5) == noise.uniform(key, 5)
    assert noise.uniform(key, 5) != noise.uniform(key, 6)
    assert noise.step_key(np.uint64(7), 3) != noise.step_key(np.uint64(7), 4)
    assert noise.step_key(np.uint64(7), -1) != noise.step_key(np.uint64(8), -1)


def test_uniform_never_reaches_its_bounds():
    """The key whose 64 bits are all ones is found by running the mixing backwards."""
    mask = 2**64 - 1

    def unshift(z: int, by: int) -> int:
        x = z
        for _ in range(64 // by + 1):
            x = z ^ (x >> by)
        return x & mask

    for bits, golden in ((mask, 0x9E3779B97F4A7C15), (0, 0x9E3779B97F4A7C15)):
        z = unshift(bits, 31) * pow(0x94D049BB133111EB, -1, 2**64) & mask
        z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
        key = (unshift(z, 30) - golden) & mask
        assert int(noise.mix(np.uint64((key + golden) & mask))) == bits
        assert 0.0 < noise.uniform(np.uint64(key), 0) < 1.0
        assert np.isfinite(noise.gumbel(np.uint64(key), 0))
        assert np.isfinite(noise.normal(np.uint64(key), 0))
        assert noise.below(np.uint64(key), 0, 10) == (9 if bits else 0)


def test_normal_numbers_are_standard_and_independent():
    pairs = np.empty((DRAWS, 2))
    normals(np.uint64(99), pairs)
    for column in pairs.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / DRAWS**0.5
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 4 / DRAWS**0.5


def test_below_is_uniform_over_its_integers():
    counts = np.bincount([noise.below(np.uint64(5), i, 7) for i in range(7000)], minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


def test_gumbel_is_gumbel():
    numbers = [noise.gumbel(np.uint64(6), i) for i in range(5000)]
    assert stats.kstest(numbers, "gumbel_r").pvalue > 1e-3


def test_places_of_different_uses_do_not_overlap():
    spans = {
        "choice": (noise.CHOICE, noise.CHOICE + 1),
        "satisfaction": (noise.SATISFACTION, noise.SATISFACTION + 1),
        "spontaneous": (noise.SPONTANEOUS, noise.SPONTANEOUS + 16),
        "wake": (noise.WAKE, noise.WAKE + 12),
        "switch": (noise.SWITCH, noise.SWITCH + 64 * 7),
        "refine": (noise.REFINE, noise.REFINE + 3),
        "query": (noise.QUERY, noise.QUERY + 13),
        "explore": (noise.EXPLORE, noise.EXPLORE + 1),
        "logged slate": (noise.LOGGED_SLATE, noise.LOGGED_SLATE + 64 + 2 * 400),
        "candidates": (noise.CANDIDATES, noise.CANDIDATES + 16 * 100_000),
    }
    ordered = sorted(spans.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered)), spans


def test_an_item_and_a_number_from_one_draw_are_uniform_and_independent():
    drawn = [noise.item_and_uniform(np.uint64(i), 3, 10) for i in range(20_000)]
    items, uniforms = np.array([x for x, _ in drawn]), np.array([x for _, x in drawn])
    assert 0.0 < uniforms.min() < 0.001 and 0.999 < uniforms.max() < 1.0
    np.testing.assert_allclose(np.bincount(items, minlength=10), 2000, rtol=0.1)
    np.testing.assert_allclose(np.histogram(uniforms, 10, (0, 1))[0], 2000, rtol=0.1)
    assert abs(np.corrcoef(items, uniforms)[0, 1]) < 0.03
