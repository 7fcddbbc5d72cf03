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
# # 3 Train PPO and read its curve
#
# Stable-Baselines3's PPO learns which of 32 named recipes fills the slate at each step (`action="recipe"`). It needs
# `pip install "llmrec-env[agents,render]"`.

# %%
import matplotlib.pyplot as plt
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from llmrec_env.sb3 import make_sb3_env

TASK = "llmrec/Drift-v1"
env = make_sb3_env(TASK, num_envs=64, seed=0, action="recipe")
print(env.observation_space, env.action_space)

# %% [markdown]
# ## What to measure, and on whom
#
# The return that SB3 prints is that of an exploring policy on training users. What counts is the policy without
# exploration, on users that it does not learn from: 200 validation users, the same at each look.


# %%
def returns(act, env):
    """Plays one session with each user of an environment; returns the return of each."""
    env.seed(7)
    observation = env.reset()
    total, running = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while running.any():
        observation, reward, done, _ = env.step(act(observation))
        total += reward * running
        running &= ~done
    return total


class Curve(BaseCallback):
    """Measures the policy after every few updates."""

    def __init__(self, every, users):
        super().__init__()
        self.every, self.points = every, []
        self.validation = make_sb3_env(TASK, num_envs=users, split="validation", action="recipe")

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        if self.num_timesteps % self.every == 0:
            self.measure()

    def _on_training_end(self):
        self.measure()

    def measure(self):
        """Adds (steps, return of each validation user)."""
        act = lambda x: self.model.predict(x, deterministic=True)[0]
        self.points.append((self.num_timesteps, returns(act, self.validation)))


curve = Curve(every=6 * 64 * 64, users=200)
model = PPO(
    "MlpPolicy",
    env,
    seed=0,
    n_steps=64,
    batch_size=1024,
    n_epochs=5,
    gamma=0.98,
    learning_rate=1e-3,
)
model.learn(150_000, callback=curve)
steps = [step for step, _ in curve.points]
means = np.array([x.mean() for _, x in curve.points])
print([f"{x:.1f}" for x in means])

# %% [markdown]
# ## Something to compare with
#
# The zero action of `llmrec/Weights-v1` is a ranking by texts that nobody trained. The sessions have the same seeds, so that users and
# randomness are those of above.

# %%
weights = make_sb3_env("llmrec/Weights-v1", num_envs=200, split="validation")
ranking = returns(lambda x: np.zeros((len(x), 8), np.float32), weights)
error = ranking.std() / np.sqrt(len(ranking))
print(f"ranking by texts: {ranking.mean():.2f} ± {error:.2f} (one standard error)")

# %% [markdown]
# ## Reading it
#
# The blue band is one standard error of the *difference* to the first point: users differ widely, but they are the same at every look, so
# that differences are better known than levels.

# %%
differences = np.array([x - curve.points[0][1] for _, x in curve.points])
spread = differences.std(axis=1) / np.sqrt(differences.shape[1])
figure, axes = plt.subplots(figsize=(7, 4))
axes.axhspan(ranking.mean() - error, ranking.mean() + error, color="0.9")
axes.axhline(ranking.mean(), color="0.5", linestyle="--", label="ranking by texts")
axes.plot(steps, means, marker="o", label="PPO on recipes")
axes.fill_between(steps, means - spread, means + spread, alpha=0.2)
axes.set(xlabel="environment steps of training", ylabel="return, validation users")
axes.legend()
figure.tight_layout()
print(f"learnt: {differences[-1].mean():+.2f} ± {spread[-1]:.2f}")
print(f"against the ranking: {(curve.points[-1][1] - ranking).mean():+.2f}")

# %% [markdown]
# A curve that rises says that something was learnt, not that it is good: look where the dashed line is. And one training is one sample of
# trainings: before you say that an algorithm gains, train with several seeds.
# `python -m experiments benchmark --agents drift-aware ppo --seeds 5` does it, on test users that have chosen nothing.
#
# **To try.** `gamma=0`, the bandit: what does the future bring? `llmrec/Weights-v1`, where PPO begins at the dashed line. `privileged_observation=True`: is it
# the algorithm or the information that is short?
