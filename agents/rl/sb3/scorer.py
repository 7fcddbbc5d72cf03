"""The scores of many candidates in one pass over them, and their gradients, on a CPU.

What it computes takes three lines of torch, `scores_in_torch`, but there every candidate passes
through memory a dozen times: three times slower, and most of the time of training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from llmrec_env.simulation.compilation import kernel

Tensor = torch.Tensor


def scores_in_torch(
    about: Tensor, weights: Tensor, offsets: Tensor, read: Tensor, value: Tensor
) -> Tensor:
    """Returns x_c · weights + value · relu(read x_c + offsets) of each candidate, (n, c).

    Args:
        about: x, the features of the candidates, (n, c, f).
        weights: of the features, for each session, (n, f).
        offsets: of the hidden units, for each session, (n, h).
        read: how hidden units read features, (h, f).
        value: of the hidden units, (h,).
    """
    units = (about @ read.T + offsets[:, None]).relu()
    return (about @ weights[:, :, None])[:, :, 0] + units @ value


def candidate_scores(
    about: Tensor, weights: Tensor, offsets: Tensor, read: Tensor, value: Tensor
) -> Tensor:
    """Returns the same as `scores_in_torch`; there is no gradient of the features."""
    if about.device.type != "cpu":
        return scores_in_torch(about, weights, offsets, read, value)
    scores: Tensor = _Scores.apply(about, weights, offsets, read, value)
    return scores


class _Scores(torch.autograd.Function):
    """Runs the kernels below."""

    @staticmethod
    def forward(ctx: Any, about: Tensor, *parameters: Tensor) -> Tensor:
        """Returns the scores, (n, c)."""
        ctx.save_for_backward(about, *parameters)
        scores = torch.empty(about.shape[:2])
        score(*_arrays(about, *parameters, scores))
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Returns the gradients of weights, offsets, read and value."""
        about, weights, offsets, read, value = ctx.saved_tensors
        like = [torch.empty_like(weights), torch.empty_like(offsets)]
        like += [torch.zeros_like(read), torch.zeros_like(value)]
        known = _arrays(about, offsets, read, value, gradients[0].contiguous())
        differentiate(*known, *_arrays(*like))
        return None, *like


def _arrays(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().numpy() for tensor in tensors]


@kernel
def score(about, weights, offsets, read, value, scores):
    """Writes the scores, (n, c); see `scores_in_torch`."""
    n, c, f = about.shape
    columns, rows = blank(c, f), padded(read)
    unit = np.empty(c, np.float32)
    for i in range(n):
        for k in range(c):
            total = np.float32(0.0)
            for j in range(f):
                x = about[i, k, j]
                columns[j, k] = x
                total += weights[i, j] * x
            scores[i, k] = total
        for a in range(read.shape[0]):
            read_unit(columns, rows, a, offsets[i, a], unit)
            worth = value[a]
            for k in range(c):
                scores[i, k] += worth * max(unit[k], np.float32(0.0))


@kernel
def differentiate(about, offsets, read, value, gradient, of_weights, of_offsets, of_read, of_value):
    """Writes the gradients by that of the scores, (n, c); adds to `of_read` and `of_value`."""
    n, c, f = about.shape
    columns, rows = blank(c, f), padded(read)
    unit = np.empty(c, np.float32)
    for i in range(n):
        for k in range(c):
            for j in range(f):
                columns[j, k] = about[i, k, j]
        for j in range(f):
            total = np.float32(0.0)
            for k in range(c):
                total += gradient[i, k] * columns[j, k]
            of_weights[i, j] = total
        for a in range(read.shape[0]):
            read_unit(columns, rows, a, offsets[i, a], unit)
            worth = value[a]
            of_worth = of_offset = np.float32(0.0)
            for k in range(c):
                of_worth += gradient[i, k] * max(unit[k], np.float32(0.0))
                unit[k] = worth * gradient[i, k] if unit[k] > 0.0 else np.float32(0.0)
                of_offset += unit[k]
            of_value[a] += of_worth
            of_offsets[i, a] = of_offset
            for j in range(f):
                total = np.float32(0.0)
                for k in range(c):
                    total += unit[k] * columns[j, k]
                of_read[a, j] += total


@kernel
def blank(c, f):
    """Returns zeros for the features of c candidates by column, in whole fours of columns."""
    return np.zeros(((f + 3) // 4 * 4, c), np.float32)


@kernel
def padded(read):
    """Returns `read` with as many columns as `blank` has rows, zeros behind."""
    rows = np.zeros((read.shape[0], (read.shape[1] + 3) // 4 * 4), np.float32)
    rows[:, : read.shape[1]] = read
    return rows


@kernel
def read_unit(columns, rows, a, offset, unit):
    """Writes what hidden unit a reads of each candidate, (c,), four features at a time."""
    for k in range(unit.shape[0]):
        unit[k] = offset
    for j in range(0, columns.shape[0], 4):
        p, q, r, s = rows[a, j], rows[a, j + 1], rows[a, j + 2], rows[a, j + 3]
        for k in range(unit.shape[0]):
            first = p * columns[j, k] + q * columns[j + 1, k]
            unit[k] += first + r * columns[j + 2, k] + s * columns[j + 3, k]
