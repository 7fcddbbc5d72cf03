"""The joint recommender: collaborative filtering and content trained together with the language.

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
from torch import nn

from agents.joint.losses import CLICK_LOSSES, calibrated, evolution_loss, text_loss
from agents.joint.samples import Batch, Samples, batch_of, batch_seen, samples_of
from agents.neural.trainer import Progress, Recipe, fit
from agents.rankers.baselines import Ranker
from agents.rankers.ranking import Floats, score
from agents.saving import write_agent
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.observation import QUERY, SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.world import PublicData

SATIATION, SKIPPED = VECTOR_BLOCKS.index("satiation"), VECTOR_BLOCKS.index("skipped")
_START = {"interest": 2.0, "recent": 1.0, "query": 0.5}  # weights in the belief before training
_HEADS, _KEY = 2, 32
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


class JointModel(nn.Module):
    """Beliefs about users, vectors of items, and the heads of the three losses."""

    vectors: Tensor  # (N, d)
    phrases: Tensor  # (P, d)
    substance: Tensor  # (N,)

    def __init__(
        self,
        vectors: Floats,
        phrases: Floats,
        substance: Floats,
        dropout: float = 0.1,
        evolves: bool = False,
    ) -> None:
        """Takes what is known of the texts.

        Args:
            vectors: encodings of the items, (N, d).
            phrases: encodings of the interest phrases, (P, d).
            substance: of the items, as read from their texts, (N,).
            dropout: share of the numbers of the past that are left out in training.
            evolves: whether the order of the past is part of the belief.
        """
        super().__init__()
        self.evolves = evolves
        num_items, d = vectors.shape
        for name, values in (("vectors", vectors), ("phrases", phrases), ("substance", substance)):
            self.register_buffer(name, torch.tensor(values))
        blocks = torch.tensor([_START.get(name, 0.0) for name in VECTOR_BLOCKS])
        self.block_weights = nn.Parameter(blocks)
        self.projection = nn.Parameter(torch.zeros(d, d))
        self.deviation = nn.Embedding(num_items, d)
        self.click_bias, self.text_bias = nn.Embedding(num_items, 1), nn.Embedding(num_items, 1)
        self.deviations = (self.deviation, self.click_bias, self.text_bias)
        for table in self.deviations:
            nn.init.zeros_(table.weight)
        self.lure, self.position = nn.Parameter(torch.zeros(())), nn.Parameter(torch.tensor(0.5))
        self.nothing = nn.Linear(len(SESSION_NUMBERS), 1)  # utility of choosing nothing
        self.mood = nn.Linear(len(SESSION_NUMBERS), 1)  # log-odds of satisfaction by the session
        for linear, start in ((self.nothing, 3.0), (self.mood, -1.0)):
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, start)
        self.relevance = nn.Parameter(torch.tensor(0.7))
        self.satiated, self.skipped = (nn.Parameter(torch.zeros(())) for _ in range(2))
        self.quality = nn.Parameter(torch.zeros(()))
        self.rating = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.evolution = Evolution(d)
        self.dropout = nn.Dropout(dropout)

    def encode(self, ids: Tensor) -> Tensor:
        """Returns the encodings e_y of items, (..., d); the language model replaces this."""
        return self.vectors[ids]

    def consumed(self, ids: Tensor) -> Tensor:
        """Returns what consuming items says of a user, (..., d): text, and what it went with."""
        return self.vectors[ids] + self.deviation(ids)

    def items(self, ids: Tensor) -> Tensor:
        """Returns a_y, (..., d): the text, a projection of it, and what consumption adds."""
        encoded = self.encode(ids)
        return encoded + encoded @ self.projection + self.deviation(ids)

    def belief(self, batch: Batch) -> Tensor:
        """Returns b, the estimated current interest of each sample, (m, d)."""
        past = (self.block_weights[:, None] * self.dropout(batch["blocks"])).sum(-2)
        if not self.evolves:
            return past
        return past + self.evolution.share * self.next_interest(batch)

    def next_interest(self, batch: Batch) -> Tensor:
        """Returns what the ordered past says about what comes next, (m, d)."""
        ids = batch["history"].clamp(min=0)
        query = (batch["feedback"] == QUERY)[..., None]
        phrases = self.phrases[ids.clamp(max=len(self.phrases) - 1)]
        events = torch.where(query, phrases, self.consumed(ids.clamp(max=len(self.vectors) - 1)))
        return self.evolution(events, batch["feedback"], batch["blocks"])

    def utility(self, belief: Tensor, ids: Tensor) -> Tensor:
        """Returns the utility of consuming each item, (m, k)."""
        match = (belief[:, None] * self.items(ids)).sum(-1)
        return match + self.click_bias(ids)[..., 0] + self.lure * self.substance[ids]

    def satisfaction(self, belief: Tensor, batch: Batch, ids: Tensor) -> Tensor:
        """Returns the log-odds that each item would satisfy, (m, k)."""
        against = self._against(batch["blocks"])
        match = (self.relevance * belief[:, None] * self.items(ids)).sum(-1)
        match = match + (against[:, None] * self.encode(ids)).sum(-1)
        own = self.text_bias(ids)[..., 0] + self.quality * self.substance[ids]
        return match + own + self.mood(batch["session"])

    def _against(self, blocks: Tensor) -> Tensor:
        return self.satiated * blocks[:, SATIATION] + self.skipped * blocks[:, SKIPPED]

    @torch.no_grad()
    def alpha(self, ranking: str) -> Tensor:
        """Returns α of every item, (N, 2 d + 1)."""
        ids = torch.arange(len(self.vectors))
        if ranking == "choice":
            own = self.click_bias.weight + self.lure * self.substance[:, None]
        else:
            own = self.text_bias.weight + self.quality * self.substance[:, None]
        return torch.cat([self.items(ids), self.encode(ids), own], dim=1)

    @torch.no_grad()
    def v(self, batch: Batch, ranking: str) -> Tensor:
        """Returns v of every sample, (m, 2 d + 1).

        αᵀv is the utility of the choice, or the log-odds of satisfaction but for the mood.
        """
        belief, against = self.belief(batch), self._against(batch["blocks"])
        if ranking == "choice":
            against = torch.zeros_like(against)
        else:
            belief = self.relevance * belief
        return torch.cat([belief, against, torch.ones(len(belief), 1)], dim=1)


class Evolution(nn.Module):
    """Attention over the ordered past with recency; says what a user turns to next."""

    def __init__(self, d: int) -> None:
        """Takes the length of interest vectors."""
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))  # of it in the belief
        self.query = nn.Linear(len(VECTOR_BLOCKS) * d, _HEADS * _KEY)
        self.key = nn.Linear(d, _KEY, bias=False)
        self.age = nn.Parameter(torch.linspace(0.02, 0.3, _HEADS)[:, None])
        self.kind = nn.Parameter(torch.zeros(_HEADS, 3))  # attention to a kind of event
        self.gain = nn.Parameter(torch.tensor([0.0, 1.0, 1.0]).repeat(_HEADS, 1))  # and its sign
        nn.init.normal_(self.query.weight, std=0.01)

    def forward(self, events: Tensor, feedback: Tensor, blocks: Tensor) -> Tensor:
        """Returns the next interest, (m, d), from events (m, e, d), kinds (m, e) and blocks."""
        kinds, there = feedback.clamp(min=0).long(), feedback >= 0
        query = self.query(blocks.flatten(1)).unflatten(-1, (_HEADS, _KEY))
        found = torch.einsum("mhk,mek->mhe", query, self.key(events)) / _KEY**0.5
        found = found - self.age * torch.arange(feedback.shape[1], dtype=torch.float32)
        found = found + self.kind[:, kinds].movedim(0, 1)
        share = found.masked_fill(~there[:, None], -1e9).softmax(-1) * there.any(1)[:, None, None]
        gain = self.gain[:, kinds].movedim(0, 1)
        return torch.einsum("mhe,med->md", share * gain, events) / _HEADS


# --- the agent


class Joint(Ranker):
    """Shows what is most likely to satisfy, by what the joint model believes of the user now."""

    name = "joint"
    model: JointModel
    progress: Progress  # of the training
    calibration: npt.NDArray[np.float64]  # slope and offset of the log-odds
    split: tuple[Samples, Samples]  # of training users: learnt from, and held out

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings.

        Raises:
            ValueError: there is no such loss of clicks, or no loss has a weight.
        """
        super().__init__(seed)
        self.settings = chosen = Settings(**settings)
        if chosen.click_loss not in CLICK_LOSSES:
            raise ValueError(unknown("click_loss", chosen.click_loss, list(CLICK_LOSSES)))
        if chosen.ranking not in RANKINGS:
            raise ValueError(unknown("ranking", chosen.ranking, list(RANKINGS)))
        losses = (CLICK_LOSSES[chosen.click_loss], text_loss, evolution_loss)
        weights = (chosen.click, chosen.text, chosen.evolution)
        self.terms = [(w, loss) for w, loss in zip(weights, losses, strict=True) if w != 0]
        if not self.terms or min(weights) < 0:
            text = f"click={chosen.click}, text={chosen.text}, evolution={chosen.evolution}"
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
            **follow: `log_folder` and `on_epoch` of `fitting.fit`.

        Raises:
            ValueError: the logs hold no click, or clicks of one kind alone.
        """
        self.data = data
        samples = samples_of(data, config)
        held_out = samples.user % 10 == 0
        learnt, checked = (samples.of(np.flatnonzero(x)) for x in (~held_out, held_out))
        self.split = learnt, checked
        self.model = model = self._new_model()
        chosen = self.settings
        recipe = Recipe(chosen.epochs, chosen.batch_size, chosen.learning_rate, seed=self.seed)
        self.progress = fit(
            *(model, len(learnt.user)),
            lambda rows: self._regularised(model, batch_of(learnt, rows)),
            lambda: self._held_out_loss(model, checked),
            recipe,
            groups=_groups(model),
            checkpoint=checkpoint,
            identity=self._identity(samples),
            **follow,
        )
        self._calibrate()

    def loss(self, model: JointModel, batch: Batch) -> Tensor:
        """Returns L of a batch."""
        belief = model.belief(batch)
        return torch.stack([w * term(model, belief, batch) for w, term in self.terms]).sum()

    def _identity(self, samples: Samples) -> str:
        """A digest of what is learnt from, and how."""
        digest = hashlib.sha256(repr((self.seed, self.settings)).encode())
        for column in (self.data.items.vectors, samples.slate, samples.choice, samples.satisfied):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def _new_model(self) -> JointModel:
        items = self.data.items
        with torch.random.fork_rng(devices=[]):  # the caller's luck is not ours to use up
            torch.manual_seed(self.seed)
            return JointModel(
                *(items.vectors, self.data.phrase_vectors, items.substance),
                dropout=self.settings.dropout,
                evolves=self.settings.evolution > 0,
            )

    def _regularised(self, model: JointModel, batch: Batch) -> Tensor:
        """Adds what pulls the deviations from the texts to 0, for the items that a batch shows."""
        shown = batch["slate"].flatten()
        squares = [table(shown).square().sum(-1).mean() for table in model.deviations]
        return self.loss(model, batch) + self.settings.shrinkage * torch.stack(squares).sum()

    def _held_out_loss(self, model: JointModel, samples: Samples) -> float:
        parts = np.array_split(np.arange(len(samples.user)), 1 + len(samples.user) // 8192)
        losses = [float(self.loss(model, batch_of(samples, rows))) for rows in parts]
        return float(np.average(losses, weights=[len(rows) for rows in parts]))

    def _calibrate(self) -> None:
        """Fits P(z = 1) to held-out users, and computes α once."""
        self.calibration = calibrated(*_odds_of_chosen(self.model, self.split[1]))
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

    def interest(self, observation: Any) -> Floats:
        """Returns the belief about the current interest of each session, (n, d), to learn from."""
        with torch.no_grad():
            return self.model.belief(batch_seen(observation)).numpy()

    def scores(self, observation: Any) -> Floats:
        """Returns f(v, y) = αᵀv of each candidate, (n, c)."""
        return score(self.v(batch_seen(observation)), observation["candidates"], self.alpha)

    def probability(self, observation: Any) -> Floats:
        """Returns the calibrated probability that each candidate would satisfy, (n, c)."""
        batch = batch_seen(observation)
        ids = torch.from_numpy(observation["candidates"].astype(np.int64)).clamp(min=0)
        with torch.no_grad():
            odds = self.model.satisfaction(self.model.belief(batch), batch, ids).double()
        return torch.sigmoid(self.calibration[0] * odds + self.calibration[1]).float().numpy()

    def save(self, path: Path) -> None:
        """Writes settings and weights."""
        state = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        write_agent(path, self.name, self._config(), {**state, "calibration": self.calibration})

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data, the model and its calibration."""
        super().load(weights, env)
        state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
        self.calibration = state.pop("calibration").numpy()
        self.model = self._new_model().eval()
        self.model.load_state_dict(state)
        self._weigh()

    def _config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {"seed": self.seed, **vars(self.settings)}


@torch.no_grad()
def _odds_of_chosen(
    model: JointModel, samples: Samples
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log-odds of satisfaction of what was chosen, and whether it satisfied."""
    chosen = np.flatnonzero(samples.choice < samples.slate.shape[1])
    batch = batch_of(samples, chosen)
    ids = batch["slate"].gather(1, batch["choice"][:, None])
    odds = model.satisfaction(model.belief(batch), batch, ids)[:, 0]
    return odds.double().numpy(), samples.satisfied[chosen].astype(np.float64)


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
