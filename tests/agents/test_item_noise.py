"""Noise of items: of the item and the key alone, and Gumbel distributed."""

from __future__ import annotations

import numpy as np

from agents.item_noise import gumbel_of_items, new_keys

EULER = 0.5772156649


def test_an_item_has_its_number_wherever_it_stands() -> None:
    keys = new_keys(np.random.default_rng(0), 3)
    ids = np.tile(np.arange(50, dtype=np.int32), (3, 1))
    noise = gumbel_of_items(keys, ids)
    np.testing.assert_array_equal(gumbel_of_items(keys, ids[:, ::-1].copy()), noise[:, ::-1])
    assert len(np.unique(noise)) == noise.size


def test_the_numbers_are_gumbel_distributed() -> None:
    keys = new_keys(np.random.default_rng(1), 400)
    noise = gumbel_of_items(keys, np.tile(np.arange(500, dtype=np.int32), (400, 1)))
    assert abs(noise.mean() - EULER) < 0.01
    assert abs(noise.std() - np.pi / 6**0.5) < 0.01
