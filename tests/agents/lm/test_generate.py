"""`lm-generate`: answers in the text environment, of any model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_causal import save_tiny_causal

from agents.checkpoint import load_agent, save_agent
from agents.lm.generate import LmGenerate
from agents.rollout import rollout

TEXT = {"observation": "text", "action": "text", "candidates": 6, "text_budget": 900}


@pytest.fixture(scope="module")
def generating(tmp_path_factory, new_vec):
    """It reads letter by letter."""
    model = save_tiny_causal(tmp_path_factory.mktemp("lm"), max_position_embeddings=1024)
    env = new_vec(3, **TEXT)
    agent = LmGenerate(model=str(model), device="cpu", max_new_tokens=4)
    agent.fit(env, 0)
    return agent, env


def test_it_plays_whole_sessions_whatever_it_says(generating):
    agent, env = generating
    episodes = rollout(agent, env, np.arange(3), 0)
    assert episodes.alive[:, 0].all() and (episodes.slate[episodes.alive] >= 0).all()


def test_what_it_says_is_what_the_environment_reads(generating, monkeypatch):
    agent, env = generating
    prompts, _ = env.reset(seed=0)
    monkeypatch.setattr(agent.lm, "answers", lambda texts, _: ["5, 4, 3, 2, 1"] * len(texts))
    *_, infos = env.step(agent.act(prompts, np.ones(3, bool)))
    assert not infos["parse_error"].any()


def test_a_session_does_not_depend_on_the_others(generating):
    agent, env = generating
    prompts, _ = env.reset(seed=0)
    every = agent.act(prompts, np.ones(3, bool))
    assert [agent.act(prompts[i : i + 1], np.ones(1, bool))[0] for i in range(3)] == list(every)


def test_a_saved_agent_acts_as_before(generating, tmp_path):
    agent, env = generating
    prompts, _ = env.reset(seed=0)
    save_agent(agent, env.config, tmp_path)
    again = load_agent(tmp_path, env)
    starts = np.ones(3, bool)
    assert list(again.act(prompts, starts)) == list(agent.act(prompts, starts))
    assert json.loads((tmp_path / "config.json").read_text())["config"]["max_new_tokens"] == 4


def test_a_chat_template_is_used_where_it_is_asked_for(generating):
    agent, _ = generating
    agent.lm.tokenizer.chat_template = "[{{ messages[0]['content'] }}]"
    agent.chat = True
    try:
        assert agent.prompt("Hello") == "[Hello]"
    finally:
        agent.chat = False
    assert agent.prompt("Hello") == "Hello"
