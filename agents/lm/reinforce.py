"""REINFORCE for a causal model that answers the text environment: LoRA or all weights, online.

R. J. Williams, Simple Statistical Gradient-Following Algorithms, Machine Learning 1992. Each answer
is weighed by what followed it: the reward of its step, and of later ones by `gamma`, less a penalty
where it could not be read; standardised over all answers of an update.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agents.base import learn_in_segments, segment_seed
from agents.joint.lora import check_range
from agents.lm.causal import CausalModel
from agents.lm.fine_tuning import arrays_of, check_mode, learning_weights, take_arrays
from agents.lm.generate import LmGenerate
from agents.saving import write_agent
from llmrec_env.envs.vector import RecVectorEnv


class Answer(NamedTuple):
    """An answer and what was asked, as tokens."""

    prompt: list[int]
    written: list[int]


class LmReinforce(LmGenerate):
    """A language model that learns from the rewards of its answers.

    Attributes:
        parse_errors: share of answers that could not be read, of each update.
    """

    name = "lm-reinforce"

    def __init__(
        self,
        seed: int = 0,
        mode: str = "lora",
        rank: int = 16,
        learning_rate: float = 1e-3,
        steps: int = 8,
        gamma: float = 0.0,
        parse_penalty: float = 0.2,
        entropy: float = 0.01,
        temperature: float = 1.0,
        **settings: Any,
    ) -> None:
        """Takes how it learns.

        Args:
            seed: of the adapter and of the answers drawn.
            mode: what learns: low-rank changes of all linear layers (`lora`), or `full`.
            rank: of these changes.
            learning_rate: of Adam.
            steps: of each session between two updates.
            gamma: discount; 0 looks no further than the step, 1 at all of the update.
            parse_penalty: reward lost by an answer that cannot be read.
            entropy: weight of the entropy of what is written, which keeps it exploring.
            temperature: with which answers are drawn while it learns.
            **settings: of LmGenerate.

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__(seed, **settings)
        check_mode(mode)
        check_range("steps", steps, 1)
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("temperature", temperature, 1e-3)
        self.mode, self.rank, self.learning_rate, self.steps = mode, rank, learning_rate, steps
        self.gamma, self.parse_penalty, self.entropy = gamma, parse_penalty, entropy
        self.temperature = temperature
        self.on_steps: Callable[[int], None] | None = None
        self.log_folder: Path | None = None
        self.parse_errors: list[float] = []
        self._trained: dict[str, Tensor] = {}
        self._state: dict[str, Any] | None = None

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns for `num_steps` environment steps in `env`, which resets in the same step."""
        learn_in_segments(self, env, max(num_steps, 1))

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment and returns the environment steps it took.

        Raises:
            FloatingPointError: a loss is not finite; the agent is as it was before the segment.
        """
        self._prepare()
        before, seed = self.state(), segment_seed(self.seed, segment)
        size = self.steps * env.num_envs
        updates = max(round(num_steps / size), 1)
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                prompts, _ = env.reset(seed=seed)
                for update in range(1, updates + 1):
                    answers, credit, prompts = self._collect(env, prompts)
                    self._update(answers, credit)
                    if self.on_steps:
                        self.on_steps(done + update * size)
        except FloatingPointError:
            self._take(before)
            raise
        return updates * size

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the weights that `save` wrote.

        Raises:
            WeightsError: they are changes of another model.
        """
        self._prepare()
        take_arrays(self.lm, self._trained, weights)

    def state(self) -> dict[str, Any]:
        """Returns the weights that learn, and what the optimiser knows."""
        weights = {name: weight.detach() for name, weight in self._trained.items()}
        return copy.deepcopy({"weights": weights, "optimiser": self._optimiser.state_dict()})

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        self._state = state
        if self._trained:
            self._take(state)

    def arguments(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        names = ("mode", "rank", "learning_rate", "steps", "gamma", "parse_penalty", "entropy")
        own = {name: getattr(self, name) for name in (*names, "temperature")}
        return super().arguments() | own

    def save(self, path: Path) -> None:
        """Writes the arguments of its constructor and what it learnt; not the model it began as."""
        write_agent(path, self.name, self.arguments(), arrays_of(self.lm, self._trained))

    def _prepare(self) -> None:
        if self._trained:
            return
        self.lm = CausalModel(self.model, self.device, self.dtype, self.batch_size)
        self._trained = learning_weights(self.lm, self.mode, self.rank, self.seed)
        self._optimiser = torch.optim.Adam(self._trained.values(), self.learning_rate)
        if self._state:
            self._take(self._state)

    def _take(self, state: dict[str, Any]) -> None:
        state = copy.deepcopy(state)  # the optimiser would go on with the tensors themselves
        with torch.no_grad():
            for name, weight in self._trained.items():
                weight.copy_(state["weights"][name])
        self._optimiser.load_state_dict(state["optimiser"])

    def _collect(self, env: RecVectorEnv, prompts: Any) -> tuple[list[Answer], Tensor, Any]:
        """Plays the steps of an update: answers, what each is worth, and what is asked next."""
        answers: list[Answer] = []
        rewards, ends, errors = [], [], []
        for _ in range(self.steps):
            asked = [self.lm.encode(self.prompt(text)) for text in prompts]
            self.lm.check_lengths(asked, self.max_new_tokens)
            new = [Answer(*pair) for pair in zip(asked, self._draw(asked), strict=True)]
            texts = [self.lm.text(answer.written) for answer in new]
            prompts, reward, terminated, truncated, info = env.step(texts)
            done, error = terminated | truncated, info["parse_error"].copy()
            if done.any():  # what `info` says of these is of their next session
                error[done] = info["final_info"]["parse_error"][done]
            answers += new
            rewards.append(reward - self.parse_penalty * error)
            ends.append(done)
            errors.append(error.mean())
        self.parse_errors.append(float(np.mean(errors)))
        returns = discounted(np.stack(rewards), np.stack(ends), self.gamma)
        credit = (returns - returns.mean()) / (returns.std() + 1e-6)
        return answers, torch.from_numpy(credit.astype(np.float32)).flatten(), prompts

    def _draw(self, prompts: list[list[int]]) -> Iterator[list[int]]:
        """The tokens of an answer to each prompt, with the one that ends it."""
        end = self.lm.tokenizer.eos_token_id
        for first in range(0, len(prompts), self.batch_size):
            batch = prompts[first : first + self.batch_size]
            for row in self.lm.write(batch, self.max_new_tokens, self.temperature).tolist():
                yield row[: row.index(end) + 1] if end in row else row

    def _update(self, answers: list[Answer], credit: Tensor) -> None:
        """Takes one step of Adam along the mean gradient over all answers."""
        self._optimiser.zero_grad()
        for first in range(0, len(answers), self.batch_size):
            rows = slice(first, first + self.batch_size)
            logs, entropy = self._log_probabilities(answers[rows])
            loss = -(credit[rows].to(logs.device) * logs).sum() - self.entropy * entropy.sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"{self.name}: a loss is not finite; lower learning_rate={self.learning_rate}."
                )
            (loss / len(answers)).backward()
        torch.nn.utils.clip_grad_norm_(self._trained.values(), 1.0)
        self._optimiser.step()

    def _log_probabilities(self, answers: list[Answer]) -> tuple[Tensor, Tensor]:
        """Of each whole answer, and the summed entropy of its tokens' distributions, both (b,)."""
        logits, written, told = self.lm.logits_behind(
            [answer.prompt for answer in answers], [answer.written for answer in answers]
        )
        logs = (logits.float() / self.temperature).log_softmax(dim=2)
        chosen = logs.gather(2, written[..., None])[..., 0]
        entropy = -(logs.exp() * logs).sum(dim=2)
        return (chosen * told).sum(dim=1), (entropy * told).sum(dim=1)


def discounted(
    rewards: npt.NDArray[np.floating], ends: npt.NDArray[np.bool_], gamma: float
) -> npt.NDArray[np.float64]:
    """Returns the discounted sum of rewards from each step to the end of its session, (t, n)."""
    returns, following = np.zeros(rewards.shape), np.zeros(rewards.shape[1])
    for step in reversed(range(len(rewards))):
        following = rewards[step] + gamma * np.where(ends[step], 0.0, following)
        returns[step] = following
    return returns
