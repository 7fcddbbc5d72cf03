"""Language model that answers the text environment: a prompt in, "3, 17, 5" out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.lm.causal import CausalModel
from agents.saving import write_agent
from llmrec_env.envs.vector import RecVectorEnv


class LmGenerate:
    """Shows what a causal model answers; what cannot be read shows the environment's fallback."""

    name = "lm-generate"
    observation, action = "text", "text"
    memoryless = True

    def __init__(
        self,
        seed: int = 0,
        model: str = "",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 16,
        max_new_tokens: int = 32,
        chat: bool = False,
    ) -> None:
        """Takes what it reads and writes with.

        Args:
            seed: nothing is drawn; recorded only.
            model: directory of a causal language model.
            device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
            dtype: of the weights; `auto`: bfloat16 on a GPU, float32 elsewhere.
            batch_size: prompts read at once.
            max_new_tokens: of an answer.
            chat: put prompts as a user's turn into the template of the tokenizer.
        """
        self.seed, self.model, self.device, self.dtype = seed, model, device, dtype
        self.batch_size, self.max_new_tokens, self.chat = batch_size, max_new_tokens, chat

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Loads the model; plays no step."""
        self.lm = CausalModel(self.model, self.device, self.dtype, self.batch_size)

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Loads the model; there are no weights of its own."""
        self.fit(env, 0)

    def act(
        self, observation: tuple[str, ...], episode_starts: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.object_]:
        """Returns the likeliest answer to each prompt, (n,) strings."""
        prompts = [self.prompt(text) for text in observation]
        return np.array(self.lm.answers(prompts, self.max_new_tokens), object)

    @property
    def tokens(self) -> int:
        """Tokens read and written so far."""
        return self.lm.tokens

    def prompt(self, text: str) -> str:
        """Returns a prompt of the environment as the model wants it."""
        if not self.chat:
            return text
        turns = [{"role": "user", "content": text}]
        return self.lm.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )

    def arguments(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        names = ("seed", "model", "device", "dtype", "batch_size", "max_new_tokens", "chat")
        return {name: getattr(self, name) for name in names}

    def save(self, path: Path) -> None:
        """Writes the arguments of its constructor."""
        write_agent(path, self.name, self.arguments(), {})
