"""Joint recommender: collaborative filtering and content trained together with the language.

    L = λ1 · L_C + λ2 · L_T + λ3 · L_E

L_C asks what users choose of what they were shown, L_T whether it satisfied them and how they rated
it, L_E what they consume next. All three share the belief b about a user's interest, which is read
from the texts of the past, and the item vectors a_y, which start from the text and deviate by what
is consumed together. What is shown maximises f(v, y) = αᵀv, the log-odds of satisfaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.dataset import Dataset
from agents.joint.model import (
    CLICK_LOSSES,
    SKIPPED,
    Batch,
    JointModel,
    batch_observed,
    batch_of,
    calibrated,
    evolution_loss,
    text_loss,
)
from agents.neural.trainer import Progress, TrainConfig, fit
from agents.rankers.ranker import Floats, Ranker, score
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.world import PublicData

RANKINGS = ("satisfaction", "choice")
Tensor = torch.Tensor


@dataclass(frozen=True)
class Settings:
    """Of the joint recommender; a loss of weight 0 is not computed and trains nothing."""

    click: float = 1.0
    """λ1, weight of the loss of choices."""
    text: float = 1.0
    """λ2, weight of the loss of satisfaction and ratings."""
    evolution: float = 0.0
    """λ3, weight of the loss of what is consumed next; 0: the order of the past plays no part."""
    click_loss: str = "choice"
    """Of CLICK_LOSSES: `choice`, `bpr` or `softmax`."""
    ranking: str = "satisfaction"
    """What f is: the log-odds of `satisfaction`, or the utility of the `choice`."""
    shrinkage: float = 3.0
    """How strongly deviations of items from their texts are held back."""
    substance: float = 0.25
    """What substance is worth beyond the step, in log-odds: goodwill lasts."""
    skipped: float = 0.6
    """What likeness to what was skipped costs beyond the step, in log-odds."""
    epochs: int = 8
    """At most; training stops when held-out users gain no more."""
    batch_size: int = 2048
    """Logged steps."""
    learning_rate: float = 2e-3
    """At its height."""
    dropout: float = 0.1
    """Share of the numbers of the past that are left out in training."""


class Joint(Ranker):
    """Shows what is most likely to satisfy, by what the joint model believes of the user now."""

    name = "joint"
    model: JointModel
    progress: Progress  # of the training
    calibration: npt.NDArray[np.float64]  # slope and offset of the log-odds
    split: tuple[Dataset, Dataset]  # steps of training users: learnt from, and held out

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings.

        Raises:
            ValueError: there is no such loss of clicks, or no loss has a weight.
        """
        super().__init__(seed)
        self.settings = options = Settings(**settings)
        if options.click_loss not in CLICK_LOSSES:
            raise ValueError(unknown("click_loss", options.click_loss, list(CLICK_LOSSES)))
        if options.ranking not in RANKINGS:
            raise ValueError(unknown("ranking", options.ranking, list(RANKINGS)))
        losses = (CLICK_LOSSES[options.click_loss], text_loss, evolution_loss)
        weights = (options.click, options.text, options.evolution)
        self.terms = [(w, loss) for w, loss in zip(weights, losses, strict=True) if w != 0]
        if not self.terms or min(weights) < 0:
            text = f"click={options.click}, text={options.text}, evolution={options.evolution}"
            raise ValueError(f"{text}: weights of losses are 0 or more, at least one above 0.")

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users; plays no step.

        Raises:
            ValueError: the logs hold no click, or clicks of one kind alone.
        """
        super().fit(env, num_steps)
        self.learn(self.data, env.config)

    def learn(
        self, data: PublicData, config: EnvConfig, checkpoint: Path | None = None, **follow: Any
    ) -> None:
        """Learns from logs, a tenth of the users held out to stop in time and to calibrate.

        Args:
            data: texts, their encodings, and logs.
            config: of the environment whose observations will be acted on.
            checkpoint: file to go on from.
            **follow: `log_folder` and `on_epoch` of `agents.neural.trainer.fit`.

        Raises:
            ValueError: the logs hold no click, or clicks of one kind alone.
        """
        self.data = data
        dataset = observed_steps(data, config)
        identity, tenth = self._identity(dataset), dataset.users % 10 == 0
        learnt, held_out = self.split = dataset.take(~tenth), dataset.take(tenth)
        del dataset  # as large as all that the split copied
        self.model = model = self._new_model()
        options = self.settings
        train_config = TrainConfig(
            options.epochs, options.batch_size, options.learning_rate, seed=self.seed
        )
        self.progress = fit(
            model,
            len(learnt),
            lambda rows: self._regularised(model, batch_of(learnt, rows)),
            lambda: self._held_out_loss(model, held_out),
            train_config,
            groups=_groups(model),
            checkpoint=checkpoint,
            identity=identity,
            **follow,
        )
        self._calibrate()

    def loss(self, model: JointModel, batch: Batch) -> Tensor:
        """Returns L of a batch."""
        belief = model.belief(batch)
        return torch.stack([w * term(model, belief, batch) for w, term in self.terms]).sum()

    def _identity(self, dataset: Dataset) -> str:
        """A digest of what is learnt from, and how."""
        digest = hashlib.sha256(repr((self.seed, self.settings)).encode())
        for column in (self.data.items.vectors, dataset.slates, dataset.choices, dataset.satisfied):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def _new_model(self) -> JointModel:
        items = self.data.items
        with torch.random.fork_rng(devices=[]):  # leaves the caller's RNG state alone
            torch.manual_seed(self.seed)
            return JointModel(
                items.vectors,
                self.data.phrase_vectors,
                items.substance,
                dropout=self.settings.dropout,
                evolves=self.settings.evolution > 0,
            )

    def _regularised(self, model: JointModel, batch: Batch) -> Tensor:
        """Adds what pulls the deviations from the texts to 0, for the items that a batch shows."""
        shown = batch["slate"].flatten()
        squares = [table(shown).square().sum(-1).mean() for table in model.deviations]
        return self.loss(model, batch) + self.settings.shrinkage * torch.stack(squares).sum()

    def _held_out_loss(self, model: JointModel, dataset: Dataset) -> float:
        parts = np.array_split(np.arange(len(dataset)), 1 + len(dataset) // 8192)
        losses = [float(self.loss(model, batch_of(dataset, rows))) for rows in parts]
        return float(np.average(losses, weights=[len(rows) for rows in parts]))

    def _calibrate(self) -> None:
        """Fits P(z = 1) to held-out users, and computes α once."""
        self.calibration = calibrated(*_chosen_odds(self.model, self.split[1]))
        self._weigh()

    def _weigh(self) -> None:
        """Computes α with what lies beyond the step."""
        alpha = self.model.alpha(self.settings.ranking)
        alpha[:, -1] += self.settings.substance * self.model.substance
        self.alpha = alpha.numpy()

    def v(self, batch: Batch) -> Floats:
        """Returns v of users as they are known, (n, 2 d + 1)."""
        v, d = self.model.v(batch, self.settings.ranking), batch["blocks"].shape[2]
        v[:, d : 2 * d] -= self.settings.skipped * batch["blocks"][:, SKIPPED]
        return v.numpy()

    def belief(self, observation: Any) -> Floats:
        """Returns the belief about the current interest of each session, (n, d), to learn from."""
        with torch.no_grad():
            return self.model.belief(batch_observed(observation)).numpy()

    def scores(self, observation: Any) -> Floats:
        """Returns f(v, y) = αᵀv of each candidate, (n, c)."""
        return score(self.v(batch_observed(observation)), observation["candidates"], self.alpha)

    def probability(self, observation: Any) -> Floats:
        """Returns the calibrated probability that each candidate would satisfy, (n, c)."""
        batch = batch_observed(observation)
        ids = torch.from_numpy(observation["candidates"].astype(np.int64)).clamp(min=0)
        with torch.no_grad():
            odds = self.model.satisfaction(self.model.belief(batch), batch, ids).double()
        return torch.sigmoid(self.calibration[0] * odds + self.calibration[1]).float().numpy()

    def arguments(self) -> dict[str, Any]:
        """Returns the seed and the settings."""
        return {"seed": self.seed} | vars(self.settings)

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the model and its calibration."""
        weights: dict[str, Any] = {k: x.numpy() for k, x in self.model.state_dict().items()}
        return weights | {"calibration": self.calibration}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data, the model and its calibration."""
        super().load(weights, env)
        state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
        self.calibration = state.pop("calibration").numpy()
        self.model = self._new_model().eval()
        self.model.load_state_dict(state)
        self._weigh()


def observed_steps(data: PublicData, config: EnvConfig, first: int = 1) -> Dataset:
    """Returns the logged steps from number `first` on, with what was known before them.

    Raises:
        ValueError: nobody clicked, or all clicks satisfied or none did: there is nothing to tell
            apart.
    """
    dataset = Dataset.from_logs(data)
    satisfied = dataset.satisfied[dataset.items >= 0]
    if not satisfied.size:
        raise ValueError("the logs hold no click; nothing can be learnt from them.")
    if satisfied.all() or not satisfied.any():
        only = "satisfied" if satisfied.all() else "did not satisfy"
        raise ValueError(
            f"all {satisfied.size} clicks of the logs {only}; a model of satisfaction needs both "
            "kinds: add ratings below the threshold, or clicks that were not liked."
        )
    return dataset.with_observations(data, config, since=first - data.logs.items.shape[1])


@torch.no_grad()
def _chosen_odds(
    model: JointModel, dataset: Dataset
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log-odds of satisfaction of what was chosen, and whether it satisfied."""
    clicks = np.flatnonzero(dataset.items >= 0)
    batch = batch_of(dataset, clicks)
    ids = batch["slate"].gather(1, batch["choice"][:, None])
    odds = model.satisfaction(model.belief(batch), batch, ids)[:, 0]
    return odds.double().numpy(), dataset.satisfied[clicks].astype(np.float64)


def _groups(model: JointModel) -> list[dict[str, Any]]:
    """Parameters by how fast they learn: single numbers, tables of items, matrices."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    tables = ("deviation.weight", "click_bias.weight", "text_bias.weight")
    matrices = ("projection", "evolution.query.weight", "evolution.key.weight")
    return [
        {"params": [p for name, p in named if name in tables], "rate": 3.0},
        {"params": [p for name, p in named if name in matrices], "weight_decay": 0.05},
        {"params": [p for name, p in named if name not in tables + matrices], "rate": 5.0},
    ]
