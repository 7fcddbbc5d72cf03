"""The lines of docs/clients.md run, where their library is in the extra `all`."""

from __future__ import annotations

import runpy
from pathlib import Path

import gymnasium
import pytest

import llmrec_env

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs/try_client.py"))
INSTALLED = {
    "stable-baselines3": "stable_baselines3",
    "sb3-contrib": "sb3_contrib",
    "one file": "torch",
    "minari": "minari",
}


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Minari, what it would like to be told
def test_the_lines_run(name, tiny, monkeypatch, tmp_path):
    pytest.importorskip(INSTALLED[name], reason=f"{name} is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for task in llmrec_env.TASKS:
        for field, value in tiny.items():
            monkeypatch.setitem(gymnasium.spec(task).kwargs, field, value)
    exec(compile(SCRIPT["blocks"]()[name], "clients.md", "exec"), {})


@pytest.mark.slow
def test_rllib_trains_with_two_runners_in_processes_of_their_own(tiny):
    """A local cluster, on RLlib's new API stack."""
    try:  # Ray alone, without what RLlib wants, fails with one error or another
        from ray.rllib.algorithms.ppo import PPOConfig
        from ray.tune.registry import register_env
    except Exception:
        pytest.skip("RLlib is missing; pip install 'ray[rllib]', beside gymnasium 1.2.2")

    def make(config):  # in a process that has not imported the package
        import llmrec_env  # noqa: F401

        return gymnasium.make("llmrec/Weights-v1", **config)

    register_env("recommend", make)
    config = (
        PPOConfig()
        .environment("recommend", env_config=dict(tiny))
        .env_runners(num_env_runners=2, num_envs_per_env_runner=4)
        .training(train_batch_size=256, minibatch_size=64, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        result = algorithm.train()
        assert algorithm.env_runner_group.num_healthy_remote_workers() == 2
        assert result["env_runners"]["num_env_steps_sampled"] >= 256
        assert result["env_runners"]["episode_return_mean"] > 0.0
    finally:
        algorithm.stop()


def test_every_section_says_what_it_wants():
    blocks = SCRIPT["blocks"]()
    elsewhere = {"sbx", "rl zoo", "torchrl", "rllib", "skrl", "tianshou"}
    assert {*INSTALLED, *elsewhere} == blocks.keys()
    assert all(SCRIPT["requirements"](block) for block in blocks.values())
    assert SCRIPT["main"]("no such library") == 2
