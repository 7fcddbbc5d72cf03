"""Response model of the joint recommender: what is chosen of a slate, and whether it satisfies.

Both losses read one relevance, f = softplus(text + taste), of what the texts say of a user and an
item and of what their factors add. It is written twice: compiled, to act and to fold users in, and
in torch, where its few parameters learn with the weights of TEXT_FEATURES.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import nn

from agents.joint.memory import NUM_FEATURES, SKIPPED
from llmrec_env.simulation.compilation import inlined
from llmrec_env.simulation.elementary import exp64, log64

Tensor = torch.Tensor

SOFTNESS = 0.05
"""Width of the bend of f at 0, in units of relevance."""
_CHOICE = {  # of the choice, against the null item
    "bias_choice": -3.0,
    "lure": 0.3,
    "popular_choice": 1.0,
    "tired_choice": 0.0,
    "position": 0.5,
}
_SATISFACTION = {  # log-odds of satisfaction
    "relevance_satisfaction": 3.0,
    "bias_satisfaction": -1.0,
    "substance_satisfaction": 0.0,
    "popular_satisfaction": 1.0,
    "tired_satisfaction": 0.2,
    "goodwill_satisfaction": 0.1,
}
_WEIGHTS = (0.3, 0.3, 0.0, -0.2, -0.5, 0.5, 0.3)  # of TEXT_FEATURES
_PRIOR = 20.0  # steps that a parameter at a distance of 1 from its start has against it
_UNIT = torch.tensor(5.0, dtype=torch.float64)
"""Logits of the choice for a relevance of 1: what fixes the scale of relevance."""
_FRESH = {"fresh_choice": 0.0}
"""Of the choice, in worlds whose items age."""
_FAMILIAR = {"familiar_choice": 0.0, "familiar_satisfaction": 0.0}
"""Of choice and satisfaction, where users mind who made an item."""
_QUESTION = {"question_choice": 0.0, "question_satisfaction": 0.0}
"""Of choice and satisfaction, where answers resolve questions."""
_LOGS_ALONE = {"rating_slope": 1.0, "rating_bias": 0.0, "alike": 0.0}
PARAMETERS = np.dtype(
    [("weights", np.float64, (NUM_FEATURES,))]
    + [
        (name, np.float64)
        for name in (
            *("relevance_choice", *_CHOICE, *_FRESH, *_SATISFACTION, "click", "text"),
            *_FAMILIAR,
            *_QUESTION,
        )
    ]
)
"""A record of them; `click` and `text` are λ1 and λ2."""


class Taste(NamedTuple):
    """What is learnt of items beside their texts."""

    factors: npt.NDArray[np.float64]  # (N, r), means
    spread: npt.NDArray[np.float64]  # (N, r, r), covariances
    click_bias: npt.NDArray[np.float64]  # (N,), of the choice
    text_bias: npt.NDArray[np.float64]  # (N,), of satisfaction


# --- compiled


@inlined
def bend(x, width):
    """Returns f = softplus(x), a maximum of x and 0 that bends over a width, and its slope."""
    z = x / width
    e = exp64(-abs(z))
    slope = 1.0 / (1.0 + e)
    return width * (max(z, 0.0) + log64(1.0 + e)), slope if z > 0.0 else 1.0 - slope


@inlined
def respond(q, texts, taste, item, f, tired, goodwill):
    """Returns the utility of an item at rank 1 against the null item, and the odds' logarithm."""
    substance, popularity = texts.substance[item], texts.popularity[item]
    utility = q.relevance_choice * f + q.bias_choice - q.lure * substance
    utility += q.popular_choice * popularity - q.tired_choice * tired + taste.click_bias[item]
    odds = q.relevance_satisfaction * f + q.bias_satisfaction + q.substance_satisfaction * substance
    odds += q.popular_satisfaction * popularity - q.tired_satisfaction * tired
    return utility, odds + q.goodwill_satisfaction * goodwill + taste.text_bias[item]


# --- in torch


class Steps(NamedTuple):
    """Logged steps as tensors."""

    features: Tensor  # (m, K, 7)
    taste: Tensor  # (m, K), what the factors add to the text
    alike: Tensor  # (m, K), see `past.Past`
    tired: Tensor  # (m, K)
    fresh: Tensor  # (m, K), how fresh each item was
    familiar: Tensor  # (m, K), how familiar the user was with who made it
    question: Tensor  # (m, K), how well each item answered an open question
    goodwill: Tensor  # (m,)
    substance: Tensor  # (m, K)
    popularity: Tensor  # (m, K)
    click_bias: Tensor  # (m, K)
    text_bias: Tensor  # (m, K)
    choice: Tensor  # (m,), slot, K for none
    satisfied: Tensor  # (m,), 0 or 1
    rating: Tensor  # (m,), 1 to 5, 0 for none


class Response(nn.Module):
    """The parameters, and the two losses."""

    fixed: Tensor  # (7,), weights that are given; 0: learnt

    def __init__(
        self,
        click: float,
        text: float,
        skipped: float = 0.5,
        ageing: bool = False,
        attaching: bool = False,
        resolving: bool = False,
    ) -> None:
        """Takes λ1 and λ2, and what likeness to what was skipped costs, which logs cannot tell.

        A logging policy shows what users look for: in its logs, what was skipped is a good sign.

        Args:
            click: λ1.
            text: λ2.
            skipped: what likeness to what was skipped costs.
            ageing: whether items age, so that what freshness adds to the choice is learnt.
            attaching: whether users mind who made an item, so that what that adds is learnt.
            resolving: whether answers resolve questions, so that what answering one adds is learnt.
        """
        super().__init__()
        self.click, self.text = click, text
        self.weights = nn.Parameter(torch.tensor(_WEIGHTS, dtype=torch.float64))
        starts = _CHOICE | _SATISFACTION | _LOGS_ALONE
        starts |= (_FRESH if ageing else {}) | (_FAMILIAR if attaching else {})
        starts |= _QUESTION if resolving else {}
        fixed = torch.zeros(NUM_FEATURES, dtype=torch.float64)
        fixed[SKIPPED] = -skipped
        self.register_buffer("fixed", fixed)
        self.raw = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(x, dtype=torch.float64)) for name, x in starts.items()}
        )

    def now(self) -> dict[str, Tensor]:
        """Returns the single parameters by name."""
        return {"relevance_choice": _UNIT, **self.raw}

    def text_weights(self) -> Tensor:
        """Returns the weights of TEXT_FEATURES, (7,)."""
        return torch.where(self.fixed == 0, self.weights, self.fixed)

    def text_scores(self, steps: Steps) -> Tensor:
        """Returns what the texts say of the items on each slate, (m, K).

        A logging policy that shows search results shows what users look for; what is alike on a
        slate tells so in logs, so that the weights need not.
        """
        return steps.features @ self.text_weights() + self.now()["alike"] * steps.alike

    def relevance(self, steps: Steps) -> Tensor:
        """Returns f of the items on each slate, (m, K)."""
        text = self.text_scores(steps) if self.text else 0.0
        return SOFTNESS * functional.softplus((text + steps.taste) / SOFTNESS)

    def utilities(self, f: Tensor, steps: Steps) -> Tensor:
        """Returns the utilities of the slots and the null item, (m, K + 1)."""
        q, k = self.now(), f.shape[1]
        shown = q["relevance_choice"] * f + q["bias_choice"]
        shown = shown + q["popular_choice"] * steps.popularity
        if self.text:  # what the texts say of items
            shown = shown - q["lure"] * steps.substance - q["tired_choice"] * steps.tired
        if "fresh_choice" in q:
            shown = shown + q["fresh_choice"] * steps.fresh
        if "familiar_choice" in q:
            shown = shown + q["familiar_choice"] * steps.familiar
        if "question_choice" in q:
            shown = shown + q["question_choice"] * steps.question
        log_ranks = torch.arange(1, k + 1, dtype=f.dtype).log()
        shown = shown + steps.click_bias - q["position"] * log_ranks
        return torch.cat([shown, torch.zeros_like(shown[:, :1])], dim=1)

    def log_odds(self, f: Tensor, steps: Steps) -> Tensor:
        """Returns the log-odds that each item would satisfy, (m, K)."""
        q = self.now()
        odds = q["relevance_satisfaction"] * f + q["bias_satisfaction"] + steps.text_bias
        odds = odds + q["substance_satisfaction"] * steps.substance
        odds = odds + q["popular_satisfaction"] * steps.popularity
        odds = odds - q["tired_satisfaction"] * steps.tired
        if "familiar_satisfaction" in q:
            odds = odds + q["familiar_satisfaction"] * steps.familiar
        if "question_satisfaction" in q:
            odds = odds + q["question_satisfaction"] * steps.question
        return odds + (q["goodwill_satisfaction"] * steps.goodwill)[:, None]

    def choice_loss(self, steps: Steps) -> Tensor:
        """Returns L_C: mean cross-entropy of choices among slots and null item (McFadden 1974)."""
        return functional.cross_entropy(self.utilities(self.relevance(steps), steps), steps.choice)

    def text_loss(self, steps: Steps) -> Tensor:
        """Returns L_T: log-loss of satisfaction and of ratings of what was chosen, a step."""
        chosen = steps.choice < steps.tired.shape[1]
        some = Steps(*(column[chosen] for column in steps))
        odds = self.log_odds(self.relevance(some), some).gather(1, some.choice[:, None])[:, 0]
        loss = functional.binary_cross_entropy_with_logits(odds, some.satisfied, reduction="sum")
        rated, q = some.rating > 0, self.now()
        level = q["rating_slope"] * odds[rated] + q["rating_bias"]
        target = (some.rating[rated] - 1.0) / 4.0
        stars = functional.binary_cross_entropy_with_logits(level, target, reduction="sum")
        return (loss + 0.5 * stars) / len(chosen)

    def loss(self, steps: Steps) -> Tensor:
        """Returns L = λ1 · L_C + λ2 · L_T; a loss of weight 0 is not computed."""
        parts = [
            weight * loss(steps)
            for weight, loss in ((self.click, self.choice_loss), (self.text, self.text_loss))
            if weight
        ]
        return torch.stack(parts).sum()

    def fit(self, steps: Steps, iterations: int) -> float:
        """Descends by L-BFGS (Liu and Nocedal 1989), held back to where it starts.

        Args:
            steps: to learn from.
            iterations: at most.

        Returns:
            The loss.
        """
        descent = torch.optim.LBFGS(
            self.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
        )

        starts = [parameter.detach().clone() for parameter in self.parameters()]

        def evaluate() -> Tensor:
            descent.zero_grad()
            moved = zip(self.parameters(), starts, strict=True)
            away = torch.stack([(now - start).square().sum() for now, start in moved])
            loss = self.loss(steps) + _PRIOR / len(steps.choice) * away.sum()
            loss.backward()
            return loss

        descent.step(evaluate)  # type: ignore[arg-type]
        with torch.no_grad():
            return float(self.loss(steps))

    def exported(self) -> npt.NDArray[np.void]:
        """Returns a record of PARAMETERS, (1,); a half of weight 0 says nothing.

        Without λ1 every item is as likely to be chosen as another; without λ2 all of them satisfy,
        and the texts are not read.
        """
        record = np.zeros(1, PARAMETERS)
        record["click"], record["text"] = self.click, self.text
        now = {name: float(value.detach()) for name, value in self.now().items()}
        choice = ("relevance_choice", *_CHOICE, *_FRESH, "familiar_choice", "question_choice")
        satisfaction = (*_SATISFACTION, "familiar_satisfaction", "question_satisfaction")
        for weight, names in ((self.click, choice), (self.text, satisfaction)):
            for name in now.keys() & names if weight else ():
                record[name] = now[name]
        if self.text:
            record["weights"] = self.text_weights().detach().numpy()
        else:
            record["bias_satisfaction"] = _CERTAIN
            record["lure"] = record["tired_choice"] = 0.0
        return record


_CERTAIN = 40.0
