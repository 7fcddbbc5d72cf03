"""Oracles: upper bounds that read the hidden state of the users they act on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.saving import write_agent
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.creators import attachment_to
from llmrec_env.simulation.elementary import exp64, log64
from llmrec_env.simulation.inner_products import row_dot, rows_dot
from llmrec_env.simulation.interests import relative_weights
from llmrec_env.simulation.ordering import best_of
from llmrec_env.simulation.questions import gate
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import appeal, satiation_of, sigmoid
from llmrec_env.simulation.user_record import USER
from llmrec_env.simulation.users import relevance_of

_DINKELBACH_ROUNDS = 5


class Lookahead(NamedTuple):
    """What the planning oracle adds to the expected reward of an item; all 0: myopic."""

    substance: float = 0.0  # reward per unit of substance: goodwill lasts
    satiation: float = 0.0  # reward lost per unit of satiation
    discovery: float = 0.0  # reward per unit of likeness to weak or dormant interests
    satisfaction: float = 0.0  # reward per unit of P(z = 1) - 1/2: patience lasts


@kernel
def worth(
    user,
    params,
    phrases,
    items,
    traits,
    lookahead,
    weights,
    candidates,
    i,
    odds,
    satisfaction,
    value,
):
    """Writes of each candidate the odds of consuming it at rank 1, P(z = 1), and its value then."""
    relative_weights(user, weights)
    d = phrases.shape[1]
    interest, weak = np.zeros(d, np.float32), np.zeros(d, np.float32)
    affinity = np.empty((1, weights.shape[0]), np.float32)
    for p in range(weights.shape[0]):
        phrase = user.phrase[p]
        for j in range(d):
            interest[j] += weights[p] * phrases[phrase, j]
            weak[j] += (np.float32(1.0) - weights[p]) * phrases[phrase, j]
    for c in range(candidates.shape[1]):
        item = candidates[i, c]
        odds[c], satisfaction[c], value[c] = 0.0, 0.0, 0.0
        if item < 0:
            continue
        product = row_dot(interest, items, item)
        relevance = relevance_of(user, params, traits[item], product)
        satiation = satiation_of(user, items, item)
        attachment = attachment_to(user, params, traits[item].creator)
        utility, logit = appeal(user, params, traits[item], relevance, satiation, attachment)
        if params.resolution > 0.0:
            for p in range(weights.shape[0]):
                affinity[0, p] = rows_dot(phrases, user.phrase[p], items, item)
            logit = gate(user, params, traits[item], affinity, 0, logit)
        satisfaction[c] = satisfies = sigmoid(logit)
        tired = -log64(max(1.0 - satiation, 1e-9))
        odds[c] = exp64(utility - params.null)
        value[c] = (
            satisfies * relevance
            + lookahead.substance * traits[item].substance
            - lookahead.satiation * min(tired, 4.0)
            + lookahead.discovery * max(row_dot(weak, items, item) - 0.2, 0.0)
            + lookahead.satisfaction * (satisfies - 0.5)
        )


@kernel
def best_slate(odds, value, ids, examined, slate):
    """Writes the slate of highest expected value under `logit`, by Dinkelbach's method.

    The ratio sum(odds * value) / (1 + sum(odds)) is largest for the items of highest
    odds * (value - ratio); W. Dinkelbach, Management Science 13(7), 1967.
    """
    ratio, k = 0.0, slate.shape[0]
    for round_ in range(_DINKELBACH_ROUNDS):
        gain = np.where(odds > 0.0, odds * (value - ratio), -np.inf)  # -inf: not available
        best = best_of(gain, ids, k)
        if round_ > 0 and (best == slate).all():
            break  # as would every further round
        slate[:] = best
        above, below = 0.0, 1.0
        for rank in range(k):
            share = odds[slate[rank]] * examined[rank]
            above += share * value[slate[rank]]
            below += share
        ratio = above / below


@kernel
def continuation(params, consumed, satisfaction):
    """Returns the probability that a cascade goes on behind items, from those of their outcomes."""
    after = params.cascade_dissatisfied + satisfaction * (
        params.cascade_satisfied - params.cascade_dissatisfied
    )
    return params.cascade_skipped + consumed * (after - params.cascade_skipped)


@kernel
def best_cascade(odds, satisfaction, value, ids, params, slate):
    """Writes the slate of highest expected value under `cascade`, which is exact.

    A slate is worth g_1 + s_1 (g_2 + s_2 (g_3 + ...)), where g is what examining an item is worth
    and s the probability of going on. Exchanging two neighbours shows that the order by g / (1 - s)
    is the best one of any set; along it, the best slates of what follows an item tell whether to
    take it (dynamic programming over items and slots left).
    """
    consumed = odds / (1.0 + odds)
    gain = consumed * value
    goes_on = continuation(params, consumed, satisfaction)
    index = np.where(odds > 0.0, -gain / np.maximum(1.0 - goes_on, 1e-9), np.inf)
    by_id = np.argsort(ids, kind="mergesort")  # which keeps the order of what is equal
    order = by_id[np.argsort(index[by_id], kind="mergesort")][: np.count_nonzero(odds > 0.0)]
    m, k = order.shape[0], slate.shape[0]
    best = np.zeros((k + 1, m + 1))  # of so many slots and the items from here on
    taken = np.zeros((k + 1, m), np.bool_)
    for j in range(m - 1, -1, -1):
        for slots in range(1, min(k, m - j) + 1):
            take = gain[order[j]] + goes_on[order[j]] * best[slots - 1, j + 1]
            taken[slots, j] = slots == m - j or take >= best[slots, j + 1]
            best[slots, j] = take if taken[slots, j] else best[slots, j + 1]
    filled = 0
    for j in range(m):
        if filled < k and taken[k - filled, j]:
            slate[filled] = order[j]
            filled += 1


@kernel
def oracle_slates(users, params, phrases, items, traits, lookahead, candidates, slates):
    """Writes the best slate of each session as candidate indices, (n, k)."""
    c = candidates.shape[1]
    odds, satisfaction, value = np.empty(c), np.empty(c), np.empty(c)
    weights = np.empty(users[0].slots, np.float32)
    for i in range(users.shape[0]):
        worth(
            users[i],
            params[0],
            phrases,
            items,
            traits,
            lookahead,
            weights,
            candidates,
            i,
            odds,
            satisfaction,
            value,
        )
        if params[0].cascade == 1:
            best_cascade(odds, satisfaction, value, candidates[i], params[0], slates[i])
        else:
            best_slate(odds, value, candidates[i], params[0].examined, slates[i])


class OracleWarning(UserWarning):
    """An oracle assumes a response that users do not have: it is no upper bound."""


def warn_of_response(config: EnvConfig) -> None:
    """Warns where satisfaction is not the built-in one, which oracles assume."""
    if config.response == "llm":
        warnings.warn(
            "response='llm': oracles assume the built-in satisfaction and are no bounds of what "
            "can be earned; use response='logit' for bounds.",
            OracleWarning,
            stacklevel=3,
        )


class Oracle:
    """Maximises the expected reward of the step, plus what its lookahead adds.

    It reads the hidden state of the environment it is attached to, and assumes the built-in
    satisfaction of users.
    """

    observation = "dict"
    action = "slate"

    def __init__(self, name: str, lookahead: Lookahead, seed: int = 0) -> None:
        """Takes a name for tables, and what consumption is worth beyond the step."""
        self.name, self.lookahead, self.seed = name, lookahead, seed

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns nothing: it knows."""

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment whose users it reads."""
        warn_of_response(env.config)
        self._simulator = env.simulator

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k)."""
        simulator, world = self._simulator, self._simulator.world
        slates = np.empty((simulator.n, simulator.config.slate_size), np.int64)
        oracle_slates(
            compiled_view(simulator.users, USER),
            world.params,
            world.interests.vectors,
            world.text_vectors,
            world.traits,
            self.lookahead,
            observation["candidates"],
            slates,
        )
        return slates

    def save(self, path: Path) -> None:
        """Writes the lookahead."""
        write_agent(path, self.name, {"seed": self.seed}, {"lookahead": np.array(self.lookahead)})

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the lookahead; `attach` gives it users to read."""
        self.lookahead = Lookahead(*weights["lookahead"].tolist())


def myopic_oracle(**settings: Any) -> Oracle:
    """Returns the oracle that maximises the expected reward of the step."""
    return Oracle("oracle-myopic", Lookahead(), **settings)


def planning_oracle(seed: int = 0, **lookahead: float) -> Oracle:
    """Returns the oracle that looks ahead; takes the fields of Lookahead."""
    return Oracle("oracle-planning", Lookahead(**lookahead), seed)
