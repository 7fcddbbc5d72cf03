"""Stochastic policy over slates whose probabilities are known: agents mixed slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.base import Agent
from agents.item_noise import gumbel_of_items, new_keys

Floats = npt.NDArray[np.float64]
Slates = npt.NDArray[np.int64]


class SlotMixture:
    """Fills each slot, independently of the others, as one of several agents does, or at random.

    Slot k shows what agent j has there with probability `shares[j]`, and any of the candidates on
    offer with what is left of 1. So the propensity of a slate is the product of those of its slots,
    and both are exact. A candidate that is drawn twice is shown once: see `action="slate"`.
    """

    name = "slot-mixture"
    observation = "dict"
    action = "slate"
    propensities: Floats
    """With which the slots of the last slates were drawn, (n, K)."""

    def __init__(self, agents: Sequence[Agent], shares: Sequence[float], seed: int = 0) -> None:
        """Takes fitted agents that act by slates, and how often each fills a slot.

        Raises:
            ValueError: an agent acts otherwise, or shares are not probabilities.
        """
        for agent in agents:
            if agent.action != self.action or agent.observation != self.observation:
                raise ValueError(
                    f"the agent {agent.name!r} acts by action={agent.action!r} on observation="
                    f"{agent.observation!r}; only agents of 'slate' and 'dict' can be mixed."
                )
        total = float(np.sum(shares))
        valid = all(share >= 0.0 for share in shares) and total <= 1.0 + 1e-9
        if not agents or len(shares) != len(agents) or not valid:
            raise ValueError(
                f"shares={tuple(shares)} for {len(agents)} agents; give one agent or more, each a "
                "share of 0 or more, at most 1 together (0 alone draws everything at random)."
            )
        self.agents, self.shares = tuple(agents), np.array(shares, np.float64)
        self.random_share = max(1.0 - total, 0.0)
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> Slates:
        """Returns candidate indices, (n, K), drawn slot by slot; remembers their propensities."""
        shown = self.proposals(observation, episode_starts)
        slates = self._random(observation["candidates"], shown.shape[2])
        source = self._rng.random(slates.shape)
        bounds = np.cumsum(self.shares)
        for j in range(len(self.agents)):
            drawn = (source < bounds[j]) & (source >= bounds[j] - self.shares[j])
            slates[drawn] = shown[j][drawn]
        self.propensities = self.probabilities(slates, shown, observation["candidates"])
        return slates

    def proposals(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> Slates:
        """Returns the slate of each agent, (agents, n, K); call it once a step: some remember."""
        slates = [agent.act(observation, episode_starts) for agent in self.agents]
        return np.stack(slates).astype(np.int64)

    def probabilities(
        self, slates: Slates, proposals: Slates, candidates: npt.NDArray[np.int32]
    ) -> Floats:
        """Returns the probability of what each slot holds, (n, K).

        Args:
            slates: candidate indices, (n, K).
            proposals: of the agents in the same step, (agents, n, K).
            candidates: ids of those on offer, -1 for none, (n, C).
        """
        count = (candidates >= 0).sum(1, keepdims=True)
        offered = np.take_along_axis(candidates, slates, 1) >= 0
        return offered * self.random_share / count + np.einsum(
            "j,jnk->nk", self.shares, proposals == slates
        )

    def _random(self, candidates: npt.NDArray[np.int32], slots: int) -> Slates:
        """Uniformly drawn candidates, (n, K): items, so that their order plays no part."""
        columns = []
        for _ in range(slots):
            noise = gumbel_of_items(new_keys(self._rng, len(candidates)), candidates)
            columns.append(np.where(candidates >= 0, noise, -np.inf).argmax(1))
        return np.stack(columns, axis=1)
