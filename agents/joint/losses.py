"""Losses of the joint model: each takes the model, its beliefs and a batch, and returns a mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

from agents.joint.model import Batch, JointModel

Tensor = torch.Tensor


def choice_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the choice among what was shown and the null item (McFadden 1974)."""
    ranks = torch.arange(1, batch["slate"].shape[1] + 1, dtype=belief.dtype)
    shown = model.utility(belief, batch["slate"]) - model.position.abs() * ranks.log()
    utilities = torch.cat([shown, model.null_item(batch["session"])], dim=1)
    return functional.cross_entropy(utilities, batch["choice"])


def bpr_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Bayesian personalised ranking of what was clicked over what was only browsed.

    Rendle et al., BPR, UAI 2009.
    """
    chosen = batch["choice"] < batch["slate"].shape[1]
    if not chosen.any():
        return belief.sum() * 0.0
    utilities = model.utility(belief[chosen], batch["slate"][chosen])
    slot = batch["choice"][chosen][:, None]
    better = utilities.gather(1, slot) - utilities
    return -functional.logsigmoid(better).scatter(1, slot, 0.0).sum(1).mean()


def softmax_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Softmax of what was clicked over all clicks of the batch, corrected for their popularity.

    Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations,
    RecSys 2019.
    """
    chosen = batch["choice"] < batch["slate"].shape[1]
    if not chosen.any():
        return belief.sum() * 0.0
    clicked = batch["slate"][chosen].gather(1, batch["choice"][chosen][:, None])[:, 0]
    utilities = belief[chosen] @ model.items(clicked).T + model.click_bias(clicked).T
    often = torch.bincount(clicked, minlength=len(model.vectors))[clicked]
    same = (clicked[:, None] == clicked) & ~torch.eye(len(clicked), dtype=torch.bool)
    corrected = (utilities - often.log()).masked_fill(same, -1e9)
    return functional.cross_entropy(corrected, torch.arange(len(clicked)))


def text_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Log-loss of satisfaction with what was chosen, and of its rating where there is one."""
    chosen = batch["choice"] < batch["slate"].shape[1]
    if not chosen.any():
        return belief.sum() * 0.0
    steps: Batch = {name: values[chosen] for name, values in batch.items()}
    ids = steps["slate"].gather(1, steps["choice"][:, None])
    odds = model.satisfaction(belief[chosen], steps, ids)[:, 0]
    loss = functional.binary_cross_entropy_with_logits(odds, steps["satisfied"])
    rated = steps["rating"] > 0
    if not rated.any():
        return loss
    level = model.rating[0] * odds[rated] + model.rating[1]
    target = (steps["rating"][rated] - 1.0) / 4.0
    return loss + 0.5 * functional.binary_cross_entropy_with_logits(level, target)


def evolution_loss(model: JointModel, belief: Tensor, batch: Batch) -> Tensor:
    """Softmax of what satisfied next over what satisfied others, from the ordered past alone."""
    satisfied = (batch["choice"] < batch["slate"].shape[1]) & (batch["satisfied"] > 0)
    if not satisfied.any():
        return belief.sum() * 0.0
    steps: Batch = {name: values[satisfied] for name, values in batch.items()}
    following = model.encode(steps["slate"].gather(1, steps["choice"][:, None])[:, 0])
    likeness = 5.0 * model.next_interest(steps) @ following.T
    return functional.cross_entropy(likeness, torch.arange(len(following)))


CLICK_LOSSES: dict[str, Callable[[JointModel, Tensor, Batch], Tensor]] = {
    "choice": choice_loss,
    "bpr": bpr_loss,
    "softmax": softmax_loss,
}


def calibrated(
    odds: npt.NDArray[np.float64], satisfied: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns slope and offset of log-odds, (2,), that fit outcomes; Platt 1999.

    Args:
        odds: log-odds that something satisfies, (m,).
        satisfied: whether it did, 0 or 1, (m,).
    """
    slope_offset, design = np.array([1.0, 0.0]), np.stack([odds, np.ones_like(odds)], axis=1)
    for _ in range(20):  # Newton's method
        probability = 1.0 / (1.0 + np.exp(-design @ slope_offset))
        gradient = design.T @ (probability - satisfied)
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design
        slope_offset = slope_offset - np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
    return slope_offset.astype(np.float64)
