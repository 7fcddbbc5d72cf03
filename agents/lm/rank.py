"""Ranker by likelihood: how likely a causal language model finds a title after a user's past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.lm.causal import CausalModel
from agents.rankers.ranker import UNAVAILABLE, Floats, Ranker
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import slot_feedback
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

    def __init__(
        self,
        seed: int = 0,
        model: str = "",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 16,
        history: int = 2000,
        prior: float = 1.0,
    ) -> None:
        """Takes what it reads with.

        Args:
            seed: nothing is drawn; recorded only.
            model: directory of a causal language model.
            device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
            dtype: of the weights; `auto`: bfloat16 on a GPU, float32 elsewhere.
            batch_size: titles read at once.
            history: characters of the past that are read, the newest.
            prior: weight of the likelihood without a past.
        """
        super().__init__(seed)
        self.model, self.device, self.dtype = model, device, dtype
        self.batch_size, self.history, self.prior = batch_size, history, prior

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Loads the model and takes the titles; plays no step."""
        super().fit(env, num_steps)
        self._read(env)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Does the same; there are no weights of its own."""
        super().load(weights, env)
        self._read(env)

    def _read(self, env: RecVectorEnv) -> None:
        self.lm = CausalModel(self.model, self.device, self.dtype, self.batch_size)
        catalog = self.data.catalog
        titles, phrases = catalog.titles or catalog.texts, self.data.phrases.texts
        self.writer = PromptWriter(env.config, titles, phrases, _BUDGET)
        longest = max(len(self.lm.encode(title)) for title in titles)
        self._room = self.lm.limit - longest
        self._prior: dict[int, float] = {}

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
