import pytest

from experiments.studies import throughput

SMALL = {"encoder": "hashing", "num_items": 300, "num_users": 200, "candidates": 20}


def test_an_agent_that_learns_from_logs_is_timed_while_it_acts():
    assert throughput.acting_speed("content", steps=2, **SMALL) > 100


def test_an_agent_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"'contents'.*Did you mean 'content'"):
        throughput.acting_speed("contents")
