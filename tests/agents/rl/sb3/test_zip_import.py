"""Models that SB3 saved itself are imported on trust alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
stable_baselines3 = pytest.importorskip("stable_baselines3")
from agents.rl.sb3 import ALGORITHMS, StableBaselines  # noqa: E402
from agents.rl.sb3.zip_import import import_sb3_zip  # noqa: E402
from agents.saving import read_agent  # noqa: E402
from llmrec_env.sb3 import Sb3VecEnv  # noqa: E402

N = 4


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_zip_of_sb3_is_imported_only_on_trust_and_with_a_warning(new_vec, tmp_path, name):
    env = new_vec(N, autoreset_mode="same_step", action="weights")
    kind = getattr(stable_baselines3, ALGORITHMS[name].class_name)
    shape = {"net_arch": [7], "activation_fn": torch.nn.ELU}
    model = kind("MlpPolicy", Sb3VecEnv(env), policy_kwargs=shape, seed=1)
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"can run code .* pass trust=True"):
        import_sb3_zip(tmp_path / "model.zip", name)
    with pytest.warns(UserWarning, match="can run code"):
        agent = import_sb3_zip(tmp_path / "model.zip", name, trust=True)
    observation, starts = env.reset(seed=0)[0], np.ones(N, bool)
    expected, _ = model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(agent.act(observation, starts), expected)
    agent.save(tmp_path / "safe")
    _, config, weights = read_agent(tmp_path / "safe")
    loaded = StableBaselines(name, **config)
    loaded.load(weights, env)
    np.testing.assert_array_equal(loaded.act(observation, starts), expected)


def test_a_zip_that_cannot_be_plain_data_or_sees_something_else_is_refused(new_vec):
    env = Sb3VecEnv(new_vec(N, autoreset_mode="same_step", action="weights"))
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=8, batch_size=32)
    model.policy_kwargs["features_extractor_class"] = object
    with pytest.raises(ValueError, match=r"policy_kwargs\['features_extractor_class'\] is type"):
        StableBaselines("ppo").adopt(model)
    with pytest.raises(ValueError, match=r"ppo-pointer .* sees what SB3 alone cannot show"):
        StableBaselines("ppo-pointer").adopt(model)
