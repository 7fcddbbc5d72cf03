"""Logged steps of training users with what was known before each, and how sessions follow on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from agents.added_blocks import BLOCKS, AddedBlocks
from agents.joint.factors import Clicks
from agents.joint.memory import NUM_FEATURES, Texts, read_logs
from agents.joint.response import Response, Steps, Taste
from llmrec_env.config import EnvConfig
from llmrec_env.world import PublicData

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Past:
    """Logged steps, one row a step, in order of user and time."""

    users: Ids  # (m,), rows of the logs
    times: Ids  # (m,), numbers of the steps
    slates: npt.NDArray[np.int32]  # (m, K)
    choice: Ids  # (m,), slot, K for none
    satisfied: npt.NDArray[np.bool_]  # (m,)
    ratings: npt.NDArray[np.int32]  # (m,), 0 for none
    features: Floats  # (m, K, 7), of memory.TEXT_FEATURES
    tired: Floats  # (m, K)
    fresh: Floats  # (m, K)
    familiar: Floats  # (m, K)
    question: Floats  # (m, K)
    goodwill: Floats  # (m,)
    popularity: Floats  # (m, K), by all that satisfied but the step itself
    alike: Floats  # (m, K), cosine with the nearest on the slate, above what is usual
    texts: Texts

    @classmethod
    def of(cls, data: PublicData, texts: Texts, config: EnvConfig | None = None) -> Past:
        """Returns the logged steps of public data.

        Args:
            data: texts and logs.
            texts: as the agent reads them.
            config: of the environment; None: one whose items do not age and have no creators.

        Raises:
            ValueError: nobody clicked, or all clicks satisfied or none did: there is nothing to
                tell apart.
        """
        logs = data.logs
        check_clicks(logs.satisfied[(logs.items >= 0) & (logs.slates[:, :, 0] >= 0)] == 1)
        n, count, k = logs.slates.shape
        features = np.zeros((n, count, k, NUM_FEATURES), np.float32)
        tired, goodwill = np.zeros((n, count, k), np.float32), np.zeros((n, count), np.float32)
        read_logs(texts, columns_of(data), features, tired, goodwill)
        fresh, familiar, question = added_blocks(data, config)
        user, step = np.nonzero(logs.slates[:, :, 0] >= 0)
        at, items = (user, step), logs.items[user, step]
        own = logs.feedback[at] == 1
        counts = np.bincount(logs.slates[at][own], minlength=len(texts.popularity))
        slot = (logs.slates[at] == items[:, None]).argmax(axis=1)
        return cls(
            users=user.astype(np.int64),
            times=step.astype(np.int64),
            slates=logs.slates[at],
            choice=np.where(items >= 0, slot, k),
            satisfied=logs.satisfied[at] == 1,
            ratings=logs.ratings[at],
            features=features[at],
            tired=tired[at],
            fresh=fresh[at],
            familiar=familiar[at],
            question=question[at],
            goodwill=goodwill[at],
            popularity=_by_others(texts.popularity, counts, logs.slates[at], own),
            alike=_alike(texts.rows, logs.slates[at]),
            texts=texts,
        )

    def take(self, rows: npt.NDArray[Any]) -> Past:
        """Returns some of the steps: indices, or a mask."""
        columns = {x.name: getattr(self, x.name) for x in dataclasses.fields(self)}
        texts = columns.pop("texts")
        return Past(**{name: column[rows] for name, column in columns.items()}, texts=texts)

    def steps(self, taste: Taste | None = None, scores: Any = 0.0) -> Steps:
        """Returns the steps as tensors.

        Args:
            taste: biases of the items; None: there are none.
            scores: what the factors add to the text, (m, K).
        """

        def tensor(values: Any, shape: tuple[int, ...] = self.slates.shape) -> torch.Tensor:
            return torch.tensor(np.broadcast_to(np.asarray(values, np.float64), shape).copy())

        m = self.choice.shape
        return Steps(
            features=tensor(self.features, self.features.shape),
            taste=tensor(scores),
            alike=tensor(self.alike),
            tired=tensor(self.tired),
            fresh=tensor(self.fresh),
            familiar=tensor(self.familiar),
            question=tensor(self.question),
            goodwill=tensor(self.goodwill, m),
            substance=tensor(self.texts.substance[self.slates]),
            popularity=tensor(self.popularity),
            click_bias=tensor(0.0 if taste is None else taste.click_bias[self.slates]),
            text_bias=tensor(0.0 if taste is None else taste.text_bias[self.slates]),
            choice=torch.from_numpy(self.choice.astype(np.int64)),
            satisfied=tensor(self.satisfied, m),
            rating=tensor(self.ratings, m),
        )

    def clicks(self, response: Response) -> Clicks:
        """Returns what factors are learnt from: choices, and what a response says of them."""
        steps = self.steps()
        with torch.no_grad():
            nothing = torch.zeros(self.slates.shape, dtype=torch.float64)
            text = response.text_scores(steps) if response.text else nothing
            return Clicks(
                users=self.users,
                items=self.slates.astype(np.int64),
                choice=self.choice,
                satisfied=self.satisfied,
                text=text.numpy(),
                utility=response.utilities(nothing, steps)[:, :-1].numpy(),
                log_odds=response.log_odds(nothing, steps).numpy(),
            )


def added_blocks(data: PublicData, config: EnvConfig | None) -> Floats:
    """Returns BLOCKS of each logged slot, before its step, (3, U, W, K).

    Args:
        data: with logs and items.
        config: of the environment; what it does not have, and all without one, is 0.
    """
    slates, feedback = data.logs.slates, data.logs.feedback
    out = np.zeros((len(BLOCKS), *slates.shape), np.float32)
    if config is not None:
        blocks = AddedBlocks(config, data)
        values = blocks.of_logs(slates, feedback, data.logs.queries)
        for index, name in enumerate(blocks.names):
            out[BLOCKS.index(name)] = values[..., index]
    return out


def _by_others(
    popularity: Floats, counts: Ids, slates: npt.NDArray[np.int32], own: npt.NDArray[np.bool_]
) -> Floats:
    """Popularity of shown items, (m, K), without a step's own clicks, which it would foretell.

    Args:
        popularity: of the items, proportional to log(1 + count), (N,).
        counts: of clicks that satisfied, (N,).
        slates: (m, K).
        own: which slots were clicked and satisfied, (m, K).
    """
    once_less = np.log1p(np.maximum(counts - 1, 0)) / np.log1p(np.maximum(counts, 1))
    return (popularity[slates] * np.where(own, once_less[slates], 1.0)).astype(np.float32)


def _alike(rows: Floats, slates: npt.NDArray[np.int32]) -> Floats:
    """Cosine of shown items with the nearest one on their slate, less the median, (m, K).

    Results of one search stand together: what is shown tells what the user looked for.
    """
    nearest, slots = np.zeros(slates.shape, np.float32), np.arange(slates.shape[1])
    for part in np.array_split(np.arange(len(slates)), 1 + len(slates) // 10_000):
        vectors = rows[slates[part]]
        cosines = vectors @ vectors.transpose(0, 2, 1)
        cosines[:, slots, slots] = -1.0
        nearest[part] = cosines.max(axis=2)
    return nearest - np.median(nearest).astype(np.float32)


def columns_of(data: PublicData) -> tuple[npt.NDArray[Any], ...]:
    """Returns slates (n, W, K), items, feedback and queries (n, W) of logs, oldest step first."""
    logs = data.logs
    columns = (logs.slates, logs.items, logs.satisfied, logs.queries)
    return tuple(np.ascontiguousarray(column) for column in columns)


def check_clicks(satisfied: npt.NDArray[np.bool_]) -> None:
    """Raises ValueError unless some clicks satisfied and some did not."""
    if not satisfied.size:
        raise ValueError("the logs hold no click; nothing can be learnt from them.")
    if satisfied.all() or not satisfied.any():
        only = "satisfied" if satisfied.all() else "did not satisfy"
        raise ValueError(
            f"all {satisfied.size} clicks of the logs {only}; a model of satisfaction needs both "
            "kinds: add ratings below the threshold, or clicks that were not liked."
        )


class Place(NamedTuple):
    """Where n sessions are, as far as an observation shows it."""

    user: npt.NDArray[Any]  # (n,), ids; 0 where they are not told
    progress: Floats  # (n,)
    slates: npt.NDArray[np.int32]  # (n, 2, K), the last two
    items: npt.NDArray[np.int32]  # (n, 2)
    queries: npt.NDArray[np.int32]  # (n, 2)

    @classmethod
    def of(cls, observation: Any) -> Place:
        """Returns the place of a batch of `dict` observations."""
        recent = (observation[f"recent_{x}"][:, :2].copy() for x in ("slates", "items", "queries"))
        user = observation.get("user_id", np.zeros(len(observation["session"]), np.int64))
        return cls(np.array(user).reshape(-1), observation["session"][:, 0].copy(), *recent)

    def steps_since(self, before: Place, whole: int) -> Ids:
        """Returns how many steps each session went on since another place, (n,).

        0: it is the same place; 1; or `whole`: it is another session, or too far on.
        """
        if len(self.user) != len(before.user):
            return np.full(len(self.user), whole)

        def equal(shift: int) -> npt.NDArray[np.bool_]:
            last = slice(None) if shift == 0 else slice(0, 1)
            pairs = ((x[:, shift:], y[:, last]) for x, y in zip(self[2:], before[2:], strict=True))
            same = [(x == y).reshape(len(x), -1).all(axis=1) for x, y in pairs]
            return np.logical_and.reduce([self.user == before.user, *same])

        unmoved = equal(0) & (self.progress == before.progress)
        moved = equal(1) & (self.progress > before.progress)
        return np.where(unmoved, 0, np.where(moved, 1, whole))
