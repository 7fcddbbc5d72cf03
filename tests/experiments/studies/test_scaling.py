import pytest

from experiments.studies.scaling import growth_table, measure_growth

SMALL = {"num_envs": 16, "num_items": 700, "num_users": 100, "candidates": 20, "dim": 16}


def test_growth_is_told_for_each_parameter():
    sizes = {"num_envs": (8, 32), "candidates": (20, 40)}
    rows = measure_growth(sizes, **SMALL)
    assert [row.parameter for row in rows] == ["num_envs", "candidates"]
    for row in rows:
        first, second = row.microseconds
        ratio = row.sizes[1] / row.sizes[0]
        assert second / first == pytest.approx(ratio**row.exponent)
    assert "8: " in str(growth_table(rows).rows[0][1])
