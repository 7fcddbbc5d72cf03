"""Settings of the slateq agent, and which of them go together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agents.slates import SLATES
from llmrec_env.config import unknown


@dataclass(frozen=True)
class Settings:
    """Of the learner, all of them needed; their values are in `agents/registry.py`.

    Raises:
        ValueError: there is no such way to make slates, or not with this mmr.
    """

    gamma: float
    """Discount; 0 looks no further than the step."""
    td_lambda: float
    """λ of the returns that V learns from."""
    slates: str
    """How a slate is made of values, of SLATES."""
    mmr: float
    """Penalty for likeness to what is above on the slate."""
    explore: float
    """Share of slots filled at random while learning."""
    interest_optimism: float
    """Added to values for each deviation of a text's closeness over the interests believed in."""
    taste_optimism: float
    """Added to values for each deviation of what relevance has beside the text."""
    ema_decay: float
    """What the weights that it acts by keep of themselves at an update; 0: the latest weights."""
    steps: int
    """Of each session between two updates, through which gradients flow."""
    learning_rate: float
    """Of the user model, at its height."""
    future_rate: float
    """Learning rate of the future."""
    lr_half_life: int
    """Steps after which learning rates have halved; they fall as 1 / (1 + steps / lr_half_life)."""
    shrinkage: float
    """Strength, in steps, of the prior that items are what their texts say."""
    warm_up: int
    """Updates before the future begins to count."""
    ramp: int
    """Updates in which it then comes to count in full."""
    log_epochs: int
    """Passes over the logs before acting."""
    instruction: bool
    """Whether what users say they want more of counts as a phrase typed."""

    def __post_init__(self) -> None:
        for name in ("interest_optimism", "taste_optimism"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name}={value} must be finite and at least 0; 0 is none.")
        if self.slates not in SLATES:
            raise ValueError(unknown("slates", self.slates, list(SLATES)))
        if self.slates == "exact" and self.mmr > 0:
            raise ValueError(
                f"slates='exact' knows no penalty for likeness, but mmr={self.mmr}; set mmr=0, or "
                "slates='greedy'."
            )
