"""Item factors learnt from clicks: what the texts leave of choices and satisfaction.

An item's factors are what a map of its text predicts and a deviation of its own, q = M φ(text) + δ,
so that rare and unseen items inherit from their kin. Users' and items' factors and their
uncertainty are found by turns, by Newton steps of the two losses with Gaussian priors (variational
Bayes with a mean field); the map, by a regression that weighs items by how well they are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import svds

from agents.clustering import spherical_k_means
from agents.joint.response import SOFTNESS, Taste

Doubles = npt.NDArray[Any]  # of float64: what NumPy's stubs make of its functions varies
Ids = npt.NDArray[np.int64]

_DAMPING = 0.9  # of the steps by turns
_BIAS_DAMPING = 0.7
_BIAS_VARIANCE = 0.05  # of the items' biases, in log-odds, to start from
_BIAS_VARIANCES = 1e-4, 1.0  # smallest and largest
_SHARPNESS = 4.0  # of the kernel of texts
_LANDMARKS = 256, 1024  # a quarter of the items up to 256; of more items, one of 16 up to 1024
_ROUNDS = 8  # of k-means


class Clicks(NamedTuple):
    """What factors are learnt from; m logged steps of K slots."""

    users: Ids  # (m,)
    items: Ids  # (m, K)
    choice: Ids  # (m,), slot, K for none
    satisfied: npt.NDArray[np.bool_]  # (m,)
    text: Doubles  # (m, K), what the texts say
    utility: Doubles  # (m, K), of the slots, but for relevance and the items' biases
    log_odds: Doubles  # (m, K), of satisfaction, likewise


class Prior(NamedTuple):
    """How far factors are from what is known of them before."""

    deviation: float
    """Variance of an item's factors around what its text predicts, in squared relevance."""
    text_map: float
    """Variance of the map's weights; 0: texts predict nothing."""


class Learnt(NamedTuple):
    """Factors of the items and where those of users begin."""

    taste: Taste
    mean: Doubles  # (r,), of users of whom nothing is known
    precision: Doubles  # (r, r)


def text_basis(vectors: npt.NDArray[np.float32], seed: int) -> Doubles:
    """Returns φ of every text, (N, l): a Gaussian kernel by landmarks (Nyström, Williams 2001).

    Args:
        vectors: of the texts, unit rows, (N, d).
        seed: of the texts that the landmarks, found by k-means, begin with.
    """
    rows = vectors.astype(np.float64)
    few, many = _LANDMARKS
    count = max(min(len(rows) // 4, few), min(len(rows) // 16, many), 1)
    centres = rows[np.random.default_rng([seed, 41]).permutation(len(rows))[:count]]
    centres, _ = spherical_k_means(rows, centres, _ROUNDS)
    values, axes = np.linalg.eigh(_kernel(centres, centres) + 1e-3 * np.eye(count))
    return _kernel(rows, centres) @ (axes / np.sqrt(values))


def _kernel(a: Doubles, b: Doubles) -> Doubles:
    return np.exp(_SHARPNESS * (a @ b.T - 1.0))


def mean_of_items(values: Doubles, num_items: int) -> Doubles:
    """Returns the mean over items, (M, ...), for each of other items, (num_items, ...)."""
    return np.repeat(values.mean(axis=0, keepdims=True), num_items, axis=0)


class FactorModel:
    """Users' and items' factors of one set of clicks."""

    def __init__(self, clicks: Clicks, q: Any, basis: Doubles, rank: int, prior: Prior) -> None:
        """Takes the clicks and the response to them.

        Args:
            clicks: of users 0 to the largest.
            q: a record of `response.PARAMETERS`.
            basis: φ, (N, l).
            rank: r.
            prior: of the items.
        """
        self.clicks, self.q, self.basis, self.prior = clicks, q, basis, prior
        num_users, num_items = int(clicks.users.max()) + 1, len(basis)
        self.slots = clicks.items.shape[1]
        self.row = np.flatnonzero(clicks.choice < self.slots)  # steps in which something was chosen
        self.slot = clicks.choice[self.row]
        self.chosen = clicks.items[self.row, self.slot]
        self.shape = num_users, num_items
        self.places = np.repeat(clicks.users, self.slots), clicks.items.ravel()
        self.users, self.items = np.zeros((num_users, rank)), np.zeros((num_items, rank))
        self.user_spread: Doubles = np.zeros((num_users, rank, rank))
        self.item_spread: Doubles = np.tile(prior.deviation * np.eye(rank), (num_items, 1, 1))
        self.mean, self.variance = np.zeros(rank), np.ones(rank)  # of users
        self.map = np.zeros((basis.shape[1], rank))
        self.click_bias, self.text_bias = np.zeros(num_items), np.zeros(num_items)
        self.bias_variances = [_BIAS_VARIANCE, _BIAS_VARIANCE]

    def learn(self, sweeps: int) -> Learnt:
        """Returns what is learnt in some rounds by turns."""
        rank = self.items.shape[1]
        if rank:
            self._begin(*self._scored())
        for sweep in range(sweeps):
            if rank and sweep:
                self._learn_users(*self._scored())
            if rank:
                self._learn_items(*self._scored())
            self._learn_biases()
        taste = Taste(self.items, self.item_spread, self.click_bias, self.text_bias)
        return Learnt(taste, self.mean, np.diag(1.0 / self.variance))

    def _chances(self) -> tuple[Doubles, Doubles, Doubles]:
        """Slopes of the relevance and probabilities of the choice, (m, K), and of satisfaction."""
        c, q = self.clicks, self.q
        x = c.text + np.einsum("mr,mkr->mk", self.users[c.users], self.items[c.items])
        f = SOFTNESS * np.logaddexp(0.0, x / SOFTNESS)
        utility = q["relevance_choice"] * f + c.utility + self.click_bias[c.items]
        odds = np.exp(np.minimum(utility, 30.0))
        log_odds = q["relevance_satisfaction"] * f + c.log_odds + self.text_bias[c.items]
        choice = odds / (1.0 + odds.sum(axis=1, keepdims=True))
        return _sigmoid(x / SOFTNESS), choice, _sigmoid(log_odds[self.row, self.slot])

    def _scored(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Gradients and curvatures of the losses by x, summed by user and item."""
        q, (slope, choice, satisfied) = self.q, self._chances()
        step = q["relevance_choice"] * slope
        pull = -q["click"] * step * choice
        weight = q["click"] * step**2 * choice * (1.0 - choice)
        at = self.row, self.slot
        pull[at] += q["click"] * step[at]
        step = q["relevance_satisfaction"] * slope[at]
        pull[at] += q["text"] * step * (self.clicks.satisfied[self.row] - satisfied)
        weight[at] += q["text"] * step**2 * satisfied * (1.0 - satisfied)
        return (
            sparse.csr_matrix((pull.ravel(), self.places), self.shape),
            sparse.csr_matrix((weight.ravel(), self.places), self.shape),
        )

    def _begin(self, pull: sparse.csr_matrix, weight: sparse.csr_matrix) -> None:
        """Users' factors from the residuals, by items and by what their texts share."""
        of_users, of_items = (np.asarray(weight.sum(axis)).ravel() for axis in (1, 0))
        rows = sparse.diags((of_users + of_users.mean()) ** -0.5) @ pull
        own = rows @ sparse.diags((of_items + of_items.mean()) ** -0.5)
        size = (self.basis**2 * of_items[:, None]).sum(axis=0) + of_items.mean()
        shared = sparse.csr_matrix((rows @ self.basis) / np.sqrt(size))
        both: Any = sparse.hstack([own, shared]).tocsr()
        factorised: Any = svds(both, self.items.shape[1], v0=np.ones(min(both.shape)))
        left, values, _ = factorised
        left = left[:, np.argsort(-values)]
        self.users = left / np.maximum(left.std(axis=0), 1e-12)

    def _learn_users(self, pull: sparse.csr_matrix, weight: sparse.csr_matrix) -> None:
        precision, gradient = _evidence(pull, weight, self.items, self.item_spread, self.users)
        known = np.maximum(np.einsum("urr->ur", precision), 1e-6)
        alone = self.users + gradient / np.maximum(known, 0.05)  # what the clicks say by themselves
        gradient -= (self.users - self.mean) / self.variance
        self.user_spread = np.linalg.inv(precision + np.diag(1.0 / self.variance))
        self.users = self.users + _DAMPING * _times(self.user_spread, gradient)
        share = 1.0 / (1.0 / known + self.variance)
        self.mean = (share * alone).sum(axis=0) / (share.sum(axis=0) + 2.0)
        own = np.einsum("urr->ur", self.user_spread)
        self.variance = np.clip(((self.users - self.mean) ** 2 + own).mean(axis=0), 0.05, 3.0)
        self._rescale(np.sqrt((self.users**2 + own).mean(axis=0)))

    def _rescale(self, size: Doubles) -> None:
        """Gives the users' factors the size 1; those of the items take it up."""
        self.users, self.mean, self.variance = (
            self.users / size,
            self.mean / size,
            self.variance / size**2,
        )
        square = size[:, None] * size
        self.user_spread, self.item_spread = self.user_spread / square, self.item_spread * square
        self.items, self.map = self.items * size, self.map * size

    def _learn_items(self, pull: sparse.csr_matrix, weight: sparse.csr_matrix) -> None:
        deviation, predicted = self.prior.deviation, self.basis @ self.map
        precision, gradient = _evidence(
            pull.T.tocsr(), weight.T.tocsr(), self.users, self.user_spread, self.items
        )
        known = np.maximum(np.einsum("nrr->nr", precision), 1e-6)
        alone = self.items + gradient / known  # what the clicks say by themselves
        gradient -= (self.items - predicted) / deviation
        eye = np.eye(self.items.shape[1])
        self.item_spread = np.linalg.inv(precision + eye / deviation)
        self.items = self.items + _DAMPING * _times(self.item_spread, gradient)
        if self.prior.text_map:
            self._learn_map(1.0 / (1.0 / known + deviation), alone)

    def _learn_map(self, share: Doubles, alone: Doubles) -> None:
        """Regresses what clicks say of items on their texts; what it leaves open adds to spread."""
        basis = self.basis
        precision = (basis * share.mean(axis=1, keepdims=True)).T @ basis
        precision += np.eye(basis.shape[1]) / self.prior.text_map
        covariance = np.linalg.inv(precision)
        self.map = covariance @ (basis.T @ (share * alone))
        narrow = basis.astype(np.float32)
        unsure = (narrow @ covariance.astype(np.float32) * narrow).sum(axis=1)
        inherited = self.item_spread / self.prior.deviation  # what of the prediction is left
        self.item_spread = self.item_spread + unsure[:, None, None] * (inherited @ inherited)

    def _learn_biases(self) -> None:
        """Moves biases and their variances, of clicks and of satisfaction."""
        q, (_, choice, satisfied) = self.q, self._chances()
        num_items, shown = self.shape[1], self.places[1]
        error = self.clicks.satisfied[self.row] - satisfied
        clicks = np.bincount(self.chosen, minlength=num_items)
        gradients = (
            q["click"] * (clicks - np.bincount(shown, choice.ravel(), num_items)),
            q["text"] * np.bincount(self.chosen, error, num_items),
        )
        spreads = (
            q["click"] * np.bincount(shown, (choice * (1.0 - choice)).ravel(), num_items),
            q["text"] * np.bincount(self.chosen, satisfied * (1.0 - satisfied), num_items),
        )
        for j, bias in enumerate((self.click_bias, self.text_bias)):
            bias += _newton(gradients[j], spreads[j], bias, self.bias_variances[j])
            self.bias_variances[j] = _variance(bias, spreads[j], self.bias_variances[j])


def _evidence(
    pull: sparse.csr_matrix,
    weight: sparse.csr_matrix,
    others: Doubles,
    spread: Doubles,
    own: Doubles,
) -> tuple[Doubles, Doubles]:
    """Precision, (n, r, r), and gradient, (n, r), that the others' factors give to one's own."""
    n, rank = own.shape
    squares = others[:, :, None] * others[:, None, :]
    unsure = (weight @ spread.reshape(len(others), -1)).reshape(n, rank, rank)
    precision = (weight @ squares.reshape(len(others), -1)).reshape(n, rank, rank) + unsure
    return precision, pull @ others - _times(unsure, own)


def _times(matrices: Doubles, vectors: Doubles) -> Doubles:
    return np.einsum("nrs,ns->nr", matrices, vectors)


def _variance(bias: Doubles, spread: Doubles, before: float) -> float:
    """Variance of biases, (N,), by evidence: their squares by how many are known (MacKay 1992)."""
    known = (spread / (spread + 1.0 / before)).sum()
    return float(np.clip((bias**2).sum() / max(known, 1.0), *_BIAS_VARIANCES))


def _newton(gradient: Doubles, spread: Doubles, bias: Doubles, variance: float) -> Doubles:
    """A damped Newton step of biases, (N,), with a prior."""
    return _BIAS_DAMPING * (gradient - bias / variance) / (spread + 1.0 / variance)


def _sigmoid(x: Doubles) -> Doubles:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0)))
