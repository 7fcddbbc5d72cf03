"""Pointer policy for slates: one network scores every candidate, and slates hold nothing twice.

For Stable-Baselines3, on features of which the first describe the user and the last C · F the
candidates, as `FeatureExtractor` makes them of `dict` observations with action `slate`:

    extractor.fit(env.public_data(), env.config)
    vec_env = FeatureWrapper(Sb3VecEnv(env), extractor)
    model = PPO(PointerPolicy, vec_env, policy_kwargs=extractor.policy_kwargs(),
                rollout_buffer_class=SlateRolloutBuffer)

To act, predict from `extractor.encode(observation)`. The score of candidate c for the user with
embedding e is

    scale · (x_c · (start + A e) + w · relu(B x_c + C e))

with A and w zero at first, so that training starts from the ranking by `start`. The same weights
serve every candidate: another order of the candidates gives the same slate in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from agents.rankers.ranker import best_slots
from agents.rl.sb3.scorer import candidate_scores

Tensor = torch.Tensor

_NEVER = -1e9  # added to the score of what may not be drawn


class SlateDistribution(Distribution):
    """Plackett-Luce: each slot draws in proportion to exp(score) from what is left."""

    scores: Tensor  # (n, c)

    def __init__(self, slots: int) -> None:
        """Takes K, the slots of a slate."""
        super().__init__()
        self.slots = slots

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Returns nothing to train: the policy scores."""
        return nn.Identity()

    def proba_distribution(self, scores: Tensor) -> SlateDistribution:
        """Takes scores, (n, c)."""
        self.scores = scores
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probability of slates (n, k) in their order, (n,)."""
        return slate_log_prob(self.scores, actions.long().reshape(len(self.scores), -1))

    def entropy(self) -> Tensor:
        """Returns the entropy of the first slot, (n,).

        That of a whole slate is a sum over all slates; the first slot bounds what can vary.
        """
        logs = self.scores.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    def sample(self) -> Tensor:
        """Returns drawn slates, (n, k): the largest scores after Gumbel noise are such draws."""
        noise = (
            torch.rand_like(self.scores).log_().neg_().log_()
        )  # five times faster than exponential_()
        return (self.scores - noise).topk(self.slots, -1).indices

    def mode(self) -> Tensor:
        """Returns the most likely slates, (n, k): the highest scores, best first; ties by index."""
        n, c = self.scores.shape
        indices = np.tile(np.arange(c, dtype=np.int32), (n, 1))
        # Which of equal scores `topk` takes is not said.
        slates = best_slots(self.scores.detach().cpu().numpy(), indices, self.slots)
        return torch.from_numpy(slates).to(self.scores.device)

    def actions_from_params(self, scores: Tensor, deterministic: bool = False) -> Tensor:
        """Returns slates, (n, k), by scores (n, c)."""
        return self.proba_distribution(scores).get_actions(deterministic)

    def log_prob_from_params(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns drawn slates and their log-probabilities."""
        slates = self.actions_from_params(scores)
        return slates, self.log_prob(slates)


def slate_log_prob(scores: Tensor, slates: Tensor) -> Tensor:
    """Returns the Plackett-Luce log-probability of slates, (n,).

    Args:
        scores: of the candidates, (n, c).
        slates: distinct indices of candidates, best first, (n, k).
    """
    chosen = scores.gather(1, slates)
    unchosen = scores.scatter(1, slates, _NEVER).logsumexp(1, keepdim=True)
    # What is left at slot k is what is never chosen and the slots from k on.
    left = torch.cat([unchosen, chosen.flip(1)], 1).logcumsumexp(1)[:, 1:]
    return (chosen - left.flip(1)).sum(1)


class SlateRolloutBuffer(RolloutBuffer):
    """For `rollout_buffer_class`: hands minibatches on without copying them once more."""

    def to_torch(self, array: npt.NDArray[Any], copy: bool = True) -> Tensor:
        """Returns the array, which `get` has already copied, as a tensor."""
        return super().to_torch(array, copy=False)


class PointerPolicy(ActorCriticPolicy):
    """Scores candidates with a network that is the same for all of them, and values the state.

    It explores and learns with its latest weights. What it predicts deterministically comes from
    their average over the last updates: rewards say so little of a slate that the latest weights
    are always some way off.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        candidates: int = 0,
        features: int = 0,
        start: Sequence[float] | None = None,
        scale: float = 20.0,
        hidden: int = 8,
        embedding: int = 32,
        value_units: int = 32,
        ema_decay: float = 0.95,
        **kwargs: Any,
    ) -> None:
        """Takes what SB3 passes on, and how the candidates lie in the observation.

        Args:
            observation_space: a flat Box.
            action_space: MultiDiscrete([C] * K), or Discrete(C) for slates of one.
            lr_schedule: learning rate by progress.
            candidates: C.
            features: F, numbers that describe a candidate.
            start: weights of the features before training, (F,); None: zeros, a random ranking.
            scale: by which scores are multiplied; the larger, the less is explored at first.
            hidden: units that read a candidate.
            embedding: numbers that a user is reduced to.
            value_units: units of each layer that values a session.
            ema_decay: share that averaged weights keep with each update; 0: the latest weights.
            **kwargs: of ActorCriticPolicy.

        Raises:
            ValueError: the spaces, C and F do not fit together.
        """
        _check(observation_space, action_space, candidates, features, start)
        self.candidates, self.features = candidates, features
        self.begin = [0.0] * features if start is None else [float(x) for x in start]
        self.scale, self.hidden = scale, hidden
        self.embedding, self.value_units, self.ema_decay = embedding, value_units, ema_decay
        self.slots = int(np.prod(action_space.shape)) if action_space.shape else 1
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.action_dist: Any = SlateDistribution(self.slots)
        shape = self.observation_space.shape
        assert shape is not None  # a Box, checked
        self.user = shape[0] - self.candidates * self.features
        e, f, h = self.embedding, self.features, self.hidden
        # One product reads the user for the scores and for the value.
        self.user_net = nn.Sequential(nn.Linear(self.user, e + self.value_units), nn.Tanh())
        self.start = nn.Parameter(torch.tensor(self.begin))
        self.tilt = nn.Linear(e, f, bias=False)  # A
        self.read = nn.Linear(f, h, bias=False)  # B
        self.read_user = nn.Linear(e, h)  # C
        self.worth = nn.Parameter(torch.zeros(h))  # w
        v = self.value_units
        self.value_net = nn.Sequential(nn.Linear(v, v), nn.Tanh(), nn.Linear(v, 1))
        for part in (self.user_net, self.read, self.read_user, self.value_net):
            part.apply(lambda module: self.init_weights(module, np.sqrt(2)))
        nn.init.zeros_(self.tilt.weight)
        self.averaged = {
            name: f"averaged_{name.replace('.', '_')}" for name, _ in self.named_parameters()
        }
        for name, weights in list(self.named_parameters()):
            self.register_buffer(self.averaged[name], weights.detach().clone())
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros(1))
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def set_training_mode(self, mode: bool) -> None:
        """Begins or ends an update; averages the weights of which one begins."""
        super().set_training_mode(mode)
        if mode:
            self.updates += 1
            self._average(max(1.0 - self.ema_decay, 1.0 / float(self.updates)))

    def forget(self) -> None:
        """Makes the latest weights the average, as at the start."""
        self.updates.zero_()
        self._average(1.0)

    @torch.no_grad()
    def _average(self, share: float) -> None:
        for name, weights in self.named_parameters():
            getattr(self, self.averaged[name]).lerp_(weights, share)

    def scores_and_values(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the score of every candidate, (n, c), and the value of every session, (n, 1)."""
        units = self.user_net(obs[:, : self.user])
        return self._scores(obs, units[:, : self.embedding]), self._values(units)

    def scores(self, obs: Tensor) -> Tensor:
        """Returns the score of every candidate, (n, c)."""
        return self._scores(obs, self.user_net(obs[:, : self.user])[:, : self.embedding])

    def _scores(self, obs: Tensor, units: Tensor) -> Tensor:
        table = obs[:, self.user :].unflatten(1, (self.candidates, self.features))
        weights, offsets = self.start + self.tilt(units), self.read_user(units)
        return self.scale * candidate_scores(table, weights, offsets, self.read.weight, self.worth)

    def _values(self, units: Tensor) -> Tensor:
        return self.value_net(units[:, self.embedding :])

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Returns slates (n, K), values (n, 1) and log-probabilities (n,)."""
        scores, values = self.scores_and_values(obs)
        slates = self.action_dist.proba_distribution(scores)
        actions = slates.get_actions(deterministic)
        shape = self.action_space.shape or ()
        return actions.reshape(-1, *shape), values, slates.log_prob(actions)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns values (n, 1), log-probabilities (n,) and entropies (n,) of slates."""
        scores, values = self.scores_and_values(obs)
        slates = self.action_dist.proba_distribution(scores)
        return values, slates.log_prob(actions), slates.entropy()

    def get_distribution(self, obs: Any) -> SlateDistribution:
        """Returns what slates are drawn from."""
        return self.action_dist.proba_distribution(self.scores(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """Returns the value of every session, (n, 1)."""
        return self._values(self.user_net(obs[:, : self.user]))

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        if not deterministic:
            return self(observation)[0]
        averaged = {name: getattr(self, buffer) for name, buffer in self.averaged.items()}
        return torch.func.functional_call(self, averaged, (observation, True))[0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {
            "candidates": self.candidates,
            "features": self.features,
            "start": self.begin,
            "scale": self.scale,
            "hidden": self.hidden,
            "embedding": self.embedding,
            "value_units": self.value_units,
            "ema_decay": self.ema_decay,
        }


def _check(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    candidates: int,
    features: int,
    start: Sequence[float] | None,
) -> None:
    if candidates < 1 or features < 1:
        raise ValueError(
            f"candidates={candidates}, features={features} describe no candidate; "
            "pass policy_kwargs=extractor.policy_kwargs()."
        )
    if isinstance(action_space, spaces.MultiDiscrete):
        sizes = set(action_space.nvec.tolist())
    else:
        sizes = {int(action_space.n)} if isinstance(action_space, spaces.Discrete) else set()
    if sizes != {candidates}:
        raise ValueError(
            f"the action space {action_space} does not pick among candidates={candidates}; "
            "build the environment with action='slate' or 'item' and this many candidates."
        )
    shape = observation_space.shape if isinstance(observation_space, spaces.Box) else None
    if shape is None or len(shape) != 1 or shape[0] <= candidates * features:
        raise ValueError(
            f"the observation space {observation_space} is not flat with numbers about the user "
            f"before {candidates} · {features} about candidates; wrap it in FeatureWrapper."
        )
    if start is not None and len(start) != features:
        raise ValueError(f"start has {len(start)} weights; allowed: features={features}.")
