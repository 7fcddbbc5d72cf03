"""Compiled code reads through a table what the arrays hold, and calls the stages it names."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.table import Layout, Table, call

POINT = np.dtype([("x", np.int32), ("y", np.float32)])
LAYOUT = Layout(
    arrays={"cube": (np.float32, 3), "points": (POINT, 1)},
    records={"wide": POINT},
    numbers=("scale", "stage"),
)
array, record, table_of = LAYOUT.array, LAYOUT.record, LAYOUT.of


@kernel
def fill(words):
    """Writes a different number into every place of the cube, and moves the points."""
    table = table_of(words)
    cube, points = array(table, "cube"), array(table, "points")
    for a in range(cube.shape[0]):
        for b in range(cube.shape[1]):
            for c in range(cube.shape[2]):
                cube[a, b, c] = table.scale * (100 * a + 10 * b + c)
    for j in range(points.shape[0]):
        points[j].x = j
        record(table, "wide", j).y = 0.5 * j


@kernel
def refuse_odd(table, i):
    """A stage that raises for some sessions."""
    if i % 2 == 1:
        raise ValueError("odd")
    return 10 * i


@kernel
def call_stage(words, i):
    table = table_of(words)
    return call(table.stage, table, i)


def test_compiled_code_reads_and_writes_the_arrays_of_a_table():
    cube, points = np.zeros((2, 3, 4), np.float32), np.zeros(5, POINT)
    wide = np.zeros(
        5, np.dtype({"names": ["y"], "formats": ["f4"], "offsets": [4], "itemsize": 64})
    )
    fill(Table(LAYOUT, scale=2).enter(cube=cube, points=points, wide=wide).words)
    expected = 2 * np.add.outer(np.add.outer([0, 100], [0, 10, 20]), np.arange(4))
    np.testing.assert_array_equal(cube, expected)
    assert points["x"].tolist() == list(range(5))
    assert wide["y"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cube": np.zeros((2, 3, 4))},
        {"cube": np.zeros((2, 3), np.float32)},
        {"cube": np.zeros((2, 3, 4), np.float32).T},
        {"wide": np.zeros(2, np.int32)},
    ],
)
def test_an_array_that_compiled_code_would_misread_is_refused(wrong):
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} of a table cannot be"):
        Table(LAYOUT).enter(**wrong)


def test_a_stage_is_called_and_what_it_raises_is_raised():
    table = Table(LAYOUT).enter_stages(stage=refuse_odd)
    assert call_stage(table.words, 4) == 40
    with pytest.raises(ValueError, match="odd"):
        call_stage(table.words, 3)


def test_a_table_keeps_its_arrays_and_other_tables_alive():
    inner = Table(LAYOUT)
    array = np.zeros((1, 1, 1), np.float32)
    outer = Table(Layout({}, {"inner": LAYOUT.dtype})).enter(inner=inner.enter(cube=array))
    assert outer._kept["inner"]._kept["cube"] is array
