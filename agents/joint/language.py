"""The joint recommender with its language model: L trains the encoder of the texts too.

It begins where the frozen model ended. The items that a batch shows are encoded anew, with
gradients; the past keeps the encodings that the environment observes with. Afterwards all items are
encoded once, so that acting costs what it did, and the encoder can be exported and given to the
environment and to any other agent as `encoder="path"`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agents.joint.memory import read_interests
from agents.joint.past import Past, columns_of
from agents.joint.recommender import Joint
from agents.joint.response import Response, Steps
from agents.joint.text_tower import TextTower
from agents.neural.trainer import Progress, TrainConfig, fit
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.world import PublicData

_HELD_OUT = 200  # steps of held-out users on which to stop

Tensor = torch.Tensor


class LanguageModel(nn.Module):
    """The response of users to items whose texts it reads itself."""

    def __init__(self, response: Response, tower: TextTower, data: PublicData) -> None:
        """Takes a trained response, the encoder it was trained with, and the texts."""
        super().__init__()
        self.response, self.tower, self.texts = response, tower, data.catalog.texts
        tower.remember(self.texts)
        self.register_buffer("mean", torch.tensor(data.space.item_mean))
        self.register_buffer("components", torch.tensor(data.space.components))

    def encode(self, ids: Tensor) -> Tensor:
        """Returns the encodings of items, (..., d), as the language model reads them now."""
        different, index = ids.flatten().unique(return_inverse=True)
        raw = self.tower([self.texts[i] for i in different.tolist()])
        projected = nn.functional.normalize((raw - self.mean) @ self.components, dim=1)
        return projected[index].view(*ids.shape, -1)

    def loss(self, steps: Steps, slates: Tensor, interests: Tensor) -> Tensor:
        """Returns L of steps whose relevance lacks what the interests, (m, d), say of the items."""
        likeness = torch.einsum("mkd,md->mk", self.encode(slates), interests)
        return self.response.loss(steps._replace(taste=steps.taste + likeness))

    @torch.no_grad()
    def read(self) -> npt.NDArray[np.float32]:
        """Returns what the language model reads in all items, (N, d)."""
        self.eval()
        parts = torch.arange(len(self.texts)).split(512)
        return torch.cat([self.encode(part) for part in parts]).numpy()


class JointWithLanguage(Joint):
    """The joint recommender, trained on with the language model.

    A saved one holds what it read in the items, which is all that acting needs; the language model
    itself is written by `tower.export`.

    Attributes:
        tower: the encoder, trained.
        language_progress: of that part of the training.
    """

    tower: TextTower
    language_progress: Progress

    def __init__(
        self,
        seed: int = 0,
        *,
        mode: Literal["lora", "full"] = "lora",
        lora_rank: int = 8,
        language_epochs: int = 1,
        language_samples: int = 1600,
        language_batch: int = 32,
        language_rate: float = 1e-3,
        encoder_rate: float = 0.2,
        **settings: Any,
    ) -> None:
        """Takes how the language model learns, and fields of Settings.

        Args:
            seed: of training.
            mode: what learns of the language model: low-rank changes of it, or all of it.
            lora_rank: of the low-rank changes.
            language_epochs: at most.
            language_samples: logged steps, drawn once; each costs the encoding of a slate.
            language_batch: logged steps at a time.
            language_rate: learning rate at its height.
            encoder_rate: by which it is multiplied for the encoder; lower it for `full`.
            **settings: of the joint recommender.
        """
        super().__init__(seed, **settings)
        self.mode: Literal["lora", "full"] = mode
        self.name = f"joint-{mode}"
        self.lora_rank, self.encoder_rate = lora_rank, encoder_rate
        self.language_samples = language_samples
        self.language = TrainConfig(
            epochs=language_epochs,
            batch_size=language_batch,
            learning_rate=language_rate,
            patience=0,
            seed=seed,
        )

    def learn(self, data: PublicData, config: EnvConfig, checkpoint: Path | None = None) -> None:
        """Learns with frozen encodings first, then with the language model.

        Args:
            data: texts, their encodings, and logs.
            config: of the environment whose observations will be acted on.
            checkpoint: file from which the training of the language model goes on.

        Raises:
            ConfigError: the environment's encoder is no language model.
        """
        if config.encoder in ("word-vectors", "hashing"):
            raise ConfigError(
                f"encoder={config.encoder!r} is no language model and cannot be trained; "
                "use 'minilm' or the directory of a transformer."
            )
        super().learn(data, config)
        past, generator = Past.of(data, self.texts), np.random.default_rng([self.seed, 5])
        tenth = past.users % 10 == 0
        learnt, held_out = np.flatnonzero(~tenth), np.flatnonzero(tenth)
        rows = generator.permutation(learnt)[: self.language_samples]
        checks = generator.permutation(held_out)[:_HELD_OUT]
        tower = TextTower(config.encoder, self.mode, rank=self.lora_rank, seed=self.seed)
        model = LanguageModel(self.response, tower, data)
        self.language_progress = self._tune(
            model, self._sample(past, rows), self._sample(past, checks), checkpoint
        )
        self.tower = tower
        self.parameters = self.response.exported()
        self._take_texts(model.read())
        self._calibrate()

    def _sample(self, past: Past, rows: npt.NDArray[np.intp]) -> tuple[Any, ...]:
        """Steps without what the interests say, their slates, and the interests."""
        some, weights = past.take(rows), self.parameters[0]["weights"]
        interests = np.empty((len(rows), self.texts.rows.shape[1]), np.float32)
        steps = columns_of(self.data)
        read_interests(self.texts, steps, weights, some.users, some.times, interests)
        likeness = np.einsum("mkd,md->mk", self.texts.read[some.slates], interests)
        rest = some.features @ weights - likeness
        columns = some.steps(self.learnt.taste, rest)
        columns = columns._replace(features=torch.zeros_like(columns.features))
        return columns, torch.from_numpy(some.slates.astype(np.int64)), torch.from_numpy(interests)

    def arguments(self) -> dict[str, Any]:
        """Returns the seed, the settings, and how the language model learns."""
        language = self.language
        return super().arguments() | {
            "lora_rank": self.lora_rank,
            "language_epochs": language.epochs,
            "language_samples": self.language_samples,
            "language_batch": language.batch_size,
            "language_rate": language.learning_rate,
            "encoder_rate": self.encoder_rate,
        }

    def _tune(
        self,
        model: LanguageModel,
        learnt: tuple[Any, ...],
        held_out: tuple[Any, ...],
        checkpoint: Path | None,
    ) -> Progress:
        def part(rows: npt.NDArray[np.integer]) -> tuple[Any, ...]:
            steps, slates, interests = learnt
            return Steps(*(column[rows] for column in steps)), slates[rows], interests[rows]

        parameters = {"params": [p for p in model.tower.parameters() if p.requires_grad]}
        digest = hashlib.sha256(repr((self.seed, self.settings)).encode())
        digest.update(learnt[1].numpy().tobytes() + learnt[2].numpy().tobytes())
        return fit(
            model,
            len(learnt[1]),
            lambda rows: model.loss(*part(rows)),
            lambda: float(model.loss(*held_out)),
            self.language,
            groups=[
                {**parameters, "rate": self.encoder_rate, "weight_decay": 0.01},
                {"params": [*self.response.parameters()]},
            ],
            checkpoint=None if checkpoint is None else checkpoint.with_suffix(".language"),
            identity=f"{self.mode} {self.lora_rank} {digest.hexdigest()}",
        )
