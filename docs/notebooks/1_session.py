# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 A session step by step
#
# A user of a recommender, looked at from inside: what the user is into, what a slate does, and how far what is observed lies from it.
# It needs `pip install "llmrec-env[render]"` and nothing else; the first step compiles the simulator, about half a minute.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np

import llmrec_env  # registers the tasks
from llmrec_env.metrics import tracking_error

env = gym.make("llmrec/Drift-v1", render_mode="ansi", info_texts=True)
observation, info = env.reset(seed=3)
print("observation:", env.observation_space)
print("action:     ", env.action_space)
print(env.unwrapped.describe())

# %% [markdown]
# What `describe` tells is hidden from agents. They see `observation`: public history, encoded. An action names K of the C candidates
# offered. Let us show three random slates.

# %%
env.action_space.seed(0)
for _ in range(3):
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    print(f"reward {reward:.2f}; {'; '.join(info['events']) or 'nothing changed'}")
print(env.render())

# %% [markdown]
# ## A better agent
#
# The candidates come with eight features, of which the first is the cosine between the text of the candidate and what the user liked so
# far. Showing the five nearest is the simplest content ranker. `observation="dict"` names the parts.

# %%
env = gym.make("llmrec/Drift-v1", observation="dict")
core = env.unwrapped


def nearest(observation):
    """Shows the five candidates whose texts are nearest to the past."""
    return np.argsort(-observation["candidate_features"][:, 0])[:5]


def session(choose, seed):
    """Plays a session; returns rewards, angles to the true interests, and interest weights."""
    observation, _ = env.reset(seed=seed)
    rewards, angles, weights, done = [], [], [], False
    while not done:
        simulator = core.simulator
        truth, history = simulator.interests(), simulator.histories["recent"]
        angles.append(tracking_error(truth, history)[0])
        user = simulator.users[0]
        shares = np.where(user["active"] == 1, np.exp(user["weight"]), 0.0)
        weights.append(dict(zip(user["phrase"].tolist(), (shares / shares.sum()).tolist())))
        observation, reward, terminated, truncated, _ = env.step(choose(observation))
        rewards.append(reward)
        done = terminated or truncated
    return np.array(rewards), np.array(angles), weights


env.action_space.seed(0)
rewards, angles, weights = session(nearest, seed=3)
random_rewards, _, _ = session(lambda _: env.action_space.sample(), seed=3)
print(f"nearest: return {rewards.sum():.1f} in {len(rewards)} steps")
print(f"random:  return {random_rewards.sum():.1f} in {len(random_rewards)} steps")

# %% [markdown]
# ## Interests, and the angle to them
#
# Above, the share of each interest: a band that ends is an interest that died or fell asleep. Below, the angle between
# the true interests and the recent history that every agent is given: 0° is known exactly, 90° is nothing. It jumps when an interest is replaced.

# %%
phrases = sorted({phrase for step in weights for phrase in step})
shares = np.array([[step.get(phrase, 0.0) for step in weights] for phrase in phrases])
shown = shares.max(axis=1) > 0
texts = [core.simulator.world.phrases.texts[p] for p in np.array(phrases)[shown]]
figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, height_ratios=(2, 1))
top.stackplot(np.arange(len(weights)), shares[shown], labels=texts)
top.set(ylabel="share of the user's interest", ylim=(0, 1))
top.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
bottom.plot(angles)
bottom.set(xlabel="step", ylabel="tracking error, degrees", ylim=(0, 90))
figure.tight_layout()

# %% [markdown]
# **To try.** Another seed; `switch_rate=0.12`; `off=["drift"]`, after which the bands stop moving; the second feature, the cosine to the *recent* past, in
# `nearest`. One session says little: the next notebooks compare agents on hundreds.
