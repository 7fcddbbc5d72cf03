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
# # 4 Joint training, and what λ does
#
# The recommender `joint` learns from logs by L = λ1 · L_C + λ2 · L_T: what users choose of a slate, and whether it satisfies. Both read one
# relevance of texts and of collaborative factors. With λ1 = 0 there are no factors, with λ2 = 0 no texts. Run it from a clone
# with the extras `agents` and `render`.

# %%
import matplotlib.pyplot as plt
import numpy as np

from experiments.runs.evaluation import execute_run
from experiments.runs.spec import RunSpec
from experiments.statistics.intervals import improvement_if_defined
from experiments.statistics.leaderboard import scores_of

USERS = 200
WEIGHTS = {"both": (1.0, 1.0), "no clicks: λ1 = 0": (0.0, 1.0), "no texts: λ2 = 0": (1.0, 0.0)}


def played(agent, **settings):
    """Learns from the logs of world 0 and plays with test users; returns the sessions."""
    spec = RunSpec("llmrec/Drift-v1", agent, world=0, users=USERS, settings=settings)
    return execute_run(spec).episodes


sessions = {"drift-aware": played("drift-aware")}
for name, (click, text) in WEIGHTS.items():
    sessions[name] = played("joint", click=click, text=text)
for name, episodes in sessions.items():
    print(f"{name:20} {np.mean([x.ret for x in episodes]):6.2f}")

# %% [markdown]
# ## Is it clear?
#
# Intervals of 95 % of the relative difference to `both`, paired by users.

# %%
whole = scores_of(sessions["both"])
for name, episodes in sessions.items():
    if name != "both":
        share = improvement_if_defined(scores_of(episodes), whole)
        print(f"{name:20} {share.value:+.1%} [{share.low:+.1%}, {share.high:+.1%}]")

# %% [markdown]
# ## Whom does which half serve?
#
# The same sessions user by user: a point above the line is a user who is better off with both halves.

# %%
returns = {name: np.array([x.ret for x in episodes]) for name, episodes in sessions.items()}
figure, panels = plt.subplots(1, 2, figsize=(9, 4.5), sharex=True, sharey=True)
for axes, name in zip(panels, [*WEIGHTS][1:]):
    axes.scatter(returns[name], returns["both"], s=8, alpha=0.6)
    top = max(x.max() for x in returns.values())
    axes.plot([0, top], [0, top], color="0.5", linewidth=0.8)
    better = np.mean(returns["both"] > returns[name])
    axes.set(title=f"{better:.0%} are better off", xlabel=f"return, {name}")
panels[0].set_ylabel("return, both halves")
figure.tight_layout()

# %% [markdown]
# What a half is worth depends on the user: factors serve those of strong taste, texts everybody, and most those of weak taste ([joint](../results/joint.md)).
#
# **To try.** `env={"off": ["taste"]}` in `RunSpec`: without taste the collaborative half should be worth nothing. `env={"catalog": "movielens"}`, where clicks say more.
