"""Recurrent user model, learnt from what users choose: who wants what now.

Its state is a belief over the catalogue's interest phrases (how much the user wants each),
satiation and goodwill; taste beside the texts (`taste.py`) is given to it as a number an item. What
a user does with a slate moves the belief along the gradient of the likelihood of that choice (an
exponentiated-gradient step: Kivinen and Warmuth, Information and Computation 132, 1997): what was
expected teaches little, what surprises much. How far each observation moves it, how fast it
forgets, and how items are chosen beside their relevance are parameters, trained through time by the
likelihood of choices, satisfaction and rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import nn

from agents.added_blocks import QUESTION
from agents.joint.response import SOFTNESS
from agents.rl.slateq.taste import Taste, no_taste
from llmrec_env.interface.candidates import FAMILIARITY, FRESHNESS
from llmrec_env.world import PublicData

Tensor = torch.Tensor
PRIOR_MASS, LEAST_MASS = 7.0, 0.5
"""Sums of the belief over all phrases: before anything is known, and at the least."""
MOST = 1.5
_STEP = 3.0  # largest change of a log-weight in a step
STARTS: dict[str, tuple[str, float]] = {  # the optimiser sums gradients in this order
    "query": ("positive", 0.45),
    "satiation_satisfaction": ("positive", 0.5),
    "chosen": ("positive", 0.46),
    "forgetting": ("share", 0.02),
    "goodwill": ("share", 0.95),
    "lure": ("free", 0.3),
    "session_bias": ("free", -1.7),
    "null_utility": ("free", 3.0),
    "passed": ("positive", 0.4),
    "satisfied": ("positive", 0.37),
    "satisfaction": ("positive", 2.0),
    "position": ("positive", 0.5),
    "relevance": ("positive", 4.7),
    "reward": ("free", 1.0),
    "satiation": ("share", 0.85),
    "satiation_choice": ("positive", 0.3),
    "goodwill_satisfaction": ("free", 0.05),
}
"""Bounds of the single parameters, and where they start.

Effects on the choice: `relevance`, `position`, `satiation_choice`, `lure`, `null_utility`; on
satisfaction: `satisfaction` (of the relevance), `satiation_satisfaction`, `goodwill_satisfaction`,
`session_bias`; how far an item that was `chosen`, `passed` over or that `satisfied`, and a `query`,
move the belief; what the belief loses in a step (`forgetting`), and what is kept of `satiation` and
`goodwill`; the scale of `reward`.
"""
_RESOLVING = {"resolved": ("positive", 1.0)}
"""What an answer that satisfied takes from the belief that it is asked, where it resolves it."""
_ADDED_STARTS = {  # in logits of the choice, as rankers of texts weigh them beside a cosine
    "candidate_freshness": FRESHNESS * STARTS["relevance"][1],
    "candidate_familiarity": FAMILIARITY * STARTS["relevance"][1],
    QUESTION: 0.0,
}
_SATISFYING = {QUESTION: 3.0}  # in logits of satisfaction; others begin with none

BOUNDS: dict[str, tuple[Callable[[float], float], Callable[[Tensor], Tensor]]] = {
    "positive": (math.log, torch.exp),
    "share": (lambda x: math.log(x / (1.0 - x)), torch.sigmoid),
    "free": (lambda x: x, lambda x: x),
}
"""How a parameter within its bound becomes a raw one, which learns, and back."""
_ALL = STARTS | _RESOLVING
PARAMETERS = np.dtype([(name, np.float64) for name in _ALL])


class State(NamedTuple):
    """What is believed of n users."""

    belief: Tensor  # (n, P), weights of the phrases
    satiation: Tensor  # (n, d)
    goodwill: Tensor  # (n,)


class Transition(NamedTuple):
    """One step of n users."""

    slate: Tensor  # (n, K), item ids; -1: there is no such step
    choice: Tensor  # (n,), slot, K for none
    satisfied: Tensor  # (n,), 0 or 1
    query: Tensor  # (n,), phrase id, -1 for none
    taste: Tensor  # (n, K), what the slots' relevance has beside the texts
    added: Tensor  # (n, K, B), blocks of mechanisms: see `agents/added_blocks.py`


class Prediction(NamedTuple):
    """What the model expected of a step, before it learnt from it."""

    choice_loss: Tensor  # (n,), cross-entropy of the choice
    satisfaction_loss: Tensor  # (n,), log-loss of satisfaction, 0 where nothing was consumed
    reward: Tensor  # (n,), expected of the consumed item
    consumed: Tensor  # (n,), whether something was


class Appraisal(NamedTuple):
    """Slates as a user is believed to see them."""

    vectors: Tensor  # (n, K, d)
    text: Tensor  # (n, K), relevance by the texts alone, not cut at 0
    relevance: Tensor  # (n, K)
    utility: Tensor  # (n, K)
    log_odds: Tensor  # (n, K), of satisfaction


class Outcome(NamedTuple):
    """What became of slates, against what was expected."""

    chosen: Tensor  # (n, K), 1 for the chosen item
    consumed: Tensor  # (n,)
    surprise: Tensor  # (n, K), satisfaction beyond the expected, of the chosen item
    expected: Tensor  # (n, K), probabilities of the choice


class UserModel(nn.Module):
    """Parameters of the model, and its recurrence in torch; `tracking.py` compiles the same."""

    vectors: Tensor  # (N, d)
    phrases: Tensor  # (P, d), by the mean cosine of a phrase and its best item: f = 1 is the best
    substance: Tensor  # (N,)

    taste: Taste

    def __init__(self, data: PublicData, blocks: Sequence[str] = ()) -> None:
        """Takes the public texts' encodings, and the names of the blocks that mechanisms add."""
        super().__init__()
        items, phrases = data.items, data.phrase_vectors
        best = (phrases @ items.vectors.T).max(1).mean()
        self.register_buffer("vectors", torch.tensor(items.vectors))
        self.register_buffer("phrases", torch.tensor(phrases / best))
        self.register_buffer("substance", torch.tensor(items.substance))
        self.raw = nn.ParameterDict(
            (name, nn.Parameter(torch.tensor(BOUNDS[bound][0](start))))
            for name, (bound, start) in (_ALL if QUESTION in blocks else STARTS).items()
        )
        num_items, num_phrases = len(items.vectors), len(phrases)
        self.biases = nn.Parameter(torch.zeros(num_items, 2))  # of the choice, of satisfaction
        self.taste = no_taste(num_items)
        self.least = LEAST_MASS / num_phrases
        self.prior_start = math.log(PRIOR_MASS / num_phrases)
        self.prior = nn.Parameter(torch.full((num_phrases,), self.prior_start))
        self.added = nn.ParameterDict(  # weights of blocks in choice and satisfaction
            (name, nn.Parameter(torch.tensor([_ADDED_STARTS[name], _SATISFYING.get(name, 0.0)])))
            for name in blocks
        )

    def parameters_now(self) -> dict[str, Tensor]:
        """Returns the single parameters by name, within their bounds."""
        return {name: BOUNDS[_ALL[name][0]][1](value) for name, value in self.raw.items()}

    def start(self, n: int) -> State:
        """Returns the state of n users of whom nothing is known."""
        belief = self._prior_now().expand(n, -1)
        zeros = torch.zeros(n, self.vectors.shape[1])
        return State(belief, zeros, torch.zeros(n))

    def step(
        self,
        q: dict[str, Tensor],
        state: State,
        transition: Transition,
        relevance: Tensor | None = None,
    ) -> tuple[Prediction, State]:
        """Predicts a step by what was believed before it, and returns what is believed after it.

        Args:
            q: of `parameters_now`.
            state: before the step.
            transition: users whose slate is -1 keep their state.
            relevance: of the slots where it is known, (n, K), which taste is part of.
        """
        present, ids = transition.slate[:, 0] >= 0, transition.slate.clamp(min=0)
        taste, added = transition.taste, transition.added
        appraisal = self.appraise(q, state, ids, taste, added, relevance)
        prediction, outcome = _predict(q, appraisal, transition, present)
        after = self._updated(q, state, ids, appraisal, outcome, transition)
        parts = [
            torch.where(present.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(after, state, strict=True)
        ]
        return prediction, State(*parts)

    def appraise(
        self,
        q: dict[str, Tensor],
        state: State,
        ids: Tensor,
        taste: Tensor,
        added: Tensor,
        relevance: Tensor | None = None,
    ) -> Appraisal:
        """Returns slates, (n, K) ids, as users in a state are believed to see them."""
        vectors, interest = self.vectors[ids], state.belief @ self.phrases
        text = torch.einsum("nkd,nd->nk", vectors, interest)
        f = SOFTNESS * functional.softplus((text + taste) / SOFTNESS)
        f = f if relevance is None else relevance
        satiation = torch.einsum("nkd,nd->nk", vectors, state.satiation)
        satiation = 1.0 - torch.exp(-torch.relu(satiation))
        biases, substance = self.biases[ids], self.substance[ids]
        utility = q["relevance"] * f + biases[..., 0] - q["satiation_choice"] * satiation
        log_ranks = torch.arange(1, ids.shape[1] + 1, dtype=torch.float32).log()
        utility = utility - q["lure"] * substance - q["position"] * log_ranks
        utility = utility - q["null_utility"]
        odds = q["satisfaction"] * f + biases[..., 1]
        odds = odds - q["satiation_satisfaction"] * satiation
        odds = odds + (q["goodwill_satisfaction"] * state.goodwill)[:, None] + q["session_bias"]
        weights = self._added_weights()
        utility, odds = utility + added @ weights[:, 0], odds + added @ weights[:, 1]
        return Appraisal(vectors, text, f, utility, odds)

    def _updated(
        self,
        q: dict[str, Tensor],
        state: State,
        ids: Tensor,
        appraisal: Appraisal,
        outcome: Outcome,
        transition: Transition,
    ) -> State:
        """The state after the step, also of users for whom there was none."""
        chosen, consumed, surprise, expected = outcome
        vectors, substance = appraisal.vectors, self.substance[ids]
        pull = q["chosen"] * chosen - q["passed"] * expected + q["satisfied"] * surprise
        if "resolved" in q:
            pull = pull - q["resolved"] * chosen * transition.satisfied[:, None]
        change = torch.einsum("nk,nkd->nd", pull, vectors) @ self.phrases.T
        change = change.clamp(-_STEP, _STEP)
        belief = (1.0 - q["forgetting"]) * state.belief * change.exp()
        belief = belief + q["forgetting"] * self._prior_now()
        belief = belief + q["query"] * self._queried(transition)
        consumption = (chosen * consumed[:, None])[..., None]
        return State(
            belief.clamp(self.least, MOST),
            q["satiation"] * state.satiation + (consumption * vectors).sum(1),
            q["goodwill"] * state.goodwill + (consumption[..., 0] * substance).sum(1),
        )

    def _prior_now(self) -> Tensor:
        return self.prior.exp().clamp(self.least, MOST)

    def _queried(self, transition: Transition) -> Tensor:
        phrases = torch.zeros(len(transition.query), len(self.prior))
        rows = torch.nonzero(transition.query >= 0)[:, 0]
        phrases[rows, transition.query[rows]] = 1.0
        return phrases

    def _added_weights(self) -> Tensor:
        return torch.stack([*self.added.values()]) if self.added else torch.zeros(0, 2)

    def penalty(self, strength: float, steps: int) -> Tensor:
        """Returns what pulls items towards their texts alone; it fades as steps are seen."""
        squares = self.biases.square().sum()
        return strength / steps * squares + 3e-4 * (self.prior - self.prior_start).square().sum()

    def exported(self) -> Exported:
        """Returns the parameters as arrays, for the compiled recurrence."""
        q = np.zeros(1, PARAMETERS)
        with torch.no_grad():
            for name, value in self.parameters_now().items():
                q[name] = float(value)
            prior = self._prior_now()
        biases, prior = (x.detach().numpy().copy() for x in (self.biases, prior))
        return Exported(
            parameters=q,
            phrases_across=np.ascontiguousarray(self.phrases.numpy().T),
            phrases=self.phrases.numpy(),
            vectors=self.vectors.numpy(),
            substance=self.substance.numpy(),
            biases=biases,
            added=self._added_weights().detach().numpy().copy(),
            taste=self.taste,
            prior=prior,
            least=np.float32(self.least),
        )


class Exported(NamedTuple):
    """A user model as arrays."""

    parameters: npt.NDArray[np.void]  # one record
    phrases_across: npt.NDArray[np.float32]  # (d, P)
    phrases: npt.NDArray[np.float32]  # (P, d)
    vectors: npt.NDArray[np.float32]  # (N, d)
    substance: npt.NDArray[np.float32]  # (N,)
    biases: npt.NDArray[np.float32]  # (N, 2)
    added: npt.NDArray[np.float32]  # (B, 2)
    taste: Taste  # not a copy: it learns while it is used
    prior: npt.NDArray[np.float32]  # (P,)
    least: np.float32


def _predict(
    q: dict[str, Tensor], appraisal: Appraisal, transition: Transition, present: Tensor
) -> tuple[Prediction, Outcome]:
    n, k = appraisal.utility.shape
    share = torch.cat([appraisal.utility, torch.zeros(n, 1)], 1).log_softmax(1)
    consumed = present & (transition.choice < k)
    slot = transition.choice.clamp(max=k - 1)[:, None]
    chosen = functional.one_hot(transition.choice, k + 1)[:, :k].float()
    log_odds = appraisal.log_odds.gather(1, slot)[:, 0]
    satisfaction_loss = functional.binary_cross_entropy_with_logits(
        log_odds, transition.satisfied, reduction="none"
    )
    satisfaction = torch.sigmoid(log_odds)
    prediction = Prediction(
        -share.gather(1, transition.choice[:, None])[:, 0] * present,
        satisfaction_loss * consumed,
        q["reward"] * satisfaction * appraisal.relevance.gather(1, slot)[:, 0],
        consumed,
    )
    surprise = (transition.satisfied - satisfaction)[:, None] * chosen
    return prediction, Outcome(chosen, consumed, surprise, share[:, :k].exp())
