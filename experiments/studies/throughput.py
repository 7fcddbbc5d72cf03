"""Throughput in environment steps a second: one session, batches, and inside PPO."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

import llmrec_env  # noqa: F401, registers the environments
from agents.registry import make_agent, spec_of
from experiments.report.text_tables import Table, number, print_tables
from experiments.studies.scaling import growth_table, measure_growth, sampled_actions
from llmrec_env.config import EnvConfig
from llmrec_env.envs.spaces import infos_of
from llmrec_env.envs.vector import RecVectorEnv

_BATCH, _LARGE_BATCH = 1024, 8192
_REPEATS = 5


def run(
    encoder: str = "hashing",
    items: tuple[int, ...] = (1000, 4000, 20_000),
    ppo: bool = True,
    agents: tuple[str, ...] = (),
    scaling: bool = False,
) -> dict[str, float]:
    """Measures and prints environment steps a second on one core; resets are part of it.

    Args:
        encoder: the vectors' values do not matter to the speed.
        items: sizes of the catalogue.
        ppo: also time PPO on 64 environments against one that does nothing.
        scaling: instead measure how the cost of a step grows with each size.
        agents: names of agents that need no environment steps to learn, whose acting is timed.

    Raises:
        ValueError: there is no such agent.
    """
    before = os.getloadavg()[0]
    if scaling:
        growths = measure_growth()
        print_tables(growth_table(growths))
        return {f"exponent of {row.parameter}": row.exponent for row in growths}
    speeds: dict[str, float] = {}
    for n in items:
        size: dict[str, Any] = {"encoder": encoder, "num_items": n}
        whole = size | {"candidates": 0, "slate_size": 10}
        offered = f"batch of {_BATCH}, 100 candidates of {n}"
        speeds[f"single, all {n} items"] = single_speed(**whole)
        speeds[f"batch of {_BATCH}, all {n} items"] = batch_speed(_BATCH, **whole)
        speeds[f"{offered}, weights"] = batch_speed(_BATCH, action="weights", **size)
        speeds[f"{offered}, slate"] = batch_speed(_BATCH, **size)
    whole = {"encoder": encoder, "num_items": items[0], "candidates": 0, "slate_size": 10}
    for threads, speed in thread_speeds(_LARGE_BATCH, **whole).items():
        speeds[f"batch of {_LARGE_BATCH}, all {items[0]} items, threads={threads}"] = speed
    if ppo:
        speeds |= ppo_speeds(encoder=encoder, num_items=items[0])
    for name in agents:
        speeds[f"acting: {name}, {_BATCH} sessions, CPU time"] = acting_speed(name, encoder=encoder)
    rows = [[name, number(speed, decimals=0)] for name, speed in speeds.items()]
    load = f"load average {before:.2f} before, {os.getloadavg()[0]:.2f} after"
    title = f"medians of {_REPEATS} runs on one of {os.cpu_count()} cores, {load}"
    print_tables(Table(["K = 10 where all items are offered, else 5", "steps/s"], rows, title))
    return speeds


def single_speed(steps: int = 20_000, **kwargs: Any) -> float:
    """Returns steps a second of one environment, as `gymnasium.make` gives it without wrappers."""
    env = gymnasium.make("llmrec/Drift-v1", **kwargs).unwrapped
    actions = sampled_actions(env.action_space, 64)

    def rollout() -> int:
        env.reset(seed=0)
        for t in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[t % len(actions)])
            if terminated or truncated:
                env.reset()
        return steps

    return _median_speed(rollout)


def batch_speed(num_envs: int, steps: int = 60, **kwargs: Any) -> float:
    """Returns environment steps a second of a native batch; ended sessions restart."""
    env = gymnasium.make_vec("llmrec/Drift-v1", num_envs=num_envs, **kwargs).unwrapped
    actions = sampled_actions(env.action_space, 8)

    def rollout() -> int:
        env.reset(seed=0)
        for t in range(steps):
            env.step(actions[t % len(actions)])
        return steps * num_envs

    return _median_speed(rollout)


def thread_speeds(num_envs: int, steps: int = 8, **kwargs: Any) -> dict[int, float]:
    """Returns environment steps a second of a native batch with one thread and with two.

    The two run in turn, so that a change of the machine's load meets both; resets are left out.
    """
    make: Any = partial(gymnasium.make_vec, "llmrec/Drift-v1", num_envs=num_envs)
    envs = {threads: make(threads=threads, **kwargs).unwrapped for threads in (1, 2)}
    actions = sampled_actions(envs[1].action_space, steps)
    times: dict[int, list[float]] = {threads: [] for threads in envs}
    for _ in range(1 + _REPEATS):
        for threads, env in envs.items():
            env.reset(seed=0)
            started = time.perf_counter()
            for action in actions:
                env.step(action)
            times[threads].append(time.perf_counter() - started)
    for env in envs.values():
        env.close()
    steps_of_all = steps * num_envs
    return {threads: steps_of_all / float(np.median(t[1:])) for threads, t in times.items()}


def acting_speed(name: str, steps: int = 30, **kwargs: Any) -> float:
    """Returns how often an agent acts in a second of CPU, 100 candidates each; steps are left out.

    It learns from the logs of `llmrec/Drift-v1` first; sessions that end restart.
    """
    agent = make_agent(name, EnvConfig(**kwargs), **spec_of(name).defaults)
    modes: dict[str, Any] = {"observation": agent.observation, "action": agent.action}
    env: Any = gymnasium.make_vec("llmrec/Drift-v1", num_envs=_BATCH, **kwargs | modes).unwrapped
    agent.fit(env, 0)
    speeds = []
    for _ in range(1 + _REPEATS):
        observation, _ = env.reset(seed=0)
        starts, seconds = np.ones(_BATCH, np.bool_), 0.0
        for _ in range(steps):
            started = time.process_time()
            actions = agent.act(observation, starts)
            seconds += time.process_time() - started
            observation, _, terminated, truncated, _ = env.step(actions)
            starts = terminated | truncated
        speeds.append(steps * _BATCH / seconds)
    env.close()
    return float(np.median(speeds[1:]))  # the first compiles and warms up


def _median_speed(rollout: Any) -> float:
    rollout()  # compiles and warms up
    speeds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        count = rollout()
        speeds.append(count / (time.perf_counter() - started))
    return float(np.median(speeds))


class DoNothing(RecVectorEnv):
    """The spaces of RecVectorEnv and none of its work: what is left is the algorithm's own time."""

    def step(self, actions: npt.ArrayLike) -> Any:
        """Returns fresh zeros; no session ever ends."""
        n = self.num_envs
        observations = np.zeros(self.observation_space.shape or (), np.float32)
        infos = infos_of(self.simulator, slice(None))
        return observations, np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_), infos


def ppo_speeds(steps: int = 32_768, **kwargs: Any) -> dict[str, float]:
    """Returns the speed of PPO with SB3's defaults on 64 environments, ours and one doing nothing.

    The two run in turn, so that a change of the machine's load meets both.
    """
    import torch
    from stable_baselines3 import PPO

    from llmrec_env.sb3 import Sb3VecEnv

    torch.set_num_threads(1)
    speeds: dict[str, list[float]] = {"PPO on 64 sessions": [], "PPO on 64 doing nothing": []}
    for _ in range(3):
        for name, kind in zip(speeds, (RecVectorEnv, DoNothing), strict=True):
            env = kind(64, autoreset_mode="same_step", action="weights", **kwargs)
            model = PPO("MlpPolicy", Sb3VecEnv(env), n_steps=128, seed=0, device="cpu")
            started = time.perf_counter()
            model.learn(steps)
            speeds[name].append(steps / (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in speeds.items()}
