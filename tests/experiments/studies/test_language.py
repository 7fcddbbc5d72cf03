"""The study of language training on a tiny world."""

from __future__ import annotations

import csv

import pytest

from experiments.runs.runner import RunOptions
from experiments.studies import language
from experiments.studies.study import Scale


def test_variants_stand_beside_their_start_and_the_environment(tiny, tmp_path):
    """The tiny world's users live in hashed texts: who reads these anew reads the same."""
    names = (language.REFERENCE, "hashing", "hashing + training")
    rows = language.run(
        names, env=tiny, scale=Scale(1, users=4), options=RunOptions(output=tmp_path)
    )
    by_name = {row.name: row for row in rows}
    assert tuple(by_name) == names
    assert by_name["hashing"].returns == by_name[language.REFERENCE].returns
    assert by_name["hashing"].start is None and by_name["hashing"].reference is not None
    assert by_name[language.REFERENCE].reference is None
    assert by_name["hashing + training"].start is not None
    with (tmp_path / "language.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3


def test_an_unknown_variant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'hashing'"):
        language.run(("hashin",), options=RunOptions(output=tmp_path))
