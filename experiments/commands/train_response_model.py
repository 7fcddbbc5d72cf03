"""Training of a language model as the user: a classifier for `response="llm"`."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from agents.joint.lora import check_range
from agents.neural.trainer import Progress, TrainConfig, fit
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.runs.spec import check_names, task_config
from experiments.runs.threads import one_thread
from llmrec_env.content.encoders import WeightsError
from llmrec_env.content.encoders.blocks import Block, Tokens, pad_block, padding_values
from llmrec_env.content.encoders.transformer import find_device
from llmrec_env.content.encoders.weights import (
    digest_files,
    find_model,
    import_framework,
    load_model,
    read_sizes,
)
from llmrec_env.content.satisfaction_models import MAX_TOKENS, pair_tokens
from llmrec_env.simulation.response_model import FIT_USERS, TrainingClicks, training_clicks
from llmrec_env.world import load_world

HELD_OUT = 0.1
"""Share of the users whose clicks say which epoch was the best."""


class Fitted(NamedTuple):
    """How a classifier fits clicks of training users that it did not learn from."""

    clicks: int
    held_out: int
    loss: float
    auc: float


@one_thread()
def run(
    base: str,
    /,
    output: Path,
    task: str = "llmrec/Drift-v1",
    world: int = 100,
    users: int = FIT_USERS,
    epochs: int = 2,
    learning_rate: float = 5e-5,
    batch_size: int = 32,
    device: str = "auto",
    seed: int = 0,
    env: EnvFields = NO_FIELDS,
) -> Fitted:
    """Fine-tunes an encoder to say whether an item satisfies, and saves it as a directory.

    It learns from clicks of training users who respond as built in, each a profile in words and the
    text of an item; `--env.response llm --env.response-model OUTPUT` then makes it the user.

    Args:
        base: `minilm`, or the directory of an encoder as `hf download` writes it.
        output: a folder that does not exist.
        task: a registered id.
        world: whose users; 100 and up are kept for tuning.
        users: training users, the first so many.
        epochs: passes over the clicks; the one with the lowest loss on held-out users is kept.
        learning_rate: of AdamW.
        batch_size: clicks of a step.
        device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
        seed: of the head, the order, dropout and the users that are held out.
        env: fields of the environment that override the task's.

    Raises:
        ValueError: an argument is out of range, or the folder exists.
        WeightsError: the base is no encoder that can be used.
        FloatingPointError: a loss is not finite; nothing is written.
    """
    check_names((), (task,))
    for name, value in (("users", users), ("epochs", epochs), ("batch_size", batch_size)):
        check_range(name, value, 1)
    if output.exists():
        raise ValueError(f"output={str(output)!r} exists; name another folder, or delete it.")
    config = task_config(task, given_fields(env) | {"world_seed": world, "response": "logit"})
    classifier = Classifier(find_model(base), find_device(device), seed)
    clicks = training_clicks(load_world(config), users)
    settings = TrainConfig(epochs, batch_size, learning_rate, seed=seed)
    fitted = classifier.learn(clicks, settings, _tell)
    classifier.save(output)
    print(
        f"{fitted.clicks:,} clicks; on {fitted.held_out:,} of held-out training users: log loss "
        f"{fitted.loss:.3f}, AUC {fitted.auc:.3f}\n"
        f"python -m experiments response-model --env.response-model {output}"
    )
    return fitted


def _tell(progress: Progress) -> None:
    train, held_out = progress.train_loss[-1], progress.validation_loss[-1]
    print(f"epoch {progress.epoch}: log loss {train:.3f}, held out {held_out:.3f}", flush=True)


class Classifier:
    """A sequence classifier of one label on the body of an encoder."""

    def __init__(self, directory: Path, device: str, seed: int) -> None:
        """Loads the encoder; the head is drawn.

        Raises:
            WeightsError: no encoder that can be used is there.
        """
        digest_files(directory)  # refuses what has no safetensors
        _, body, self.tokenizer = load_model(directory, "cpu", "float32")
        _, limit = read_sizes(directory)
        self.max_length, self.device = min(MAX_TOKENS, limit), device
        config = copy.deepcopy(body.config)
        config.num_labels, config.pad_token_id = 1, self.tokenizer.pad_token_id
        factory = import_framework("transformers").AutoModelForSequenceClassification
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = factory.from_config(config)
            except ValueError as error:
                raise WeightsError(
                    f"{directory} holds no encoder that can classify (model_type="
                    f"{config.model_type!r}); use one such as BERT."
                ) from error
        model.base_model.load_state_dict(body.state_dict(), strict=False)
        self.model = model.requires_grad_(True).to(device)

    def learn(
        self,
        clicks: TrainingClicks,
        settings: TrainConfig,
        on_epoch: Callable[[Progress], None] | None = None,
    ) -> Fitted:
        """Learns from the clicks of most users, and is judged on those of the others.

        Raises:
            ValueError: too few clicks.
            FloatingPointError: a loss is not finite.
        """
        tokens = pair_tokens(self.tokenizer, clicks.profiles, clicks.items, self.max_length)
        z = torch.tensor(clicks.satisfied, dtype=torch.float32)
        own, held_out = _split(np.array(clicks.users), settings.seed)
        if not len(own) or len({*z[held_out].tolist()}) < 2:
            raise ValueError(f"{len(z)} clicks are too few to learn from; use more users.")

        def loss(rows: npt.NDArray[np.int64]) -> torch.Tensor:
            return torch.nn.functional.binary_cross_entropy_with_logits(
                self.logits(tokens, rows), z[rows].to(self.device)
            )

        def validate() -> float:
            logits = self._all_logits(tokens, held_out, settings.batch_size)
            measure = torch.nn.functional.binary_cross_entropy_with_logits
            return float(measure(logits, z[held_out]))

        progress = fit(
            self.model, len(own), lambda x: loss(own[x]), validate, settings, on_epoch=on_epoch
        )
        with torch.no_grad():
            said = self._all_logits(tokens, held_out, settings.batch_size)
        auc = float(roc_auc_score(z[held_out], said))
        return Fitted(len(z), len(held_out), progress.best, auc)

    def logits(self, tokens: Tokens, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Returns the logit of satisfaction of some pairs, (b,)."""
        members = rows.tolist()
        width = max(len(tokens["input_ids"][row]) for row in members)
        block = Block(width, len(members), members)
        arrays = pad_block(tokens, block, padding_values(self.tokenizer))
        inputs = {name: torch.from_numpy(ids).to(self.device) for name, ids in arrays.items()}
        return self.model(**inputs).logits[:, 0]

    def _all_logits(
        self, tokens: Tokens, rows: npt.NDArray[np.int64], batch_size: int
    ) -> torch.Tensor:
        """Those of many pairs, those of like length together, (m,)."""
        lengths = np.array([len(tokens["input_ids"][row]) for row in rows.tolist()])
        logits, order = torch.empty(len(rows)), np.argsort(lengths, kind="stable")
        for first in range(0, len(order), batch_size):
            some = order[first : first + batch_size]
            logits[some] = self.logits(tokens, rows[some]).cpu()
        return logits

    def save(self, path: Path) -> None:
        """Writes the directory of the classifier, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            self.model.save_pretrained(staging)
            self.tokenizer.save_pretrained(staging)
            staging.chmod(0o755)  # mkdtemp's is for its owner alone
            staging.rename(path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _split(users: npt.NDArray[np.int64], seed: int) -> tuple[Any, Any]:
    """Rows to learn from, and those of held-out users."""
    everyone = np.random.default_rng([seed, 11]).permutation(np.unique(users))
    is_held = np.isin(users, everyone[: max(1, round(HELD_OUT * len(everyone)))])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
