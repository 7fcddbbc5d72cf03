"""A recurrent model of a user, learnt from what users choose: who wants what now.

Its state is a belief over the catalogue's interest phrases (how much the user wants each), a
text-free taste, satiation and goodwill. What a user does with a slate moves the belief along the
gradient of the likelihood of that choice (an exponentiated-gradient step: Kivinen and Warmuth,
Information and Computation 132, 1997): what was expected teaches little, what surprises much. How
far each observation moves it, how fast it forgets, and what items are like beside their texts are
parameters, trained through time by the likelihood of choices, satisfaction and rewards.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import nn

from llmrec_env.world import PublicData

Tensor = torch.Tensor
TASTES = 8
PRIOR_MASS, LEAST_MASS = 7.0, 0.5
"""Sums of the belief over all phrases: before anything is known, and at the least."""
MOST = 1.5
_STEP = 3.0  # largest change of a log-weight in a step

POSITIVE = {
    **{"relevance": 4.7, "position": 0.5, "pleasure": 2.0, "tired": 0.3, "bored": 0.5},
    **{"chosen": 0.46, "passed": 0.4, "pleased": 0.37, "asked": 0.45},
    **{"taste_chosen": 0.1, "taste_passed": 0.1, "taste_pleased": 0.1},
}
"""Parameters above 0 and where they start: effects on the choice and on satisfaction, then how far
an item that was chosen, passed over or that pleased, and a query, move the belief and the taste."""
SHARES = {"forgetting": 0.02, "satiation": 0.85, "goodwill": 0.95, "taste": 0.98}
"""Parameters in (0, 1): what the belief loses in a step, and what is kept of the rest."""
FREE = {
    **{"nothing": 3.0, "mood": -1.7, "lure": 0.3, "taste_pleasure": 1.0, "trust": 0.05},
    "reward": 1.0,
}
"""Parameters of any sign."""
PARAMETERS = np.dtype([(name, np.float64) for name in (*POSITIVE, *SHARES, *FREE)])


class State(NamedTuple):
    """What is believed of n users."""

    belief: Tensor  # (n, P), weights of the phrases
    taste: Tensor  # (n, TASTES)
    satiation: Tensor  # (n, d)
    goodwill: Tensor  # (n,)


class Happened(NamedTuple):
    """One step of n users."""

    slate: Tensor  # (n, K), item ids; -1: the step is not there
    choice: Tensor  # (n,), slot, K for none
    satisfied: Tensor  # (n,), 0 or 1
    query: Tensor  # (n,), phrase id, -1 for none


class Judged(NamedTuple):
    """What the model made of a step, before it learnt from it."""

    choice_loss: Tensor  # (n,), cross-entropy of the choice
    satisfaction_loss: Tensor  # (n,), log-loss of satisfaction, 0 where nothing was consumed
    reward: Tensor  # (n,), expected of the consumed item
    consumed: Tensor  # (n,), whether something was


class UserModel(nn.Module):
    """Parameters of the model, and its recurrence in torch; `tracking.py` compiles the same."""

    vectors: Tensor  # (N, d)
    phrases: Tensor  # (P, d), by the mean cosine of a phrase and its best item: f = 1 is the best
    substance: Tensor  # (N,)

    def __init__(self, data: PublicData, seed: int = 0) -> None:
        """Takes the public texts' encodings.

        Args:
            data: of the world.
            seed: of the items' first tastes.
        """
        super().__init__()
        items, phrases = data.items, data.phrase_vectors
        best = (phrases @ items.vectors.T).max(1).mean()
        self.register_buffer("vectors", torch.tensor(items.vectors))
        self.register_buffer("phrases", torch.tensor(phrases / best))
        self.register_buffer("substance", torch.tensor(items.substance))
        starts = {name: math.log(x) for name, x in POSITIVE.items()}
        starts |= {name: math.log(x / (1.0 - x)) for name, x in SHARES.items()} | FREE
        self.raw = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(x)) for name, x in starts.items()}
        )
        num_items, num_phrases = len(items.vectors), len(phrases)
        tastes = np.random.default_rng([seed, 5]).normal(size=(num_items, TASTES))
        self.biases = nn.Parameter(torch.zeros(num_items, 2))  # of the choice, of satisfaction
        self.tastes = nn.Parameter(torch.tensor(0.05 * tastes, dtype=torch.float32))
        self.shared_taste = nn.Parameter(torch.zeros(num_phrases, TASTES))
        self.least = LEAST_MASS / num_phrases
        self.prior_start = math.log(PRIOR_MASS / num_phrases)
        self.prior = nn.Parameter(torch.full((num_phrases,), self.prior_start))

    def parameters_now(self) -> dict[str, Tensor]:
        """Returns the single parameters by name, within their bounds."""
        bounds = {**dict.fromkeys(POSITIVE, torch.exp), **dict.fromkeys(SHARES, torch.sigmoid)}
        return {name: bounds[name](x) if name in bounds else x for name, x in self.raw.items()}

    def start(self, n: int) -> State:
        """Returns the state of n users of whom nothing is known."""
        belief = self._prior_now().expand(n, -1)
        zeros = torch.zeros(n, self.vectors.shape[1])
        return State(belief, torch.zeros(n, TASTES), zeros, torch.zeros(n))

    def step(self, q: dict[str, Tensor], state: State, happened: Happened) -> tuple[Judged, State]:
        """Judges a step by what was believed before it, and returns what is believed after it.

        Args:
            q: of `parameters_now`.
            state: before the step.
            happened: in the step; users whose slate is -1 keep their state.
        """
        there = happened.slate[:, 0] >= 0
        ids, k = happened.slate.clamp(min=0), happened.slate.shape[1]
        vectors, interest = self.vectors[ids], state.belief @ self.phrases
        f = torch.relu(torch.einsum("nkd,nd->nk", vectors, interest))
        liked = state.taste + state.belief @ self.shared_taste
        taste = torch.einsum("nkr,nr->nk", self.tastes[ids], liked)
        tired = 1.0 - torch.exp(-torch.relu(torch.einsum("nkd,nd->nk", vectors, state.satiation)))
        biases, substance = self.biases[ids], self.substance[ids]
        utility = q["relevance"] * f + biases[..., 0] + taste - q["tired"] * tired
        utility = utility - q["lure"] * substance - q["position"] * _log_ranks(k) - q["nothing"]
        odds = q["pleasure"] * f + biases[..., 1] + q["taste_pleasure"] * taste
        odds = odds - q["bored"] * tired + (q["trust"] * state.goodwill)[:, None] + q["mood"]
        share = torch.cat([utility, torch.zeros(len(ids), 1)], 1).log_softmax(1)
        consumed = there & (happened.choice < k)
        slot = happened.choice.clamp(max=k - 1)[:, None]
        chosen = functional.one_hot(happened.choice, k + 1)[:, :k].float()
        odds_chosen = odds.gather(1, slot)[:, 0]
        missed = functional.binary_cross_entropy_with_logits(
            odds_chosen, happened.satisfied, reduction="none"
        )
        pleased = torch.sigmoid(odds_chosen)
        judged = Judged(
            -share.gather(1, happened.choice[:, None])[:, 0] * there,
            missed * consumed,
            q["reward"] * pleased * f.gather(1, slot)[:, 0],
            consumed,
        )
        surprise = (happened.satisfied - pleased)[:, None] * chosen
        expected = share[:, :k].exp()
        pull = q["chosen"] * chosen - q["passed"] * expected + q["pleased"] * surprise
        moved = torch.einsum("nk,nkd->nd", pull, vectors) @ self.phrases.T
        moved = moved.clamp(-_STEP, _STEP)
        belief = (1.0 - q["forgetting"]) * state.belief * moved.exp()
        belief = belief + q["forgetting"] * self._prior_now() + q["asked"] * self._asked(happened)
        pull = q["taste_chosen"] * chosen - q["taste_passed"] * expected
        pull = pull + q["taste_pleased"] * surprise
        taste = q["taste"] * state.taste + torch.einsum("nk,nkr->nr", pull, self.tastes[ids])
        taken = (chosen * consumed[:, None])[..., None]
        after = State(
            belief.clamp(self.least, MOST),
            taste,
            q["satiation"] * state.satiation + (taken * vectors).sum(1),
            q["goodwill"] * state.goodwill + (taken[..., 0] * substance).sum(1),
        )
        kept = [
            torch.where(there.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(after, state, strict=True)
        ]
        return judged, State(*kept)

    def _prior_now(self) -> Tensor:
        return self.prior.exp().clamp(self.least, MOST)

    def _asked(self, happened: Happened) -> Tensor:
        asked = torch.zeros(len(happened.query), len(self.prior))
        rows = torch.nonzero(happened.query >= 0)[:, 0]
        asked[rows, happened.query[rows]] = 1.0
        return asked

    def penalty(self, strength: float, steps: int) -> Tensor:
        """Returns what pulls items towards their texts alone; it fades as steps are seen."""
        squares = self.biases.square().sum() + self.tastes.square().sum()
        squares = squares + 2.0 * self.shared_taste.square().sum()
        return strength / steps * squares + 3e-4 * (self.prior - self.prior_start).square().sum()

    def exported(self) -> Exported:
        """Returns the parameters as arrays, for the compiled recurrence."""
        q = np.zeros(1, PARAMETERS)
        with torch.no_grad():
            for name, value in self.parameters_now().items():
                q[name] = float(value)
            prior = self._prior_now()
        learnt = (self.biases, self.tastes, self.shared_taste, prior)
        biases, tastes, shared_taste, prior = (x.detach().numpy().copy() for x in learnt)
        return Exported(
            *(q, np.ascontiguousarray(self.phrases.numpy().T), self.phrases.numpy()),
            *(self.vectors.numpy(), self.substance.numpy()),
            *(biases, tastes, shared_taste, prior, np.float32(self.least)),
        )


class Exported(NamedTuple):
    """A user model as arrays."""

    parameters: npt.NDArray[np.void]  # one record
    phrases_across: npt.NDArray[np.float32]  # (d, P)
    phrases: npt.NDArray[np.float32]  # (P, d)
    vectors: npt.NDArray[np.float32]  # (N, d)
    substance: npt.NDArray[np.float32]  # (N,)
    biases: npt.NDArray[np.float32]  # (N, 2)
    tastes: npt.NDArray[np.float32]  # (N, TASTES)
    shared_taste: npt.NDArray[np.float32]  # (P, TASTES)
    prior: npt.NDArray[np.float32]  # (P,)
    least: np.float32


def _log_ranks(k: int) -> Tensor:
    return torch.arange(1, k + 1, dtype=torch.float32).log()
