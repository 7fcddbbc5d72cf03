"""Settings of the world model agent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Of the learner, all of them needed; their values are in `agents/registry.py`."""

    gamma: float
    """Discount; 0 looks no further than the step."""
    td_lambda: float
    """λ of the returns that values learn from."""
    sums: int
    """S, fading sums of items' vectors that are kept of a user."""
    hidden: int
    """H, units of the GRU."""
    heads: int
    """M, heads whose mixture foretells a step and over which slates are hedged."""
    explore: float
    """Share of slots filled at random while learning."""
    ema_decay: float
    """What the weights that it acts by keep of themselves at an update; 0: the latest weights."""
    steps: int
    """Of each session between two updates, through which gradients flow."""
    descents: int
    """Steps of the optimiser in an update, each on the latest rollout and an earlier one."""
    num_rollouts: int
    """Rollouts, the latest, that it learns from."""
    learning_rate: float
    """Of the network, at its height; that of the items' own numbers is a tenth of it."""
    future_rate: float
    """Learning rate of the values."""
    lr_half_life: int
    """Steps after which learning rates have halved; they fall as 1 / (1 + steps / lr_half_life)."""
    warm_up: int
    """Updates before the future begins to count."""
    ramp: int
    """Updates in which it then comes to count in full."""
    log_epochs: int
    """Passes over the logs before acting."""
    instruction: bool
    """Whether what users say they want more of counts as a phrase typed."""
