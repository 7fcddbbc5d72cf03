"""Ranker by likelihood: how likely a causal language model finds a title after a user's past."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from agents.dataset import Dataset
from agents.joint.lora import check_range
from agents.lm.causal import CausalModel
from agents.lm.fine_tuning import (
    Example,
    arrays_of,
    check_mode,
    learn_endings,
    learning_weights,
    take_arrays,
)
from agents.neural.trainer import Progress
from agents.rankers.ranker import UNAVAILABLE, Floats, Ranker
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import slot_feedback
from llmrec_env.interface.observation import observations_of
from llmrec_env.interface.text_prompt import PromptWriter

_BUDGET = 10_000_000  # nothing is cut by the writer: the prompt is fitted to the model
_HEAD = (
    "What a user of a recommender met, oldest first (+ taken, satisfied; - taken, not satisfied; "
    ". passed over; ? typed):\n"
)
_TASK = "What the user takes next and is satisfied by:\n+"


class LmRank(Ranker):
    """Shows the candidates whose titles a causal model finds likeliest to satisfy next.

    A score is the mean log-probability of a title's tokens behind the past, less `prior` times the
    same without a past: titles of common words are likely whatever the user is into (Holtzman et
    al., Surface Form Competition, EMNLP 2021).
    """

    name = "lm-rank"
    memoryless = True

    def __init__(
        self,
        seed: int = 0,
        model: str = "",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 16,
        history: int = 2000,
        prior: float = 1.0,
        epochs: int = 0,
        learning_rate: float = 1e-3,
        mode: str = "lora",
        rank: int = 16,
        examples: int = 0,
    ) -> None:
        """Takes what it reads with, and how it is fine-tuned before.

        Args:
            seed: of fine-tuning.
            model: directory of a causal language model.
            device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
            dtype: of the weights; `auto`: bfloat16 on a GPU, float32 elsewhere.
            batch_size: titles read at once.
            history: characters of the past that are read, the newest.
            prior: weight of the likelihood without a past.
            epochs: passes over the logs of the training users; 0 takes the model as it is.
            learning_rate: of AdamW.
            mode: what learns: low-rank changes of all linear layers (`lora`), or `full`.
            rank: of these changes.
            examples: clicks to learn from, drawn at random; 0: all.

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__(seed)
        check_mode(mode)
        check_range("epochs", epochs, 0)
        check_range("examples", examples, 0)
        self.model, self.device, self.dtype = model, device, dtype
        self.batch_size, self.history, self.prior = batch_size, history, prior
        self.epochs, self.learning_rate = epochs, learning_rate
        self.mode, self.rank, self.examples = mode, rank, examples
        self.on_epoch: Callable[[Progress], None] | None = None
        self._learnt: dict[str, Tensor] = {}

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Loads the model, and fine-tunes it on the logs of the training users; plays no step.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        super().fit(env, num_steps)
        self._read(env)
        if not self.epochs:
            return
        self._learnt = learning_weights(self.lm, self.mode, self.rank, self.seed)
        examples, users = self.clicks(env.config)
        try:
            learn_endings(
                self.lm,
                examples,
                users,
                self.epochs,
                self.learning_rate,
                self.seed,
                self.on_epoch,
            )
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{self.name} with learning_rate={self.learning_rate}: {error}"
            ) from None

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Loads the model and takes the weights that `save` wrote, if it was fine-tuned.

        Raises:
            WeightsError: they are changes of another model.
        """
        super().load(weights, env)
        self._read(env)
        if weights:
            self._learnt = learning_weights(self.lm, self.mode, self.rank, self.seed)
            take_arrays(self.lm, self._learnt, weights)

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns what it learnt and the digest of the model before; nothing if it did not."""
        return arrays_of(self.lm, self._learnt) if self._learnt else {}

    def clicks(self, config: EnvConfig) -> tuple[list[Example], npt.NDArray[np.int64]]:
        """Returns the titles that satisfied training users, each behind its past, and of whom."""
        log, drawn = Dataset.from_logs(self.data), None
        if self.examples:
            rng, known = np.random.default_rng([self.seed, 5]), np.flatnonzero(log.satisfied)
            drawn = rng.choice(known, min(self.examples, len(known)), replace=False)
        examples, users = [], []
        for rows, histories in log.replayed(self.data, config):
            wanted = log.satisfied[rows] if drawn is None else np.isin(rows, drawn)
            if not wanted.any():
                continue
            observation = observations_of(
                histories[wanted],
                self.data.items,
                self.data.phrase_vectors,
                config.horizon,
                response=config.response,
            )
            for session, item in enumerate(log.items[rows[wanted]].tolist()):
                prompt = self.lm.encode(self.prompt(observation, session))
                title = self.lm.continuation(f" {self.writer.titles[item]}")
                examples.append(Example(np.array(prompt, np.int32), np.array(title, np.int32)))
            users.append(log.users[rows[wanted]])
        return examples, np.concatenate(users)

    def _read(self, env: RecVectorEnv) -> None:
        self.lm = CausalModel(self.model, self.device, self.dtype, self.batch_size)
        self._learnt = {}
        catalog = self.data.catalog
        titles, phrases = catalog.titles or catalog.texts, self.data.phrases.texts
        self.writer = PromptWriter(env.config, titles, phrases, _BUDGET)
        longest = max(len(self.lm.encode(title)) for title in titles)
        self._room = self.lm.limit - longest
        self._prior: dict[int, float] = {}

    @property
    def tokens(self) -> int:
        """Tokens read so far."""
        return self.lm.tokens

    def scores(self, observation: Any) -> Floats:
        """Returns the score of each candidate, (n, c)."""
        candidates = observation["candidates"]
        scores = np.full(candidates.shape, UNAVAILABLE, np.float32)
        for i, ids in enumerate(candidates):
            offered = np.flatnonzero(ids >= 0)
            found = self._likelihoods(self.prompt(observation, i), ids[offered])
            scores[i, offered] = found - np.float32(self.prior) * self._without_past(ids[offered])
        return scores

    def prompt(self, observation: Any, session: int) -> str:
        """Returns the past of a session as the model reads it, cut to what it can read."""
        steps = {name: observation[f"recent_{name}"][session] for name in _STEPS}
        feedback = slot_feedback(steps["slates"], steps["items"], steps["satisfied"])
        if "recent_feedback" in observation:
            feedback = observation["recent_feedback"][session]
        room, told = self.history, observation.get("recent_instructions", {session: None})[session]
        while True:
            lines, *_ = self.writer.history(steps["slates"], feedback, steps["queries"], room, told)
            past = "".join(f"{line}\n" for line in reversed(lines.split("\n")) if line)
            prompt = _HEAD + past + _TASK
            if room < 40 or len(self.lm.encode(prompt)) <= self._room:
                return prompt
            room = room * 3 // 4

    def _likelihoods(self, prompt: str, items: Sequence[int] | npt.NDArray[Any]) -> Floats:
        titles = [f" {self.writer.titles[item]}" for item in items]
        return self.lm.log_likelihoods(prompt, titles)

    def _without_past(self, items: npt.NDArray[np.int32]) -> Floats:
        new = [item for item in items.tolist() if item not in self._prior]
        if new and self.prior:
            found = self._likelihoods(_HEAD + _TASK, new)
            self._prior.update(zip(new, found.tolist(), strict=True))
        return np.array([self._prior.get(item, 0.0) for item in items.tolist()], np.float32)


_STEPS = ("slates", "items", "satisfied", "queries")
