"""Settings of the joint recommender, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass

from agents.slates import SLATES
from llmrec_env.config import unknown


@dataclass(frozen=True)
class Settings:
    """Of the joint recommender; a half whose loss has weight 0 does not exist.

    Raises:
        ValueError: no loss has a weight, a number is out of range, or there is no such way to make
            slates.
    """

    click: float = 1.0
    """λ1, weight of the loss of choices; 0: no factors, no biases and no model of choices."""
    text: float = 1.0
    """λ2, weight of the loss of satisfaction and ratings; 0: no text is read."""
    rank: int = 8
    """Factors of a user and an item; 0: texts and biases alone."""
    deviation: float = 0.005
    """Variance of an item's factors around what its text predicts."""
    text_map: float = 0.01
    """Variance of the map from texts to factors; 0: every item's factors are its own."""
    sweeps: int = 8
    """Rounds by turns of users, items and biases."""
    iterations: int = 40
    """Of the descent of the response's parameters, at most."""
    steps: int = 50_000
    """Logged steps, drawn once, that these few parameters learn from."""
    substance: float = 0.08
    """What substance is worth beyond the step, in reward: goodwill lasts."""
    skipped: float = 0.6
    """What likeness to what was skipped costs, in relevance: see `response.Response`."""
    patience: float = 0.0
    """What satisfaction is worth beyond the step, in reward: patience lasts."""
    instruction: bool = True
    """Whether a phrase that a user wants more of counts as typed."""
    curiosity: float = 0.1
    """What a deviation of the relevance is worth beyond the step: it will be known."""
    slates: str = "exact"
    """How a slate is made of values, of `agents.slates.SLATES`."""

    def __post_init__(self) -> None:
        if self.slates not in SLATES:
            raise ValueError(unknown("slates", self.slates, list(SLATES)))
        if min(self.click, self.text) < 0 or self.click + self.text == 0:
            text = f"click={self.click}, text={self.text}"
            raise ValueError(f"{text}: weights of losses are 0 or more, at least one above 0.")
        if self.deviation <= 0 or min(self.text_map, self.rank) < 0:
            text = f"deviation={self.deviation}, text_map={self.text_map}"
            raise ValueError(
                f"{text}, rank={self.rank}: deviation is above 0, the others are 0 or more."
            )
