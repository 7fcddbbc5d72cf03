"""The registry of agents: it agrees with the classes, and everything else reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agents import AGENTS, make_agent
from agents.agent_spec import AgentSpec
from agents.base import OnlineAgent
from agents.registry import defaults_of, summary_table
from experiments.commands import train
from experiments.runs.cost import seconds_of
from experiments.studies.study import Scale, plan_runs
from llmrec_env.config import EnvConfig

ROOT = Path(__file__).parents[2]


class Toy:
    """An online learner that counts the steps it is given."""

    name, observation, action = "toy", "dict", "slate"

    def __init__(self, seed: int = 0, rate: float = 0.0) -> None:
        self.seed, self.rate, self.steps = seed, rate, 0
        self.on_steps = self.log_folder = None

    def fit(self, env, num_steps):
        self.learn(env, num_steps, 0, 0)

    def learn(self, env, num_steps, segment, done):
        self.steps += num_steps
        return num_steps

    def act(self, observation, episode_starts):
        return np.tile(np.arange(5), (len(observation["candidates"]), 1))

    def state(self):
        return {"steps": self.steps}

    def restore(self, state):
        self.steps = state["steps"]

    def save(self, path):
        raise NotImplementedError

    def load(self, weights, env):
        raise NotImplementedError


@pytest.fixture
def toy(monkeypatch):
    spec = AgentSpec("toy", Toy, "counts", learns="online", defaults={"rate": 0.5})
    monkeypatch.setitem(AGENTS, "toy", spec)
    return spec


@pytest.mark.parametrize("name", list(AGENTS))
def test_what_is_said_of_an_agent_is_so(name):
    spec, agent = AGENTS[name], make_agent(name, EnvConfig())
    assert agent.name == spec.name == name
    if isinstance(agent, OnlineAgent):
        assert spec.learns == "online" and spec.trained_with_seeds
    assert json.loads(json.dumps(defaults_of(name))) == defaults_of(name)


def test_an_online_learner_of_one_entry_gets_its_budget_and_its_seeds(toy):
    specs = plan_runs(("llmrec/Drift-v1",), ("content", "toy"), Scale(1, None, 5_000, 3), {})
    assert [(spec.agent, spec.seed, spec.train_steps) for spec in specs] == [
        ("content", 0, 0),
        *(("toy", seed, 5_000) for seed in range(3)),
    ]
    assert seconds_of(specs[1]) > seconds_of(specs[0])
    assert make_agent("toy", EnvConfig()).rate == 0.5
    assert make_agent("toy", EnvConfig(), rate=0.1).rate == 0.1


def test_training_gives_an_online_learner_its_steps(toy, tiny, tmp_path, monkeypatch):
    agents = []
    monkeypatch.setattr(train, "save_agent", lambda agent, *_: agents.append(agent))
    train.run("toy", steps=3_000, env=tiny, output=tmp_path / "toy")
    assert agents[0].steps == 3_000


def test_an_online_learner_that_is_listed_as_another_is_refused(monkeypatch):
    monkeypatch.setitem(AGENTS, "toy", AgentSpec("toy", Toy, "counts", learns="logs"))
    with pytest.raises(ValueError, match=r"'toy' learns by environment steps.*learns='online'"):
        make_agent("toy", EnvConfig())


def test_the_table_imports_no_framework():
    code = "import sys, agents; assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_readme_shows_the_table():
    assert summary_table() in (ROOT / "README.md").read_text()


def test_unknown_agents_and_settings_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'popular'"):
        make_agent("populr", EnvConfig())
    with pytest.raises(ValueError, match="does not take"):
        make_agent("content", EnvConfig(), rank=3)
