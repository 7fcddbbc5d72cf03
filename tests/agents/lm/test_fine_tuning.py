"""Fine-tuning of `lm-rank`: what is learnt from logs, how it is kept, and that it earns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_causal import save_tiny_causal, torch

from agents.checkpoint import load_agent, save_agent
from agents.lm import fine_tuning
from agents.lm.causal import CausalModel
from agents.lm.fine_tuning import Example
from agents.lm.rank import LmRank
from agents.rankers.baselines import Random
from agents.rollout import rollout
from llmrec_env.content.encoders import WeightsError
from llmrec_env.simulation.logging_policy import split_of

pytest.importorskip("peft", reason="peft is not installed")

LEARNING: dict[str, Any] = {
    "device": "cpu",
    "batch_size": 64,
    "history": 200,
    "epochs": 2,
    "learning_rate": 1e-2,
    "rank": 4,
}


@pytest.fixture(scope="module")
def new_agent(toy_model: str) -> Any:
    return lambda **settings: LmRank(model=toy_model, **(LEARNING | settings))


@pytest.fixture(scope="module")
def env(new_toy: Any) -> Any:
    return new_toy(4, observation="dict", num_users=60)


def _fitted(agent: LmRank, env: Any) -> LmRank:
    agent.fit(env, 0)
    return agent


def _loss(agent: LmRank, env: Any) -> float:
    with torch.no_grad():
        return float(fine_tuning._loss(agent.lm, agent.clicks(env.config)[0]))


def test_the_loss_is_that_of_the_endings_alone_in_any_company(tiny_lm):
    lm = CausalModel(tiny_lm, device="cpu", batch_size=2)
    pairs = [("liked tea\n+", " trains"), ("a much longer past\n+", " tea and jazz"), ("x", " y")]
    examples = [
        Example(np.array(lm.encode(a), np.int32), np.array(lm.continuation(b), np.int32))
        for a, b in pairs
    ]
    with torch.no_grad():
        found = float(fine_tuning._loss(lm, examples))
    lengths = [len(example.ending) for example in examples]
    sums = [lm.log_likelihoods(a, [b])[0] * n for (a, b), n in zip(pairs, lengths, strict=True)]
    assert found == pytest.approx(-sum(sums) / sum(lengths), abs=1e-4)


def test_examples_are_titles_that_satisfied_behind_what_was_known_then(new_agent, env):
    agent = _fitted(new_agent(epochs=0), env)
    logs, (examples, users) = agent.data.logs, agent.clicks(env.config)
    assert len(examples) == len(users) == (logs.feedback == 1).sum()
    user, step, _ = (column[0] for column in np.nonzero(logs.feedback == 1))
    texts = [agent.lm.text(example.prompt.tolist()) for example in examples]
    own = [i for i in np.flatnonzero(users == user)]
    title = agent.lm.text(examples[own[0]].ending.tolist())
    assert title.strip() == agent.writer.titles[logs.items[user, step]]
    assert not any(f"+ {title.strip()}\n" in texts[i] for i in own[:1])
    assert all(f"+{title}" in texts[i] for i in own[1:])
    some, _ = new_agent(epochs=0, examples=5), None
    assert len(_fitted(some, env).clicks(env.config)[0]) == 5


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_what_satisfied_becomes_likelier_and_a_saved_agent_acts_as_before(
    new_agent, env, mode, tmp_path
):
    before = _loss(_fitted(new_agent(epochs=0), env), env)
    agent = _fitted(new_agent(mode=mode), env)
    assert _loss(agent, env) < before - 0.1
    weights, again = agent.weights(), _fitted(new_agent(mode=mode), env).weights()
    assert all((again[name] == weight).all() for name, weight in weights.items())
    other = _fitted(new_agent(mode=mode, seed=1), env).weights()
    assert any((other[name] != weight).any() for name, weight in weights.items())
    assert all("lora" in name for name in weights if mode == "lora" and "sha256" not in name)
    save_agent(agent, env.config, tmp_path)
    loaded, (observation, _) = load_agent(tmp_path, env), env.reset(seed=0)
    np.testing.assert_array_equal(loaded.scores(observation), agent.scores(observation))


def test_changes_of_one_model_are_not_put_into_another(new_agent, env, tmp_path):
    agent = _fitted(new_agent(epochs=1, examples=20), env)
    agent.model = str(save_tiny_causal(tmp_path / "lm", seed=1))
    save_agent(agent, env.config, tmp_path / "agent")
    with pytest.raises(WeightsError, match="not the one that this agent was fine-tuned from"):
        load_agent(tmp_path / "agent", env)


def test_a_loss_that_is_not_finite_names_the_learning_rate(new_agent, env, monkeypatch):
    monkeypatch.setattr(fine_tuning, "_loss", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(FloatingPointError, match=r"lm-rank with learning_rate=0\.01: the loss is"):
        new_agent().fit(env, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"mode": "qlora"}, "mode"), ({"epochs": -1}, "epochs=-1"), ({"examples": -2}, "examples=")],
)
def test_settings_out_of_range_are_refused(new_agent, settings, said):
    with pytest.raises(ValueError, match=said):
        new_agent(**settings)


@pytest.mark.slow
def test_it_learns_from_logs_what_users_like(new_agent, new_toy):
    users = np.flatnonzero(~split_of(np.arange(200), "train"))
    play = new_toy(40, observation="dict", recall="uniform", warmup_slates=16, split="all")
    agents = [new_agent(mode="full", epochs=9, learning_rate=5e-3), new_agent(epochs=0), Random()]
    returns = [rollout(_fitted(agent, play), play, users, 5).reward.sum(1) for agent in agents]
    print(f"fine-tuned, untrained, random: {[x.mean().round(2) for x in returns]}")
    for other in returns[1:]:
        gain = returns[0] - other
        assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5 > 0
