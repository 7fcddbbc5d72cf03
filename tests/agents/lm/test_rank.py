"""`lm-rank`: the past as it is read, scores of a session by itself, and the whole command."""

from __future__ import annotations

import numpy as np
import pytest

from agents.checkpoint import load_agent, save_agent
from agents.lm.rank import LmRank
from agents.rankers.ranker import UNAVAILABLE
from experiments.cli import main


@pytest.fixture(scope="module")
def ranked(tiny_lm, new_vec):
    env = new_vec(3, observation="dict")
    agent = LmRank(model=str(tiny_lm), device="cpu", batch_size=32, history=300)
    agent.fit(env, 0)
    return agent, env


def test_the_past_is_read_oldest_first_and_ends_before_the_next_item(ranked):
    agent, env = ranked
    observation, _ = env.reset(seed=0)
    titles = agent.data.catalog.titles
    prompt = agent.prompt(observation, 0)
    newest = next(i for i in observation["recent_items"][0] if i >= 0)
    assert prompt.startswith("What a user") and prompt.endswith("satisfied by:\n+")
    lines = prompt.split("typed):\n")[1].split("\nWhat the user takes")[0].splitlines()
    told = [line for line in lines if titles[newest] in line]
    assert lines.index(told[-1]) >= len(lines) - 5
    assert sum(map(len, lines)) <= 300


def test_a_past_longer_than_the_model_reads_is_cut(ranked):
    agent, env = ranked
    observation, _ = env.reset(seed=0)
    agent.history, room, agent._room = 10_000, agent._room, 700
    try:
        assert len(agent.lm.encode(agent.prompt(observation, 0))) <= 700
    finally:
        agent.history, agent._room = 300, room


def test_scores_are_likelihoods_less_those_without_a_past(ranked):
    agent, env = ranked
    observation, _ = env.reset(seed=0)
    ids = observation["candidates"][1]
    titles = [f" {agent.writer.titles[item]}" for item in ids]
    with_past = agent.lm.log_likelihoods(agent.prompt(observation, 1), titles)
    without = agent._without_past(ids)
    scores = agent.scores(observation)
    np.testing.assert_allclose(scores[1], with_past - without, atol=1e-5)
    assert np.unique(scores[1]).size > 10


def test_a_session_is_scored_by_itself_and_missing_candidates_come_last(ranked):
    agent, env = ranked
    observation, _ = env.reset(seed=0)
    observation = {name: block.copy() for name, block in observation.items()}
    observation["candidates"][2, :4] = -1
    every = agent.scores(observation)
    one = agent.scores({name: block[2:] for name, block in observation.items()})
    np.testing.assert_array_equal(one[0], every[2])
    assert (every[2, :4] == UNAVAILABLE).all()
    assert len(set(agent.act(observation, np.ones(3, bool))[2]) & {0, 1, 2, 3}) == 0


def test_a_saved_agent_acts_as_before(ranked, tmp_path):
    agent, env = ranked
    observation, _ = env.reset(seed=0)
    save_agent(agent, env.config, tmp_path)
    again = load_agent(tmp_path, env)
    starts = np.ones(3, bool)
    np.testing.assert_array_equal(again.act(observation, starts), agent.act(observation, starts))


def test_the_command_line_takes_the_directory(tiny, tiny_lm, tmp_path, capsys):
    fields = {name.replace("_", "-"): value for name, value in tiny.items()} | {"horizon": 3}
    options = [part for name, value in fields.items() for part in (f"--env.{name}", str(value))]
    options += ["--users", "2", "--output", str(tmp_path)]
    assert main(["evaluate", "lm-rank", "--against", "random", *options]) == 1
    assert "model='' is not a directory" in capsys.readouterr().err
    assert main(["evaluate", "lm-rank", "--set", f"model={tiny_lm}", *options]) == 0
    printed = capsys.readouterr().out.split("Cost of a session")[1].splitlines()
    (cost,) = (line for line in printed if "lm-rank" in line)
    assert int(cost.replace(",", "").split()[-1].strip("│ ")) > 1000, "tokens of three steps"
