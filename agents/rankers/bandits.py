"""Linear contextual bandits over the ranking features: LinUCB and Thompson sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.instructions import instruction_columns
from agents.rankers.history_ranker import past
from agents.rankers.ranker import BLOCK, UNAVAILABLE, Floats, Ranker, best_slots, score
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.actions import CONTENT_PLAN
from llmrec_env.interface.candidates import FEATURES, MORE_BLOCKS, Items, blocks_added
from llmrec_env.interface.instructions import BLOCKS
from llmrec_env.interface.observation import SESSION_NUMBERS

NUM_FEATURES = len(FEATURES) + 1  # and a constant
Doubles = npt.NDArray[np.float64]

_PROGRESS = SESSION_NUMBERS.index("progress")
_RANK, _SATISFIED = SESSION_NUMBERS.index("last_rank"), SESSION_NUMBERS.index("last_satisfied")
_SLOW = 0.97  # as the interest of the observation ages


def context(observation: Any, items: Items) -> Floats:
    """Returns the features of the candidates and a constant, (n, c, NUM_FEATURES).

    Blocks that mechanisms add, as freshness, are columns behind these, and what users tell, where
    they do, three more.

    Where the whole catalogue is offered, observations hold no features. They are then computed from
    the other blocks, which have lost the lengths of two vectors: satiation and skipped become the
    directions alone, and repetition is 0.
    """
    if "candidate_features" in observation:
        features = observation["candidate_features"]
    else:
        features = _features_of(observation, items)
    columns = [features, np.ones((*features.shape[:2], 1), np.float32)]
    columns += [observation[name][..., None] for name in MORE_BLOCKS if name in observation]
    if BLOCKS[0] in observation:
        columns.append(instruction_columns(observation, items))
    return np.concatenate(columns, axis=2)


def _features_of(observation: Any, items: Items) -> Floats:
    candidates = np.maximum(observation["candidates"], 0)
    ids, weights = past(observation)
    aged = weights * np.float32(_SLOW) ** np.arange(ids.shape[1], dtype=np.float32)
    factor = np.einsum("nh,nhf->nf", aged, items.factors[np.maximum(ids, 0)])
    factor /= np.maximum(np.linalg.norm(factor, axis=1, keepdims=True), 1e-9)
    columns: dict[str, npt.NDArray[np.floating]] = {
        name: score(observation[name], candidates, items.vectors)
        for name in ("interest", "recent", "satiation", "skipped")
    }
    columns["co_consumption"] = score(factor, candidates, items.factors)
    columns["popularity"] = items.popularity[candidates]
    columns["satiation"] = 1.0 - np.exp(-np.maximum(columns["satiation"], 0.0))
    columns["skipped"] = np.tanh(np.maximum(columns["skipped"], 0.0))
    columns["substance"] = items.substance[candidates]
    columns["repetition"] = np.zeros(candidates.shape, np.float32)
    return np.stack([columns[name] for name in FEATURES], axis=2).astype(np.float32)


class Evidence(NamedTuple):
    """Normal equations of n ridge regressions."""

    precision: Doubles  # (n, f, f)
    moment: Doubles  # (n, f)

    def add(self, features: Doubles, satisfied: Doubles) -> None:
        """Takes in what sessions were shown, (n, k, f), and which of it satisfied, (n, k)."""
        columns = np.swapaxes(features, 1, 2)
        self.precision[:] += columns @ features
        self.moment[:] += _product(columns, satisfied)


class LinearBandit(Ranker):
    """Learns a ridge regression of satisfaction on ranking features, by showing what may be best.

    The regression over all training sessions is the prior of each session, which goes on with what
    satisfies its own user; a prior worth `memory` slates leaves room for it. Subclasses say how
    they explore.
    """

    def __init__(
        self, seed: int = 0, ridge: float = 10.0, exploration: float = 0.1, memory: float = 500.0
    ) -> None:
        """Takes the settings of the regression.

        Args:
            seed: of the sessions it learns from, and of what it draws.
            ridge: precision of the first prior, whose mean is the ranking of the zero action.
            exploration: how many standard deviations of the regression count.
            memory: slates that the prior of a session is worth, at most.
        """
        super().__init__(seed)
        self.ridge, self.exploration, self.memory = ridge, exploration, memory
        self.learnt, self.num_slates = _first_prior(ridge, NUM_FEATURES), 0

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns by acting for `num_steps` environment steps."""
        super().fit(env, num_steps)
        added = len(blocks_added(env.config)) + len(BLOCKS) * env.config.instructs()
        if added:
            self.learnt = _first_prior(self.ridge, NUM_FEATURES + added)
        observation, _ = env.reset(seed=self.seed)
        starts = np.ones(env.num_envs, np.bool_)
        for _ in range(num_steps // env.num_envs):
            observation, _, terminated, truncated, _ = env.step(self.act(observation, starts))
            starts = terminated | truncated
            features = self._shown[~starts]
            satisfied = _satisfied(observation, self.slate_size)[~starts]
            shown = features.reshape(1, -1, self.num_features)
            self.learnt.add(shown, satisfied.reshape(1, -1))
            self.num_slates += len(features)

    @property
    def num_features(self) -> int:
        """Columns of the regression."""
        return self.learnt.moment.shape[1]

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k), best first, after the feedback to the last slates."""
        self._update(observation, episode_starts)
        precision, moment = self._posterior()
        slates = np.empty((len(moment), self.slate_size), np.int64)
        self._shown = np.empty((*slates.shape, self.num_features))
        for start in range(0, len(slates), BLOCK):  # a whole catalogue has many features
            rows = slice(start, start + BLOCK)
            part = {name: block[rows] for name, block in observation.items()}
            features = context(part, self.data.items).astype(np.float64)
            values = self._values(part, features, precision[rows], moment[rows])
            values = np.where(part["candidates"] < 0, UNAVAILABLE, values.astype(np.float32))
            slates[rows] = best_slots(values, part["candidates"], self.slate_size)
            chosen = slates[rows][:, :, None]
            self._shown[rows] = np.take_along_axis(features, chosen, 1)
        return slates

    def _update(self, observation: Any, starts: npt.NDArray[np.bool_]) -> None:
        n = len(starts)
        if starts.all():
            shape = (n, self.num_features)
            self._own = Evidence(np.zeros((*shape, self.num_features)), np.zeros(shape))
            return
        self._shown[starts] = 0.0  # was shown to another session
        self._own.add(self._shown, _satisfied(observation, self.slate_size))
        for part in self._own:
            part[starts] = 0.0

    def _posterior(self) -> tuple[Doubles, Doubles]:
        """Precision, (n, f, f), and mean, (n, f), of the weights in each session."""
        share = min(1.0, self.memory / max(self.num_slates, 1))
        precision = share * self.learnt.precision + self._own.precision
        moment = share * self.learnt.moment + self._own.moment
        mean = np.linalg.solve(precision, moment[:, :, None])[:, :, 0]
        return precision, mean.astype(np.float64, copy=False)

    def _values(
        self, observation: Any, features: Doubles, precision: Doubles, mean: Doubles
    ) -> Doubles:
        """How much speaks for showing each candidate, (n, c)."""
        raise NotImplementedError

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the regression."""
        return self.learnt._asdict() | {"num_slates": np.array(self.num_slates)}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data and the regression; what sessions taught it begins anew."""
        super().load(weights, env)
        self.learnt = Evidence(weights["precision"].copy(), weights["moment"].copy())
        self.num_slates = int(weights["num_slates"])


class LinUcb(LinearBandit):
    """Shows what may be best: the upper end of an interval of each candidate's satisfaction.

    Li, Chu, Langford and Schapire, A contextual-bandit approach to personalized news article
    recommendation, WWW 2010; one regression for all items, as items come and go.
    """

    name = "lin-ucb"

    def _values(
        self, observation: Any, features: Doubles, precision: Doubles, mean: Doubles
    ) -> Doubles:
        spread = features @ np.linalg.inv(precision)
        deviation = np.sqrt(np.maximum(np.vecdot(spread, features), 0.0))
        return _product(features, mean) + self.exploration * deviation


class ThompsonSampling(LinearBandit):
    """Shows what is best by weights drawn from their posterior, anew at each step.

    Agrawal and Goyal, Thompson sampling for contextual bandits with linear payoffs, ICML 2013.
    """

    name = "thompson"

    def _values(
        self, observation: Any, features: Doubles, precision: Doubles, mean: Doubles
    ) -> Doubles:
        # With precision L L', L'^-1 times a standard normal vector has the posterior's covariance.
        root = np.swapaxes(np.linalg.cholesky(precision), 1, 2)
        drawn = np.linalg.solve(root, self._noise(observation)[:, :, None])[:, :, 0]
        return _product(features, mean + self.exploration * drawn)

    def _noise(self, observation: Any) -> Doubles:
        """Standard normal numbers, (n, f), which user and step decide, not who else is there."""
        steps = np.rint(observation["session"][:, _PROGRESS].astype(np.float64) * 1e6)
        keys = zip(observation["user_id"].tolist(), steps.astype(np.int64).tolist(), strict=True)
        generators = (np.random.default_rng([self.seed, 23, *key]) for key in keys)
        return np.stack([generator.normal(size=self.num_features) for generator in generators])


def _first_prior(ridge: float, num_features: int) -> Evidence:
    """A prior whose mean is the ranking of the zero action, and 0 for what that does not read."""
    first = np.zeros(num_features)
    first[: len(FEATURES)] = CONTENT_PLAN[: len(FEATURES)]
    return Evidence(ridge * np.eye(num_features)[None], ridge * first[None])


def _product(matrices: Doubles, vectors: Doubles) -> Doubles:
    """The product of a matrix and a vector for each session."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _satisfied(observation: Any, slate_size: int) -> Doubles:
    """Whether each slot of the last slate satisfied, (n, slate_size), 0 or 1."""
    numbers = observation["session"]
    slot = np.rint(1.0 / np.maximum(numbers[:, _RANK], 1e-3)) - 1.0  # beyond the slate for none
    chosen = slot[:, None] == np.arange(slate_size)
    return (chosen & (numbers[:, _SATISFIED] == 1.0)[:, None]).astype(np.float64)
