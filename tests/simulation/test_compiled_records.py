from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.interface.history import HISTORY
from llmrec_env.simulation.records import aligned, in_whole_lines


@pytest.mark.parametrize("shape", [(1, 16), (7,), (5, 3), (40, 128)])
def test_an_aligned_copy_begins_at_a_cache_line_and_is_its_own(shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for source in (array, array[..., ::-1], np.asfortranarray(array)):
        copy = aligned(source)
        np.testing.assert_array_equal(copy, source)
        assert copy.ctypes.data % 64 == 0 and copy.flags.c_contiguous and copy.flags.writeable
        assert copy.dtype == np.float32 and not np.shares_memory(copy, source)


def test_records_in_whole_lines_keep_their_fields_and_end_with_a_line():
    fields = [("a", np.int8), ("b", np.float32, (20,))]
    kind = in_whole_lines(fields)
    assert kind.itemsize == 128 and kind.fields == np.dtype(fields).fields
    assert in_whole_lines(kind) == kind and HISTORY.itemsize % 64 == 0


def test_vectors_of_sessions_begin_at_cache_lines(new_simulator):
    simulator = new_simulator(3, dim=48)
    items, interests = simulator.world.items, simulator.world.interests
    arrays = (items.vectors, items.factors, interests.vectors, simulator.users)
    assert [array.ctypes.data % 64 for array in arrays] == [0] * 4
    for name in ("interest", "recent"):  # 48 numbers are three lines
        assert simulator.histories[name].ctypes.data % 64 == 0
