"""The joint recommender with its language model: L trains the encoder of the texts too.

It begins where the frozen model ended. The items that a batch shows are encoded anew, with
gradients; the past keeps the encodings that the environment observes with. Afterwards all items are
encoded once, so that acting costs what it did, and the encoder can be exported and given to the
environment and to any other agent as `encoder="path"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from agents.dataset import Dataset
from agents.joint.model import JointModel, batch_of
from agents.joint.recommender import Joint
from agents.joint.text_tower import TextTower
from agents.neural.trainer import Progress, TrainConfig, fit
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.world import PublicData

_HELD_OUT = 200  # steps of held-out users on which to stop

Tensor = torch.Tensor


class LanguageModel(JointModel):
    """A joint model that reads the texts of items itself."""

    def __init__(self, joint: JointModel, tower: TextTower, data: PublicData) -> None:
        """Takes a trained model, the encoder it was trained with, and the texts."""
        vectors, phrases, substance = (
            x.numpy() for x in (joint.vectors, joint.phrases, joint.substance)
        )
        super().__init__(vectors, phrases, substance, joint.dropout.p, joint.evolves)
        self.load_state_dict(joint.state_dict())
        self.tower, self.texts = tower, data.catalog.texts
        tower.remember(self.texts)
        self.register_buffer("mean", torch.tensor(data.space.item_mean))
        self.register_buffer("components", torch.tensor(data.space.components))

    def encode(self, ids: Tensor) -> Tensor:
        """Returns the encodings of items, (..., d), as the language model reads them now."""
        different, index = ids.flatten().unique(return_inverse=True)
        raw = self.tower([self.texts[i] for i in different.tolist()])
        projected = nn.functional.normalize((raw - self.mean) @ self.components, dim=1)
        return projected[index].view(*ids.shape, -1)

    @torch.no_grad()
    def finished(self) -> JointModel:
        """Returns a joint model whose vectors are what the language model reads in all items."""
        self.eval()
        parts = torch.arange(len(self.texts)).split(512)
        vectors = torch.cat([self.encode(part) for part in parts]).numpy()
        phrases, substance = self.phrases.numpy(), self.substance.numpy()
        model = JointModel(vectors, phrases, substance, self.dropout.p, self.evolves)
        own = {k: v for k, v in self.state_dict().items() if k in model.state_dict()}
        model.load_state_dict(own | {"vectors": torch.tensor(vectors)})
        return model.eval()


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
        rank: int = 8,
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
            rank: of the low-rank changes.
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
        self.rank, self.encoder_rate = rank, encoder_rate
        self.language_samples = language_samples
        self.language = TrainConfig(
            epochs=language_epochs,
            batch_size=language_batch,
            learning_rate=language_rate,
            patience=0,
            seed=seed,
        )

    def learn(
        self, data: PublicData, config: EnvConfig, checkpoint: Path | None = None, **follow: Any
    ) -> None:
        """Learns with frozen encodings first, then with the language model.

        Raises:
            ConfigError: the environment's encoder is no language model.
        """
        if config.encoder in ("word-vectors", "hashing"):
            raise ConfigError(
                f"encoder={config.encoder!r} is no language model and cannot be trained; "
                "use 'minilm' or the directory of a transformer."
            )
        super().learn(data, config, checkpoint, **follow)
        learnt, held_out = self.split
        generator = np.random.default_rng([self.seed, 5])
        rows = generator.permutation(len(learnt))[: self.language_samples]
        checks = generator.permutation(len(held_out))[:_HELD_OUT]
        tower = TextTower(config.encoder, self.mode, rank=self.rank, seed=self.seed)
        model = LanguageModel(self.model, tower, data)
        self.language_progress = self._tune(
            model, learnt.take(rows), held_out.take(checks), checkpoint
        )
        self.model, self.tower = model.finished(), tower
        self._calibrate()

    def arguments(self) -> dict[str, Any]:
        """Returns the seed, the settings, and how the language model learns."""
        language = self.language
        return super().arguments() | {
            "rank": self.rank,
            "language_epochs": language.epochs,
            "language_samples": self.language_samples,
            "language_batch": language.batch_size,
            "language_rate": language.learning_rate,
            "encoder_rate": self.encoder_rate,
        }

    def _tune(
        self, model: LanguageModel, learnt: Dataset, held_out: Dataset, checkpoint: Path | None
    ) -> Progress:
        own = [p for p in model.tower.parameters() if p.requires_grad]
        theirs = {id(p) for p in model.tower.parameters()}
        rest = [p for p in model.parameters() if id(p) not in theirs]
        return fit(
            model,
            len(learnt),
            lambda rows: self._regularised(model, batch_of(learnt, rows)),
            lambda: self._held_out_loss(model, held_out),
            self.language,
            groups=[
                {"params": own, "rate": self.encoder_rate, "weight_decay": 0.01},
                {"params": rest},
            ],
            checkpoint=None if checkpoint is None else checkpoint.with_suffix(".language"),
            identity=f"{self.mode} {self.rank} {self._identity(learnt)}",
        )
