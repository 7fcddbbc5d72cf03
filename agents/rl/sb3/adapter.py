"""Any Stable-Baselines3 algorithm as an agent.

A new one is two entries of `agents/rl/sb3_specs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.base import learn_in_segments, segment_seed
from agents.registry import defaults_of
from agents.rl.sb3_specs import ALGORITHMS, Algorithm
from agents.saving import write_agent
from llmrec_env.config import unknown
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.observation import VECTOR_BLOCKS

BLOCKS = (*VECTOR_BLOCKS, "session", "candidates")
"""Parts of a `vector` observation, in order."""
_CLIP = 10.0  # standard deviations, as in VecNormalize
_TINY = 1e-8
_POINTED = ("teacher", "on_joint")  # settings that only the pointer policy knows
_STATISTICS = "normalisation"  # prefix of the names of saved arrays


class StableBaselines:
    """Trains an SB3 algorithm on training users and acts with its deterministic policy.

    Each segment trains a new model with the weights, optimisers, replay buffer and statistics of
    the one before, and a seed of its own: what it does can be repeated bit for bit.
    """

    fixed_candidates = True
    """It can pick from as many candidates as it was trained with, and from no other number."""

    def __init__(
        self,
        name: str,
        seed: int = 0,
        without: Sequence[str] = (),
        action: str | None = None,
        **settings: Any,
    ) -> None:
        """Takes the algorithm of ALGORITHMS and overrides of its settings.

        Args:
            name: of ALGORITHMS.
            seed: of training.
            without: blocks of the observation that it does not see, to learn what they are worth.
            action: mode in which it acts; None: the first that its algorithm can.
            **settings: keyword arguments of the algorithm as plain data, and
                `normalise_observations`; `exploration_steps`, user-steps in which exploration
                falls; `action_noise`, its standard deviation; with the pointer policy `teacher`,
                an agent of AGENTS to imitate first, and `on_joint`, to see what `joint` believes.

        Raises:
            ValueError: there is no such block, or the algorithm cannot act in this mode.
        """
        algorithm = ALGORITHMS[name]
        for block in without:
            if block not in _blocks(algorithm):
                raise ValueError(unknown("observation block", block, list(_blocks(algorithm))))
        if action is not None and action not in algorithm.actions:
            raise ValueError(
                f"{name} ({algorithm.class_name}) cannot act in action={action!r}; "
                f"it can in {', '.join(algorithm.actions)}."
            )
        self.name, self.seed, self.without = name, seed, tuple(without)
        self.algorithm, self.action = algorithm, action or algorithm.actions[0]
        masked = algorithm.class_name == "MaskablePPO" and self.action != "recipe"
        self.observation = "dict" if masked or algorithm.policy == "pointer" else "vector"
        self.settings: dict[str, Any] = defaults_of(name) | settings
        self.model: Any = None
        self.on_steps: Callable[[int], None] | None = None
        self.log_folder: Path | None = None
        self._state: dict[str, Any] = {}
        self._statistics: dict[str, Any] = {}
        self._view: Any = None
        self._joint: Any = None
        self._memory: Any = None

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` user-steps in `env`, which resets in the same step."""
        learn_in_segments(self, env, num_steps)

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment: a new model that takes over the state of the one before.

        Raises:
            FloatingPointError: a reward, a loss or a weight is NaN or infinite. The agent is what
                it was when the segment began.
            ValueError: the environment was built in other modes, or a setting is unknown.
        """
        from agents.rl.sb3.segments import Watch

        seed = segment_seed(self.seed, segment)
        self._begin(env, seed)
        lessons = 0
        if self._state:
            self.restore(self._state)
        else:
            lessons = self._imitate(env, num_steps)
            self._state = self.state()
        self.model.num_timesteps = done + lessons
        watch = Watch(self.on_steps)
        masking = self.algorithm.class_name == "MaskablePPO"
        more = {"use_masking": self._view.masks is not None} if masking else {}
        try:
            self.model.learn(num_steps - lessons, watch, reset_num_timesteps=False, **more)
            watch.check()
        except Exception as error:
            self._give_up(error, done)
        self._state = self.state()
        return self.model.num_timesteps - done

    def _imitate(self, env: RecVectorEnv, num_steps: int) -> int:
        """Learns from the teacher, if there is one; returns the user-steps that it played."""
        from agents.rl.sb3.joint_features import imitate

        teacher = self.settings.get("teacher")
        if not teacher:
            return 0
        return imitate(self.model, teacher, env, self._view.features, num_steps, self.seed)

    def _give_up(self, error: Exception, done: int) -> None:
        """Goes back to the start of the segment and says what was not finite, if anything was."""
        from agents.rl.sb3.segments import not_finite

        steps = self.model.num_timesteps
        what = str(error) if isinstance(error, FloatingPointError) else not_finite(self.model)
        self.restore(self._state)
        if not what:
            raise error
        raise FloatingPointError(
            f"{self.name}: {what} is NaN or infinite after {steps} user-steps; training stopped, "
            f"and the agent is as it was after {done}. Lower learning_rate="
            f"{self.settings.get('learning_rate')}, or look for rewards that are not numbers."
        ) from error

    def _begin(self, env: RecVectorEnv, seed: int) -> None:
        """Makes a new model that learns in `env`."""
        from stable_baselines3.common.vec_env import VecNormalize

        self._look_at(env)
        vec_env = self._view.wrap(env)
        vec_env.seed(seed)
        normalised = VecNormalize(
            vec_env,
            norm_obs=bool(self.settings.get("normalise_observations")),
            norm_reward=True,
            gamma=float(self.settings.get("gamma", 0.99)),
        )
        self._statistics = {"rewards": normalised.ret_rms}
        if normalised.norm_obs:
            self._statistics["observations"] = normalised.obs_rms
        self._build(env, normalised, seed)

    def _look_at(self, env: RecVectorEnv) -> None:
        """Prepares what the policy sees of the observations of an environment."""
        from agents.rl.sb3 import wrappers

        for mode in ("action", "observation"):
            own, found = getattr(self, mode), getattr(env.config, mode)
            if found != own:
                raise ValueError(
                    f"{self.name} acts in {mode}={own!r} but its environment has {mode}={found!r}; "
                    f"build the environment with {mode}={own!r}. With other settings, {self.name} "
                    f"can act in {', '.join(self.algorithm.actions)}."
                )
        if self.observation == "vector":
            self._view = wrappers.vector_view(env, self.without)
        elif self.algorithm.policy == "pointer":
            if self.settings.get("on_joint") and self._joint is None:
                from agents.rl.sb3.joint_features import believer

                self._joint = believer(env, self.seed)
            self._view = wrappers.pointer_view(env, self.without, self._joint)
        else:
            self._view = wrappers.offered_view(env, self.without)

    def _build(self, env: RecVectorEnv, vec_env: Any, seed: int | None) -> None:
        """Makes a new model: one that learns in `vec_env`, or one that acts alone without any."""
        from agents.rl.sb3 import segments

        kind = segments.algorithm_class(self.algorithm.module, self.algorithm.class_name)
        actions = env.single_action_space
        ours = _POINTED if self.algorithm.policy == "pointer" else ()
        settings = {name: x for name, x in self.settings.items() if name not in ours}
        given = segments.arguments(kind, settings, int(np.prod(actions.shape or 1)))
        given["policy_kwargs"] = {**self._view.policy_kwargs, **given["policy_kwargs"]}
        log = None if self.log_folder is None else str(self.log_folder)
        given |= dict(seed=seed, device="cpu", verbose=0, tensorboard_log=log)
        policy: Any = self.algorithm.policy
        if policy == "pointer":
            from agents.rl.sb3.pointer import PointerPolicy as policy
            from agents.rl.sb3.pointer import Rollouts

            given["rollout_buffer_class"] = Rollouts
        if vec_env is None:
            self.model = segments.acting_alone(kind, policy, self._view, actions, **given)
        else:
            self.model = kind(policy, vec_env, **given)
        segments.prepare(self.model, self.settings)
        self._memory = None

    def state(self) -> dict[str, Any]:
        """Returns weights, optimisers, replay buffer and statistics, all of them copies."""
        from agents.rl.sb3.segments import model_state, statistics_state

        return {**model_state(self.model), "statistics": statistics_state(self._statistics)}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned; it counts from the next segment on."""
        from agents.rl.sb3.segments import restore_model, restore_statistics

        self._state = state
        if self.model is not None:
            restore_model(self.model, state)
            restore_statistics(self._statistics, state["statistics"])

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Returns the most likely actions, (n, ...).

        A recurrent policy remembers each session from call to call; another number of sessions
        begins all of them anew.

        Raises:
            RuntimeError: before `fit`.
        """
        if self.model is None:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        seen, more = self._seen(observation), {}
        if self._view.masks is not None:
            more["action_masks"] = self._view.masks(observation)
        if self._memory is not None and self._memory[0].shape[1] != len(seen):
            self._memory = None
        actions, self._memory = self.model.predict(
            *(seen, self._memory, episode_starts), deterministic=True, **more
        )
        return actions

    def _seen(self, observation: Any) -> npt.NDArray[np.float32]:
        """Returns what the policy sees, (n, length)."""
        seen = self._view.see(observation)
        if "observations" not in self._statistics:
            return seen
        running = self._statistics["observations"]
        scaled = (seen - running.mean) / np.sqrt(running.var + _TINY)
        return np.clip(scaled, -_CLIP, _CLIP).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes settings, and as safetensors the policy's weights and what it normalises by.

        Raises:
            RuntimeError: before `fit`.
        """
        from agents.rl.sb3.joint_features import weights_of
        from agents.rl.sb3.segments import statistics_state

        if self.model is None:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")
        state = self.model.policy.state_dict()
        for name, parts in statistics_state(self._statistics).items():
            state |= {f"{_STATISTICS}.{name}.{part}": value for part, value in parts.items()}
        config = {"seed": self.seed, "without": list(self.without), "action": self.action}
        weights = {name: tensor.numpy() for name, tensor in state.items()}
        weights |= weights_of(self._joint)
        write_agent(path, self.name, {**config, **self.settings}, weights)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the weights that `save` wrote; training that goes on has new optimisers.

        Raises:
            ValueError: they are weights of another policy.
        """
        import torch
        from stable_baselines3.common.running_mean_std import RunningMeanStd

        from agents.rl.sb3.joint_features import PREFIX, believer
        from agents.rl.sb3.segments import restore_statistics

        if self.settings.get("on_joint"):
            self._joint = believer(env, self.seed, weights)
        self._look_at(env)
        self._build(env, None, None)
        policy, statistics = {}, {}
        for name, values in weights.items():
            if name.startswith(f"{_STATISTICS}."):
                _, of, part = name.split(".")
                statistics.setdefault(of, {})[part] = torch.tensor(values)
            elif not name.startswith(PREFIX):
                policy[name] = torch.tensor(values)
        try:
            parameters = {**self.model.get_parameters(), "policy": policy}
            self.model.set_parameters(parameters, device="cpu")
        except RuntimeError as error:
            raise ValueError(f"these are weights of another policy than {self.name}'s.") from error
        self._statistics = {
            name: RunningMeanStd(shape=parts["mean"].shape) for name, parts in statistics.items()
        }
        restore_statistics(self._statistics, statistics)
        self._state = self.state()

    def adopt(self, model: Any) -> None:
        """Takes a model of its algorithm that SB3 trained on `vector` observations as they are.

        Raises:
            ValueError: the agent sees something else, or settings of the policy are not plain data.
        """
        from agents.rl.sb3.segments import plain_policy_kwargs, reward_statistics
        from agents.rl.sb3.wrappers import View

        if self.observation != "vector" or self.without:
            raise ValueError(
                f"{self.name} with action={self.action!r} and without={self.without} sees what SB3 "
                "alone cannot show; train it here."
            )
        self.settings["policy_kwargs"] = plain_policy_kwargs(model.policy_kwargs)
        self.model, self._statistics, self._memory = model, reward_statistics(), None
        self._view = View(model.observation_space, lambda observation: observation)
        self._state = self.state()


def _blocks(algorithm: Algorithm) -> tuple[str, ...]:
    """Blocks of what an algorithm's policy can see."""
    if algorithm.policy != "pointer":
        return BLOCKS
    from agents.features import CANDIDATE_BLOCKS, USER_BLOCKS

    return (*USER_BLOCKS, *CANDIDATE_BLOCKS)
