"""The joint recommender with a text encoder that L trains too.

By turns: response and factors learn from logs as texts are read now (`recommender.py`), then
the encoder learns by the same L. A batch is some items; the loss is that of all logged steps which
showed one of them, so that one encoding of a text learns from all that was done with it. Afterwards
items and phrases are encoded once: acting costs what it did.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agents.base import WorldError
from agents.joint.linear_tower import LinearTower
from agents.joint.memory import read_interests
from agents.joint.past import Past, columns_of
from agents.joint.recommender import Joint
from agents.joint.response import Response, Steps
from agents.joint.satisfaction.pairs import NONE, Augmentation
from agents.joint.text_tower import TextTower
from agents.neural.trainer import Progress, TrainConfig, fit
from llmrec_env.config import ConfigError, EnvConfig, unknown
from llmrec_env.content.embedding_space import Space
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.world import PublicData

MODES = ("linear", "lora", "full")
_STATIC = ("word-vectors", "hashing")  # what encoders that are no language models begin with

Tensor = torch.Tensor
Floats = npt.NDArray[np.float32]


class Evidence:
    """Logged steps: all of their relevance but what the texts of the past say of the items."""

    def __init__(self, steps: Steps, slates: Tensor, interests: Tensor) -> None:
        """Takes the steps, their slates, (m, K), and the users' interests before them, (m, d)."""
        self.steps, self.slates, self.interests = steps, slates, interests
        order = slates.flatten().argsort(stable=True)
        self._row = order // slates.shape[1]
        self._ends = slates.flatten()[order].bincount().cumsum(0)

    def showing(self, items: npt.NDArray[np.integer]) -> Tensor:
        """Returns the rows of the steps that showed one of the items."""
        ends = torch.cat([torch.zeros(1, dtype=torch.long), self._ends])
        last = len(self._ends)
        parts = [self._row[ends[item] : ends[item + 1]] for item in items if item < last]
        return torch.cat(parts).unique() if parts else self._row[:0]

    def loss(self, response: Response, read: Tensor, rows: Any = slice(None)) -> Tensor:
        """Returns L of some of the steps, with items read as the rows of `read`, (N, d)."""
        steps = Steps(*(column[rows] for column in self.steps))
        likeness = torch.einsum("mkd,md->mk", read[self.slates[rows]], self.interests[rows])
        return response.loss(steps._replace(taste=steps.taste + likeness))


class LanguageModel(nn.Module):
    """Reads the items' texts by a tower, into the space in which interests lie."""

    read: Tensor  # (N, d), of each item when it was encoded last

    def __init__(
        self, tower: TextTower | LinearTower, data: PublicData, augmentation: Augmentation = NONE
    ) -> None:
        """Takes the tower, the texts and their space, and how training texts are changed."""
        super().__init__()
        self.tower, self.texts, self.augmentation = tower, data.catalog.texts, augmentation
        self.register_buffer("read", torch.tensor(data.items.vectors))
        self.register_buffer("mean", torch.tensor(data.space.item_mean))
        self.register_buffer("components", torch.tensor(data.space.components))

    def encode(self, items: npt.NDArray[np.integer]) -> Tensor:
        """Returns the encodings of items, (n, d)."""
        texts = [self.texts[item] for item in items]
        if self.training and self.augmentation != NONE:  # torch's generator is in checkpoints
            rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
            texts = [self.augmentation.text(text, rng) for text in texts]
        vectors = self.tower(texts).cpu()  # all but the tower is small and stays there
        return nn.functional.normalize((vectors - self.mean) @ self.components, dim=1)

    def loss(self, items: npt.NDArray[np.integer], logs: Evidence, response: Response) -> Tensor:
        """Returns L of the steps that showed some items; the others are read as they were last."""
        encoded = self.encode(items)
        read = self.read.clone()
        read[items] = encoded
        self.read[items] = encoded.detach()
        return logs.loss(response, read, logs.showing(items))

    @torch.no_grad()
    def refresh(self) -> Tensor:
        """Encodes all items, and returns what they are read as, (N, d)."""
        for part in np.array_split(np.arange(len(self.texts)), len(self.texts) // 512 + 1):
            self.read[part] = self.encode(part)
        return self.read


class JointWithLanguage(Joint):
    """The joint recommender, trained by turns with the encoder of the texts.

    A saved one holds what it read in items and phrases, which is all that acting needs; a language
    model itself is written by `tower.export`.

    Attributes:
        tower: the encoder, trained.
        language_progress: of the last round of its training.
    """

    tower: TextTower | LinearTower
    language_progress: Progress

    def __init__(
        self,
        seed: int = 0,
        *,
        mode: Literal["linear", "lora", "full"] = "lora",
        encoder: str = "",
        lora_rank: int = 8,
        rounds: int = 1,
        language_epochs: int = 2,
        language_batch: int = 256,
        language_rate: float = 2e-4,
        language_decay: float = 0.01,
        word_dropout: float = 0.0,
        synonym: float = 0.0,
        **settings: Any,
    ) -> None:
        """Takes how the encoder learns, and fields of Settings.

        Args:
            seed: of training.
            mode: what learns: low-rank changes of a language model, all of it, or a linear map,
                see `LinearTower`.
            encoder: with which the agent reads texts; "": that of the environment.
            lora_rank: of the low-rank changes.
            rounds: in which the encoder learns, and response and factors anew, as long as held-out
                users are foreseen better; 0: it does not learn.
            language_epochs: passes over the items in a round, at most.
            language_batch: items at a time.
            language_rate: learning rate of the encoder at its height.
            language_decay: weight decay, towards the pretrained encoder but in mode `full`.
            word_dropout: probability that a word of a text is left out in training.
            synonym: probability that a word with synonyms is replaced in training.
            **settings: of the joint recommender.
        """
        super().__init__(seed, **settings)
        if mode not in MODES:
            raise ValueError(unknown("mode:", mode, list(MODES)))
        self.mode: Literal["linear", "lora", "full"] = mode
        self.encoder, self.rounds = encoder, rounds
        self.name = f"joint-{mode}"
        self.lora_rank, self.decay = lora_rank, language_decay
        self.augmentation = Augmentation(word_dropout, synonym, 0.0)
        self.language = TrainConfig(
            epochs=language_epochs,
            batch_size=language_batch,
            learning_rate=language_rate,
            patience=1,
            seed=seed,
        )

    def learn(self, data: PublicData, config: EnvConfig, checkpoint: Path | None = None) -> None:
        """Learns with encodings as they are, then by turns with the encoder.

        Args:
            data: texts, their encodings, and logs.
            config: of the environment whose observations will be acted on.
            checkpoint: file from which the training of the encoder goes on.

        Raises:
            ConfigError: the encoder does not learn in this mode.
        """
        encoder = self.encoder or config.encoder
        self._check(encoder)
        texts = (*data.catalog.texts, *data.phrases.texts)
        if self.mode == "linear":
            self.tower = LinearTower(encoder, texts)
        else:
            self.tower = TextTower(encoder, self.mode, rank=self.lora_rank, seed=self.seed)
            self.tower.remember(texts)
        if self.encoder:
            data = read_anew(data, self.tower, config.dim)
        super().learn(data, config)
        for number in range(self.rounds):
            model = LanguageModel(self.tower, self.data, self.augmentation)
            before, self.language_progress = self._train(model, number, checkpoint)
            if self.language_progress.best >= before:
                break  # held-out users are foreseen no better than before
            super().learn(reading(self.data, model), config)

    def _check(self, encoder: str) -> None:
        """Raises ConfigError unless the encoder can learn so."""
        static = encoder.startswith(_STATIC)
        if self.mode != "linear" and static:
            raise ConfigError(
                f"encoder={encoder!r} is no language model and cannot be trained by mode="
                f"{self.mode!r}; use 'minilm', the directory of a transformer, or mode='linear'."
            )
        if self.mode == "linear" and not static and self.augmentation != NONE:
            raise ConfigError(
                f"mode='linear' runs {encoder!r} once a text, word_dropout and synonym would run "
                "it anew each time; use mode='lora', or encoder='word-vectors' or 'hashing'."
            )

    def _evidence(self, past: Past) -> Evidence:
        """Steps without what the interests say, their slates, and the interests."""
        weights = self.parameters[0]["weights"]
        interests = np.empty((len(past.users), self.texts.rows.shape[1]), np.float32)
        steps = columns_of(self.data)
        read_interests(self.texts, steps, weights, past.users, past.times, interests)
        likeness = np.einsum("mkd,md->mk", self.texts.read[past.slates], interests)
        columns = past.steps(self.learnt.taste, past.features @ weights - likeness)
        columns = columns._replace(features=torch.zeros_like(columns.features))
        slates = torch.from_numpy(past.slates.astype(np.int64))
        return Evidence(columns, slates, torch.from_numpy(interests))

    def _train(
        self, model: LanguageModel, number: int, checkpoint: Path | None
    ) -> tuple[float, Progress]:
        """Trains the encoder; returns L of held-out users before, and the progress."""
        past = Past.of(self.data, self.texts, self.config)
        tenth = past.users % 10 == 0
        learnt, held_out = self._evidence(past.take(~tenth)), self._evidence(past.take(tenth))
        response = copy.deepcopy(self.response).requires_grad_(False)
        settings = repr((self.seed, self.settings, self.augmentation, self.mode, self.lora_rank))
        digest = hashlib.sha256(settings.encode())
        digest.update(learnt.slates.numpy().tobytes() + learnt.interests.numpy().tobytes())
        with torch.no_grad():
            before = float(held_out.loss(response, model.read))
        group = {"params": [x for x in model.parameters() if x.requires_grad]}
        return before, fit(
            model,
            len(model.texts),
            lambda items: model.loss(items, learnt, response),
            lambda: float(held_out.loss(response, model.refresh())),
            self.language,
            groups=[group | {"weight_decay": self.decay}],
            checkpoint=checkpoint and checkpoint.with_suffix(f".language-{number}"),
            identity=digest.hexdigest(),
        )

    def arguments(self) -> dict[str, Any]:
        """Returns the seed, the settings, and how the encoder learns."""
        return super().arguments() | {
            "encoder": self.encoder,
            "lora_rank": self.lora_rank,
            "rounds": self.rounds,
            "language_epochs": self.language.epochs,
            "language_batch": self.language.batch_size,
            "language_rate": self.language.learning_rate,
            "language_decay": self.decay,
            "word_dropout": self.augmentation.dropout,
            "synonym": self.augmentation.synonym,
        }

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns those of the joint recommender, and how it reads the texts of the past."""
        return super().weights() | {"rows": self.texts.rows}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data, and the weights that `save` wrote."""
        super().load(weights, env)
        self.texts = self.texts._replace(rows=np.ascontiguousarray(weights["rows"]))

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Raises WorldError: it carries the texts of its world as it reads them, not the reader."""
        raise WorldError(
            f"the agent {self.name!r} cannot be transferred: of its encoder it saves the texts of "
            "its world as they are read; train it in this world."
        )


def read_anew(data: PublicData, tower: TextTower | LinearTower, dim: int) -> PublicData:
    """Returns data whose texts are encoded by a tower, in a space of their own."""
    with torch.no_grad():
        items, phrases = (
            tower(texts).cpu().numpy() for texts in (data.catalog.texts, data.phrases.texts)
        )
    space = Space.fit(items, phrases, dim)
    return dataclasses.replace(
        data,
        items=data.items._replace(vectors=space.project_items(items)),
        phrase_vectors=space.project_phrases(phrases),
        space=space,
    )


def reading(data: PublicData, model: LanguageModel) -> PublicData:
    """Returns data with texts as a trained model reads them now."""
    with torch.no_grad():
        vectors = model.eval().refresh().numpy().copy()
        phrases = model.tower(data.phrases.texts).cpu().numpy()
    return dataclasses.replace(
        data,
        items=data.items._replace(vectors=vectors),
        phrase_vectors=data.space.project_phrases(phrases),
    )
