"""Whether an item will satisfy a user, read from the user's behaviour texts and the item's: z.

Sequence classification with two labels: the body of a language model, a linear head, and a
temperature that makes P(z = 1) a calibrated probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor, nn

from agents.joint.lora import check_range
from agents.joint.satisfaction.classification import ClassificationReport, evaluate, fit_temperature
from agents.joint.satisfaction.pairs import NONE, Augmentation, Pair, check_pairs
from agents.joint.text_tower import Mode, TextTower, batches
from agents.neural.trainer import Progress, TrainConfig, fit
from agents.saving import read_agent, write_agent
from llmrec_env.config import unknown
from llmrec_env.content.encoders import WeightsError
from llmrec_env.content.encoders.blocks import Tokens
from llmrec_env.content.encoders.protocol import normalize_texts

Reading = Literal["cross-encoder", "bi-encoder"]

READINGS = ("cross-encoder", "bi-encoder")
TRAIN_CONFIGS: dict[Mode, TrainConfig] = {
    "frozen": TrainConfig(epochs=8, batch_size=32, learning_rate=3e-4, patience=2),
    "lora": TrainConfig(epochs=2, batch_size=32, learning_rate=3e-4, patience=1),
    "full": TrainConfig(epochs=2, batch_size=32, learning_rate=2e-5, patience=1),
}
"""How the body learns in each mode."""
HEAD_RATES: dict[Mode, float] = {"frozen": 3e-4, "lora": 1e-3, "full": 1e-3}
"""How fast the head learns in each mode."""

_WEIGHT_DECAY = 0.01
_SHARE = 0.3  # of what the head reads beside the cosine, so that the cosine is learnt first
_NAME = "satisfaction"


class SatisfactionClassifier(nn.Module):
    """Predicts z from a user's behaviour texts and an item's text.

    As a `cross-encoder`, [CLS] behaviour [SEP] item [SEP], the head reads the first token, as with
    BERT (Devlin et al., NAACL 2019). As a `bi-encoder`, it reads the mean u of the behaviour's
    vectors, the item's v, their product and cosine, as with Sentence-BERT (Reimers and Gurevych,
    EMNLP 2019): how alike the two are need not be learnt first, which takes many more pairs.
    """

    def __init__(
        self,
        encoder: str | Path = "minilm",
        mode: Mode = "full",
        *,
        reading: Reading = "bi-encoder",
        dropout: float = 0.1,
        max_length: int = 128,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        """Takes a language model and what of it learns.

        Args:
            encoder: `minilm`, or the directory of a transformer.
            mode: what learns beside the head: nothing (`frozen`), `lora` or `full`.
            reading: behaviour and item in one text (`cross-encoder`), or each alone (`bi-encoder`).
            dropout: on what the head reads.
            max_length: tokens kept of what is read at once; the longer of two loses its end.
            seed: draws the adapter.
            **settings: of `TextTower`.

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__()
        if reading not in READINGS:
            raise ValueError(unknown("reading:", reading, list(READINGS)))
        check_range("dropout", dropout, 0.0, 0.9)
        self.tower = TextTower(encoder, mode, max_length=max_length, seed=seed, **settings)
        self.reading: Reading = reading
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(
            self.tower.width if reading == "cross-encoder" else 3 * self.tower.width + 2, 2
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.head.to(self.tower.device)
        self.temperature = 1.0
        self.train(False)

    @property
    def num_trained(self) -> int:
        """Number of weights that learn, with the head."""
        return self.tower.num_trained + sum(weight.numel() for weight in self.head.parameters())

    def forward(self, pairs: Sequence[Pair]) -> Tensor:
        """Returns the logits of z = 0 and z = 1, (n, 2)."""
        return self.head(self.dropout(self.features(pairs)))

    def features(self, pairs: Sequence[Pair]) -> Tensor:
        """Returns what the head reads of each pair, (n, width) or (n, 3 width + 2)."""
        if not pairs:
            return torch.zeros((0, self.head.in_features), device=self.tower.device)
        pairs = [Pair(*pair) for pair in pairs]
        encode = cross_encoded if self.reading == "cross-encoder" else bi_encoded
        return encode(self.tower, pairs)

    def margins(self, pairs: Sequence[Pair]) -> npt.NDArray[np.float64]:
        """Returns the logit of z = 1 over z = 0 before the temperature, (n,)."""
        training = self.training
        self.train(False)
        try:
            with torch.no_grad():
                logits = self(pairs)
        finally:
            self.train(training)
        return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()

    def probability(self, pairs: Sequence[Pair]) -> npt.NDArray[np.float64]:
        """Returns the calibrated P(z = 1) of each pair, (n,)."""
        return expit(self.margins(pairs) / self.temperature)

    def evaluate(self, pairs: Sequence[Pair], bins: int = 10) -> ClassificationReport:
        """Returns how good the calibrated probabilities of held-out pairs are.

        Raises:
            ValueError: there are too few pairs, or all have one label.
        """
        checked = check_pairs(pairs, "held-out")
        return evaluate(self.probability(checked), [pair.satisfied for pair in checked], bins)

    def learn(
        self,
        pairs: Sequence[Pair],
        validation: Sequence[Pair],
        config: TrainConfig | None = None,
        *,
        head_rate: float | None = None,
        augmentation: Augmentation = NONE,
        checkpoint: Path | None = None,
        log_folder: Path | None = None,
        on_pairs: Callable[[int], object] | None = None,
    ) -> Progress:
        """Trains on pairs, stops early by, and takes the temperature from, the validation users.

        Args:
            pairs: of the training users; `Pair`s or plain tuples of the same four parts.
            validation: of other users.
            config: how long and how fast the body learns; None: that of TRAIN_CONFIGS.
            head_rate: how fast the head learns; None: that of HEAD_RATES.
            augmentation: how training texts are changed each time.
            checkpoint: file to go on from, written after each epoch.
            log_folder: of TensorBoard; None: nothing is written.
            on_pairs: called after each batch with the number of its pairs.

        Raises:
            ValueError: one label is missing, a user is on both sides, or the checkpoint is damaged
                or of another training.
        """
        pairs, validation = check_pairs(pairs, "training"), check_pairs(validation, "validation")
        both = {pair.user for pair in pairs} & {pair.user for pair in validation}
        if both:
            raise ValueError(
                f"{len(both)} users are in the training and in the validation pairs; split by "
                "user: split_pairs(pairs)."
            )
        config = config or TRAIN_CONFIGS[self.tower.mode]
        loss = self._loss(pairs, augmentation, on_pairs)
        held_out = self._loss(validation, NONE)
        rows = np.arange(len(validation))
        progress = fit(
            self,
            len(pairs),
            loss,
            lambda: float(held_out(rows)),
            config,
            groups=self._groups(config.learning_rate, head_rate or HEAD_RATES[self.tower.mode]),
            checkpoint=checkpoint,
            log_folder=log_folder,
        )
        satisfied = [pair.satisfied for pair in validation]
        self.temperature = fit_temperature(self.margins(validation), satisfied)
        return progress

    def save(self, path: Path) -> None:
        """Writes head, temperature and what the body learnt; not the base model."""
        config = {"base": self.tower.base, "mode": self.tower.mode, "reading": self.reading}
        config |= {"temperature": self.temperature, "max_length": self.tower.max_length}
        state = {f"tower.{name}": weight for name, weight in self.tower.state().items()}
        state |= {f"head.{name}": weight.cpu() for name, weight in self.head.state_dict().items()}
        weights = {name: weight.numpy() for name, weight in state.items()}
        write_agent(path, _NAME, config, weights)

    def restore(self, path: Path) -> None:
        """Takes what `save` wrote into a classifier of the same settings.

        Raises:
            ValueError: the files are damaged or no classifier's.
            WeightsError: it was made with another base model or other settings.
        """
        name, config, arrays = read_agent(path)
        own = {"base": self.tower.base, "mode": self.tower.mode, "reading": self.reading}
        own |= {"max_length": self.tower.max_length}
        if name != _NAME:
            raise ValueError(f"{path} holds the agent {name!r}, not a {_NAME} classifier.")
        for key, value in own.items():
            if config.get(key) != value:
                raise WeightsError(
                    f"the classifier in {path} was made with {key}={config.get(key)!r}, this one "
                    f"has {value!r}; build it with the settings that it was made with"
                )
        weights = {key: torch.from_numpy(value) for key, value in arrays.items()}
        self.tower.restore(_below("tower.", weights))
        self.head.load_state_dict(_below("head.", weights))
        self.temperature = float(config["temperature"])

    def _loss(
        self,
        pairs: list[Pair],
        augmentation: Augmentation,
        on_pairs: Callable[[int], object] | None = None,
    ) -> Callable[[npt.NDArray[np.int64]], Tensor]:
        """The mean cross-entropy of some of the pairs, as a function of their indices."""
        label = torch.tensor([pair.satisfied for pair in pairs], device=self.tower.device)
        known: Tensor | None = None
        if self.tower.mode == "frozen" and augmentation == NONE:
            with torch.no_grad():
                known = self.features(pairs)  # the same in every epoch

        def loss(rows: npt.NDArray[np.int64]) -> Tensor:
            index = torch.from_numpy(rows).to(label.device)
            if known is None:
                batch = [pairs[row] for row in rows]
                if augmentation != NONE:  # by torch's generator, which a checkpoint restores
                    rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
                    batch = [augmentation.pair(pair, rng) for pair in batch]
                features = self.features(batch)
            else:
                features = known[index]
            if on_pairs:
                on_pairs(len(rows))
            return nn.functional.cross_entropy(self.head(self.dropout(features)), label[index])

        return loss

    def _groups(self, rate: float, head_rate: float) -> list[dict[str, Any]]:
        """The body's matrices, which decay, its other weights, and the head at its own rate."""
        body, head = self.tower.trained().values(), list(self.head.parameters())
        matrices = [weight for weight in body if weight.ndim > 1]
        others = [weight for weight in body if weight.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": _WEIGHT_DECAY},
            {"params": others},
            {"params": head, "rate": head_rate / rate},
        ]
        return [group for group in groups if group["params"]]


def cross_encoded(tower: TextTower, pairs: Sequence[Pair]) -> Tensor:
    """Returns the first token of [CLS] behaviour [SEP] item [SEP], (n, width)."""
    behaviour = normalize_texts([" ".join(pair.behaviour) for pair in pairs])
    items = normalize_texts([pair.item for pair in pairs])
    limit = tower.max_length
    encoding = tower.tokenizer(behaviour, items, truncation=True, max_length=limit)
    tokens: Tokens = {name: encoding[name] for name in encoding}
    order: list[int] = []
    parts: list[Tensor] = []
    for members in batches(tokens, tower.batch_tokens):
        hidden, _ = tower.read(tokens, members)
        parts.append(hidden[:, 0])
        order += members
    return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(tower.device)]


def bi_encoded(tower: TextTower, pairs: Sequence[Pair]) -> Tensor:
    """Returns u, v, u * v, their cosine and whether there is no behaviour, (n, 3 width + 2)."""
    owner = [row for row, pair in enumerate(pairs) for _ in pair.behaviour]
    texts = [text for pair in pairs for text in pair.behaviour]
    vectors = tower([*texts, *(pair.item for pair in pairs)])
    past, item = vectors[: len(texts)], vectors[len(texts) :]
    total = torch.zeros_like(item).index_add(
        0, torch.tensor(owner, device=item.device).long(), past
    )
    return joined_features(total, item)


def joined_features(past: Tensor, item: Tensor) -> Tensor:
    """Returns what the head of a bi-encoder reads, (n, 3 width + 2).

    Args:
        past: sums of the unit vectors of the behaviour texts, (n, width); 0 for none.
        item: unit vectors of the items, (n, width).
    """
    mean = nn.functional.normalize(past, dim=1)
    cosine = (mean * item).sum(dim=1, keepdim=True)
    nothing = (past == 0).all(dim=1, keepdim=True).to(item.dtype)
    scale = item.shape[1] ** 0.5  # makes numbers of the size of 1
    others = torch.cat([mean, item, scale * mean * item], dim=1)
    return torch.cat([scale * cosine, nothing, _SHARE * scale * others], dim=1)


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): x for k, x in weights.items() if k.startswith(prefix)}
