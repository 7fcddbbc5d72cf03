"""Relative improvements of a results folder, and the share of the oracles' lead."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import episodes_of

from experiments import store
from experiments.studies import improvement


@pytest.fixture
def folder(tmp_path):
    opened = store.open_folder(tmp_path / "run")
    level = {
        "drift-aware": 2.0,
        "joint": 3.0,
        "slateq": 4.0,
        "belief-oracle": 5.0,
        "oracle-planning": 6.0,
    }
    parts = 1.0 + 0.01 * np.arange(12)
    rows = [row for agent, mean in level.items() for row in episodes_of(agent, mean * parts)]
    store.write_table(opened, store.Episode, rows)
    return tmp_path / "run"


def test_improvements_are_relative_and_gaps_run_from_drift_aware_to_the_oracles(folder, capsys):
    (row,) = improvement.run(folder)
    assert row.over["drift-aware"].value == pytest.approx(1.0)
    assert row.over["joint"].value == pytest.approx(1.0 / 3.0)
    shares = {name: share.value for name, share in row.closed.items()}
    assert shares == pytest.approx({"belief-oracle": 2 / 3, "oracle-planning": 0.5})
    assert "+33.3 % [+33.3, +33.3]" in (folder / "improvement.md").read_text()
    printed = capsys.readouterr().out
    assert "66.7 % [66.7, 66.7]" in printed and "50.0 % [50.0, 50.0]" in printed


def test_an_agent_that_is_not_there_is_named(folder):
    with pytest.raises(ValueError, match=r"'slatq'.*Did you mean 'slateq'"):
        improvement.run(folder, agents=("slatq",))


def test_ceilings_may_have_played_fewer_users(folder, tmp_path):
    opened = store.open_folder(tmp_path / "bounds")
    few = [x for x in store.read_table(folder, store.Episode) if x.user < 5]
    mean = {"drift-aware": 2.0, "belief-oracle": 5.0}
    store.write_table(opened, store.Episode, [x for x in few if x.agent in mean])
    (row,) = improvement.run(folder, ceilings=tmp_path / "bounds")
    assert row.over["joint"].value == pytest.approx(1.0 / 3.0)
    assert row.closed.keys() == {"belief-oracle"}
    assert row.closed["belief-oracle"].value == pytest.approx(2 / 3)


def test_a_session_of_the_ceilings_that_the_agent_lacks_is_named(folder, tmp_path):
    opened = store.open_folder(tmp_path / "bounds")
    more = [episodes_of(name, 1.0 + np.arange(14)) for name in ("drift-aware", "oracle-planning")]
    store.write_table(opened, store.Episode, [x for rows in more for x in rows])
    with pytest.raises(ValueError, match=r"lacks a \(world, user\): 2 missing"):
        improvement.run(folder, ceilings=tmp_path / "bounds")
