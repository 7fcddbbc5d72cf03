"""`lm-reinforce`: segments that repeat, gradients of answers alone, and learning on a toy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_causal import save_tiny_causal, torch

from agents.base import OnlineAgent
from agents.checkpoint import load_agent, save_agent
from agents.lm.reinforce import Answer, LmReinforce, discounted
from agents.rollout import rollout
from llmrec_env.content.encoders import WeightsError

pytest.importorskip("peft", reason="peft is not installed")

LEARNING: dict[str, Any] = {
    "max_new_tokens": 1,
    "batch_size": 256,
    "rank": 8,
    "steps": 8,
    "learning_rate": 0.02,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def new_text_toy(new_toy: Any) -> Any:
    text = {"observation": "text", "action": "text", "text_budget": 560}
    return lambda n, **changes: new_toy(n, **(text | changes))


@pytest.fixture
def new_agent(toy_model: str) -> Any:
    return lambda **settings: LmReinforce(model=toy_model, **(LEARNING | settings))


def test_it_is_an_online_agent_that_begins_as_the_model(new_agent):
    agent = new_agent()
    assert isinstance(agent, OnlineAgent)
    agent._prepare()
    assert all("lora" in name for name in agent._trained)
    tokens = torch.tensor([agent.lm.encode("Choose this user")])
    changed = agent.lm.model(tokens).logits
    with agent.lm.model.disable_adapter():
        torch.testing.assert_close(agent.lm.model(tokens).logits, changed)


def test_log_probabilities_are_those_of_the_written_tokens_alone(new_agent):
    agent = new_agent(temperature=0.5)
    agent._prepare()
    answers = [Answer([2, 9, 30, 41], [12, 3]), Answer([2, 8], [14]), Answer([2, 8, 9], [5, 6, 7])]
    logs, entropy = agent._log_probabilities(answers)
    for index, (prompt, written) in enumerate(answers):
        logits = agent.lm.model(torch.tensor([prompt + written])).logits[0] / 0.5
        rows = logits.log_softmax(1)[len(prompt) - 1 : -1]
        expected = sum(rows[i, token] for i, token in enumerate(written))
        torch.testing.assert_close(logs[index], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(entropy[index], -(rows.exp() * rows).sum(), atol=1e-3, rtol=1e-3)


def test_returns_are_discounted_up_to_the_end_of_a_session():
    rewards = np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 3.0]])
    ends = np.array([[False, True], [False, False], [False, False]])
    expected = [[3.0, 0.0], [4.0, 2.5], [4.0, 3.0]]
    np.testing.assert_allclose(discounted(rewards, ends, 0.5), expected)
    np.testing.assert_array_equal(discounted(rewards, ends, 0.0), rewards)


def test_better_answers_become_likelier(new_agent):
    agent = new_agent()
    agent._prepare()
    answers = [Answer([2, 9, 30], [12]), Answer([2, 9, 30], [13])]
    before = agent._log_probabilities(answers)[0].detach()
    agent._update(answers, torch.tensor([1.0, -1.0]))
    after = agent._log_probabilities(answers)[0].detach()
    assert after[0] - before[0] > 0 > after[1] - before[1]


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_segment_can_be_repeated_and_the_agent_saved(
    new_agent, new_text_toy, mode, assert_same, tmp_path
):
    settings = {"mode": mode, "steps": 2, "learning_rate": 1e-2}
    env = new_text_toy(3, autoreset_mode="same_step", horizon=3)
    agent, done = new_agent(**settings), []
    agent.on_steps = done.append
    assert agent.learn(env, 12, 0, 0) == 12 and done == [6, 12]
    state = agent.state()
    agent.learn(env, 6, 1, 12)
    again = new_agent(**settings)
    again.restore(state)
    again.learn(env, 6, 1, 12)
    assert_same(*({k: v.numpy() for k, v in a.state()["weights"].items()} for a in (agent, again)))
    assert any((agent.state()["weights"][k] != v).any() for k, v in state["weights"].items())
    play = new_text_toy(3)
    save_agent(agent, play.config, tmp_path)
    loaded, (prompts, _) = load_agent(tmp_path, play), play.reset(seed=0)
    starts = np.ones(3, bool)
    assert list(loaded.act(prompts, starts)) == list(agent.act(prompts, starts))


def test_a_loss_that_is_not_finite_leaves_the_agent_as_it_was(new_agent, new_text_toy, monkeypatch):
    env, agent = new_text_toy(2, autoreset_mode="same_step"), new_agent()
    agent._prepare()
    before = agent.state()["weights"]
    nan = (torch.full((16,), float("nan")), torch.zeros(16))
    monkeypatch.setattr(agent, "_log_probabilities", lambda _: nan)
    with pytest.raises(FloatingPointError, match=r"lower learning_rate=0\.02"):
        agent.learn(env, 16, 0, 0)
    assert all((agent._trained[name] == weight).all() for name, weight in before.items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"mode": "qlora"}, "mode"), ({"steps": 0}, "steps=0"), ({"gamma": 2}, "gamma=2")],
)
def test_settings_out_of_range_are_refused(new_agent, settings, said):
    with pytest.raises(ValueError, match=said):
        new_agent(**settings)


def test_changes_of_one_model_are_not_put_into_another(new_agent, new_text_toy, tmp_path):
    agent, env = new_agent(), new_text_toy(2)
    agent._prepare()
    save_agent(agent, env.config, tmp_path / "agent")
    other = save_tiny_causal(tmp_path / "lm", seed=1)
    agent.model = str(other)
    save_agent(agent, env.config, tmp_path / "moved")
    with pytest.raises(WeightsError, match="not the one that this agent was fine-tuned from"):
        load_agent(tmp_path / "moved", env)


@pytest.mark.slow
def test_it_learns_to_answer_and_earns_more(new_agent, new_text_toy):
    users, errors, returns = np.arange(160, 200), [], []
    agent = new_agent()

    def measure() -> None:
        env = new_text_toy(40, split="all")
        returns.append(rollout(agent, env, users, 5).reward.sum(axis=1))
        prompts, _ = env.reset(seed=9)
        errors.append(env.step(agent.act(prompts, np.ones(40, bool)))[-1]["parse_error"].mean())

    agent._prepare()
    measure()
    agent.fit(new_text_toy(16, autoreset_mode="same_step"), 7_680)
    measure()
    gain = returns[1] - returns[0]
    print(f"parse errors {errors}, returns {[x.mean() for x in returns]}")
    assert errors[0] > 0.5 and errors[1] < 0.05
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5 > 0
