"""Stable-Baselines3 adapter: any of its algorithms as an agent.

A new one is two entries of `agents/rl/sb3_specs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecNormalize

from agents.base import WorldError, learn_in_segments, segment_seed
from agents.registry import defaults_of
from agents.rl import belief_models
from agents.rl.sb3 import belief_candidates, construction, levels, modes, segments, wrappers
from agents.rl.sb3.cloning import imitate
from agents.rl.sb3.pointer import PointerPolicy, SlateRolloutBuffer
from agents.rl.sb3_specs import ALGORITHMS
from agents.saving import write_agent
from llmrec_env.config import unknown
from llmrec_env.envs.vector import RecVectorEnv


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
        ablated: Sequence[str] = (),
        action: str | None = None,
        **settings: Any,
    ) -> None:
        """Takes the algorithm and overrides of its settings.

        Args:
            name: of ALGORITHMS.
            seed: of training.
            ablated: blocks of the observation that it does not see, to learn what they are worth.
            action: mode in which it acts; None: the first that its algorithm can.
            **settings: keyword arguments of the algorithm as plain data, and
                `normalise_observations`; `exploration_steps`, environment steps in which
                exploration falls; `action_noise`, its standard deviation; `belief`, on which it
                acts by `levels` or `query`, or with the pointer policy by slates
                (agents/rl/belief_models.py: Source); with the pointer policy and no belief
                `expert`, an agent of AGENTS to imitate first, and `joint_features`, to see what
                `joint` believes.

        Raises:
            ValueError: there is no such block, or the algorithm cannot act in this mode.
        """
        self.algorithm = algorithm = ALGORITHMS[name]
        self.settings: dict[str, Any] = defaults_of(name) | settings
        self._source = source = self.settings.get("belief")
        self.acts = modes.checked_action(name, algorithm, action, source)
        believes, pointer = source is not None, algorithm.policy == "pointer"
        if believes and pointer:  # it begins with the slates of the belief's agent
            self.settings |= dict.fromkeys(modes.POINTER_SETTINGS)
        for block in ablated:
            if block not in (own := modes.blocks_of(pointer, believes)):
                raise ValueError(unknown("observation block", block, list(own)))
        self.name, self.seed, self.ablated = name, seed, tuple(ablated)
        self.action = "slate" if believes else self.acts
        masked = algorithm.class_name == "MaskablePPO" and self.action != "recipe"
        self.observation = "dict" if masked or pointer or believes else "vector"
        self.model: Any = None
        self.policy_input: Any = None
        self.on_steps: Callable[[int], None] | None = None
        self.log_folder: Path | None = None
        self._state: dict[str, Any] = {}
        self._statistics: dict[str, Any] = {}
        self._joint: Any = None
        self._belief: Any = None
        self._memory: Any = None

    @property
    def knows_items(self) -> bool:
        """Whether it acts on what another agent believes, which knows the items of one world."""
        return self._source is not None or bool(self.settings.get("joint_features"))

    # --- learning

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` environment steps in `env`, which resets in the same step."""
        learn_in_segments(self, env, num_steps)

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment: a new model that takes over the state of the one before.

        Raises:
            FloatingPointError: a reward, a loss or a weight is NaN or infinite. The agent is what
                it was when the segment began.
            ValueError: the environment was built in other modes, or a setting is unknown.
        """
        self._begin(env, segment_seed(self.seed, segment))
        demonstrated = 0
        if self._state:
            self.restore(self._state)
        else:
            demonstrated = self._imitate(env, num_steps)
            self._state = self.state()
        self.model.num_timesteps = done + demonstrated
        watch = segments.Watch(self.on_steps)
        masking = self.algorithm.class_name == "MaskablePPO"
        keywords = {"use_masking": self.policy_input.masks is not None} if masking else {}
        try:
            self.model.learn(num_steps - demonstrated, watch, reset_num_timesteps=False, **keywords)
            watch.check()
        except Exception as error:
            self._give_up(error, done)
        self._state = self.state()
        return self.model.num_timesteps - done

    def _imitate(self, env: RecVectorEnv, num_steps: int) -> int:
        """Clones the expert, if there is one; returns the environment steps of its episodes."""
        expert, extractor = self.settings.get("expert"), self.policy_input.extractor
        if not expert:
            return 0
        return imitate(self.model, expert, env, extractor, num_steps, self.seed)

    def _give_up(self, error: Exception, done: int) -> None:
        """Goes back to the start of the segment and says what was not finite, if anything was."""
        steps, cause = self.model.num_timesteps, str(error)
        if not isinstance(error, FloatingPointError):
            cause = segments.not_finite(self.model)
        self.restore(self._state)
        if not cause:
            raise error
        raise FloatingPointError(
            f"{self.name}: {cause} is NaN or infinite after {steps} environment steps; training "
            f"stopped, and the agent is as it was after {done}. Lower learning_rate="
            f"{self.settings.get('learning_rate')}, or look for rewards that are not numbers."
        ) from error

    def _begin(self, env: RecVectorEnv, seed: int) -> None:
        """Makes a new model that learns in `env`."""
        self._take_input(env, {})
        vec_env = self.policy_input.wrap(env)
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

    def _take_input(self, env: RecVectorEnv, weights: belief_models.Weights) -> None:
        """Prepares how the observations of an environment become the policy's input."""
        for mode in ("action", "observation"):
            own, other = getattr(self, mode), getattr(env.config, mode)
            if other != own:
                raise ValueError(
                    f"{self.name} acts in {mode}={own!r} but its environment has {mode}={other!r}; "
                    f"build the environment with {mode}={own!r}. With other settings, {self.name} "
                    f"can act in {', '.join(self.algorithm.actions)}."
                )
        if self._source is not None:
            self._belief = self._belief or belief_models.open_model(
                self._source, env, self.seed, weights, self._state.get("belief")
            )
            if self.algorithm.policy == "pointer":
                self.policy_input = belief_candidates.pointer_input(self._belief, env, self.ablated)
            else:
                self.policy_input = levels.belief_input(self._belief, env, self.acts, self.ablated)
        elif self.observation == "vector":
            self.policy_input = wrappers.vector_input(env, self.ablated)
        elif self.algorithm.policy == "pointer":
            if self.settings.get("joint_features") and self._joint is None:
                self._joint = wrappers.joint_recommender(env, self.seed)
            self.policy_input = wrappers.pointer_input(env, self.ablated, self._joint)
        else:
            self.policy_input = wrappers.masked_input(env, self.ablated)

    def _build(self, env: RecVectorEnv, vec_env: Any, seed: int | None) -> None:
        """Makes a new model: one that learns in `vec_env`, or one that acts alone without any."""
        algorithm, actions = self.algorithm, self.policy_input.actions or env.single_action_space
        kind = construction.algorithm_class(algorithm.module, algorithm.class_name)
        own = modes.POINTER_SETTINGS if (pointer := algorithm.policy == "pointer") else ()
        settings = {x: y for x, y in self.settings.items() if x not in ("belief", *own)}
        keywords = construction.arguments(kind, settings, int(np.prod(actions.shape or 1)))
        keywords["policy_kwargs"] = self.policy_input.policy_kwargs | keywords["policy_kwargs"]
        keywords["seed"], keywords["device"], keywords["verbose"] = seed, "cpu", 0
        keywords["tensorboard_log"] = None if self.log_folder is None else str(self.log_folder)
        if pointer:
            keywords["rollout_buffer_class"] = SlateRolloutBuffer
        policy: Any = PointerPolicy if pointer else algorithm.policy
        if vec_env is None:
            space = self.policy_input.space
            self.model = construction.acting_alone(kind, policy, space, actions, **keywords)
        else:
            self.model = kind(policy, vec_env, **keywords)
        construction.prepare(self.model, self.settings)
        self._memory = None

    def state(self) -> dict[str, Any]:
        """Returns weights, optimisers, replay buffer and statistics, all of them copies."""
        statistics = segments.statistics_state(self._statistics)
        state = segments.model_state(self.model) | {"statistics": statistics}
        return state | ({"belief": self._belief.record["weights_sha256"]} if self._belief else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned; it counts from the next segment on."""
        self._state = state
        if self.model is not None:
            segments.restore_model(self.model, state)
            segments.restore_statistics(self._statistics, state["statistics"])

    # --- acting

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Returns the most likely actions, (n, ...).

        A recurrent policy remembers each session from call to call; another number of sessions
        begins all of them anew.

        Raises:
            RuntimeError: before `fit`.
        """
        self._check_learnt()
        encoded = self.policy_input.encode(observation, episode_starts)
        features, keywords = segments.normalised(encoded, self._statistics), {}
        if self.policy_input.masks is not None:
            keywords["action_masks"] = self.policy_input.masks(observation)
        if self._memory is not None and self._memory[0].shape[1] != len(features):
            self._memory = None
        actions, self._memory = self.model.predict(
            features, self._memory, episode_starts, deterministic=True, **keywords
        )
        return self.policy_input.decode(actions) if self.policy_input.decode else actions

    def _check_learnt(self) -> None:
        if self.model is None:
            raise RuntimeError(f"the agent {self.name!r} has not learnt yet; call fit() first.")

    # --- saving

    def save(self, path: Path) -> None:
        """Writes settings, and as safetensors the policy's weights and what it normalises by.

        Raises:
            RuntimeError: before `fit`.
        """
        self._check_learnt()
        weights = segments.joined_weights(self.model, self._statistics)
        weights |= wrappers.joint_weights(self._joint)
        config = {"seed": self.seed, "ablated": list(self.ablated), "action": self.acts}
        if self._belief:
            weights |= self._belief.carried()
            config["belief"] = self._belief.record
        write_agent(path, self.name, self.settings | config, weights)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the weights that `save` wrote; training that goes on has new optimisers.

        Raises:
            ValueError: they are weights of another policy.
        """
        if self.settings.get("joint_features"):
            self._joint = wrappers.joint_recommender(env, self.seed, weights)
        self._take_input(env, weights)
        self._build(env, None, None)
        others = {x for x in weights if wrappers.is_joint(x) or belief_models.is_carried(x)}
        own = {name: values for name, values in weights.items() if name not in others}
        policy, statistics = segments.split_weights(own)
        try:
            parameters = self.model.get_parameters() | {"policy": policy}
            self.model.set_parameters(parameters, device="cpu")
        except RuntimeError as error:
            raise ValueError(f"these are weights of another policy than {self.name}'s.") from error
        self._statistics = statistics
        self._state = self.state()

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Raises WorldError: what it acts on was learnt in another world; see `knows_items`."""
        raise WorldError(
            f"the agent {self.name!r} acts on what another agent learnt of the items of its world, "
            "so that it cannot be transferred; train both in this world."
        )

    def adopt(self, model: Any) -> None:
        """Takes a model of its algorithm that SB3 trained on `vector` observations as they are.

        Raises:
            ValueError: the agent sees something else, or settings of the policy are not plain data.
        """
        if self.observation != "vector" or self.ablated:
            raise ValueError(
                f"{self.name} with action={self.action!r} and ablated={self.ablated} sees what SB3 "
                "alone cannot show; train it here."
            )
        self.settings["policy_kwargs"] = construction.plain_policy_kwargs(model.policy_kwargs)
        self.model, self._statistics, self._memory = model, segments.reward_statistics(), None
        self.policy_input = wrappers.PolicyInput(model.observation_space, lambda batch, _: batch)
        self._state = self.state()
