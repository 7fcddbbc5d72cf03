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
# # 5 Does planning pay? And with a mechanism of your own
#
# `oracle-myopic` and `oracle-planning` see the hidden state of users. The first shows the best slate for the step, the second also weighs what consumption does
# to what comes. The difference is what planning is worth *at best*. Run it from a clone with the extras `agents` and `render`.

# %%
import matplotlib.pyplot as plt
import numpy as np

from agents.rollout import rollout
from experiments.runs.spec import RunSpec, environment, fitted_agent, users_of
from experiments.statistics.intervals import Scores, improvement_if_defined

USERS = 200


def returns(agent_name, watch_of=None, **env):
    """Plays with test users of world 0; returns the return of each."""
    spec = RunSpec("llmrec/Drift-v1", agent_name, world=0, env=env)
    users = users_of(spec)[:USERS]
    world = environment(spec, fitted_agent(spec), len(users), "test")
    watch = watch_of(world) if watch_of else None
    return rollout(fitted_agent(spec), world, users, seed=1, watch=watch).reward.sum(axis=1)


def worth_of_planning(**changes):
    """Returns the paired relative improvement of the planning over the myopic oracle."""
    planning, myopic = (returns(f"oracle-{x}", **changes) for x in ("planning", "myopic"))
    return improvement_if_defined(Scores.of(planning), Scores.of(myopic))


# %% [markdown]
# ## Which mechanism makes it pay?

# %%
cases = {
    "as it is": {},
    "no goodwill": {"off": ["goodwill"]},
    "no satiation": {"off": ["satiation"]},
    "no influence": {"off": ["influence"]},
    "none of the three": {"off": ["goodwill", "satiation", "influence"]},
}
worth = {name: worth_of_planning(**env) for name, env in cases.items()}
for name, share in worth.items():
    print(f"{name:20} {share.value:+.1%} [{share.low:+.1%}, {share.high:+.1%}]")

# %% [markdown]
# ## A mechanism of your own
#
# `rollout` calls a function before every step, which may read the hidden state, and change it. Here users are annoyed by being *shown* clickbait,
# clicked or not: each such item on the last slate costs patience. It is a sketch, in Python; [HOWTO](../HOWTO.md#a-mechanism) writes a mechanism into
# the simulator, where it is fast and has a parameter.


# %%
def annoyance(cost):
    """Returns what makes a watcher that takes patience for clickbait on the last slate."""

    def watcher(env):
        simulator = env.simulator
        substance = simulator.world.traits["substance"]

        def watch(t, running, observation):
            if t:
                shown = simulator.responses["slate"]
                bait = (substance[np.maximum(shown, 0)] < -0.3) & (shown >= 0)
                simulator.users["patience"][running] -= cost * bait.sum(axis=1)[running]

        return watch

    return watcher


costs = (0.0, 0.1, 0.2)
with_mechanism = [worth_of_planning(watch_of=annoyance(cost)) for cost in costs]
for cost, share in zip(costs, with_mechanism):
    print(f"annoyance {cost:.1f}: {share.value:+.1%} [{share.low:+.1%}, {share.high:+.1%}]")

# %% [markdown]
# The planning oracle does not know of the mechanism; it avoids clickbait for the sake of goodwill, and is spared the annoyance by that alone.

# %%
bars = worth | {f"annoyance {x:.1f}": y for x, y in zip(costs[1:], with_mechanism[1:])}
middle = np.array([x.value for x in bars.values()])
ends = np.array([[x.value - x.low, x.high - x.value] for x in bars.values()]).T
figure, axes = plt.subplots(figsize=(7, 4))
axes.barh([*bars], 100 * middle, xerr=100 * ends, color="0.75")
axes.axvline(0, color="0.3", linewidth=0.8)
axes.set_xlabel("planning over the myopic oracle, % (95 % intervals)")
axes.invert_yaxis()
figure.tight_layout()

# %% [markdown]
# **To try.** A mechanism with memory: let patience fall by how often *this session* has seen clickbait. One that only planning can serve: patience that grows with
# the diversity of the last five slates.
