"""`train-response-model`: an encoder becomes a user that others take, or nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bert import WORDS, save_tiny_bert
from tiny_causal import save_tiny_causal

from agents.neural.trainer import TrainConfig
from experiments.cli import main
from experiments.commands.train_response_model import Classifier
from llmrec_env.content.encoders import WeightsError
from llmrec_env.content.profiles import Profile
from llmrec_env.content.satisfaction_models import load_satisfaction_model
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.response_model import TrainingClicks


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"), positions=256)


@pytest.fixture
def options(tiny: dict[str, Any]) -> list[str]:
    fields = {name.replace("_", "-"): str(value) for name, value in tiny.items()}
    own = ["--epochs", "1", "--users", "12", "--device", "cpu", "--learning-rate", "1e-3"]
    return own + [part for name, value in fields.items() for part in (f"--env.{name}", value)]


def _clicks(number: int) -> TrainingClicks:
    """Of users who are satisfied by what their profile names."""
    rng = np.random.default_rng(0)
    words = rng.choice(WORDS[3:9], (number, 2))
    profiles = [Profile(((2, word),)) for word, _ in words]
    satisfied = [int(a == b) for a, b in words]
    return TrainingClicks(list(range(number)), profiles, [b for _, b in words], satisfied)


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_its_directory_is_a_user_and_repeats_by_its_seed(bert, options, tiny, tmp_path, capsys):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        output = ["--output", str(tmp_path / name), "--seed", seed]
        assert main(["train-response-model", str(bert), *output, *options]) == 0
    assert "of held-out training users" in capsys.readouterr().out
    assert _weights(tmp_path / "a") == _weights(tmp_path / "b") != _weights(tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}
    env = RecVectorEnv(2, **tiny, response="llm", response_model=str(tmp_path / "a"), device="cpu")
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.tile(np.arange(5), (2, 1)))
    assert env.simulator.response_model.num_read > 0
    assert main(["train-response-model", str(bert), "--output", str(tmp_path / "a"), *options]) == 1
    assert "exists; name another folder" in capsys.readouterr().err


def test_what_it_saves_says_what_it_learnt(bert, tmp_path):
    """The tiny model cannot tell whether words agree, but which satisfy more often."""
    clicks = _clicks(200)._replace(
        satisfied=[int(item in WORDS[3:6]) for item in _clicks(200).items]
    )
    classifier = Classifier(bert, "cpu", 0)
    fitted = classifier.learn(clicks, TrainConfig(4, 16, 3e-3))
    assert fitted.auc > 0.95 and fitted.held_out == 20
    classifier.save(tmp_path / "user")
    said = load_satisfaction_model(str(tmp_path / "user"), "cpu").probabilities(
        clicks.profiles, clicks.items
    )
    z = np.array(clicks.satisfied)
    assert said[z == 1].mean() > 0.7 > 0.3 > said[z == 0].mean()


def test_a_failure_leaves_no_folder(bert, tmp_path, monkeypatch):
    classifier = Classifier(bert, "cpu", 0)

    def full(_: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(classifier.tokenizer, "save_pretrained", full)
    with pytest.raises(OSError, match="no space"):
        classifier.save(tmp_path / "user")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_used_is_refused(bert, options, tmp_path, capsys):
    output = ["--output", str(tmp_path / "x")]
    for base, more, said in (
        ("no/such", [], "is not a directory with a model"),
        (str(bert), ["--users", "0"], "users=0 is out of range"),
        (str(bert), ["--learning-rate", "nan"], "learning_rate"),
    ):
        assert main(["train-response-model", base, *output, *options, *more]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="too few to learn from"):
        Classifier(bert, "cpu", 0).learn(_clicks(1), TrainConfig(1))


def test_a_model_without_such_a_head_is_refused(tmp_path, monkeypatch):
    from transformers import AutoModelForSequenceClassification

    def refuse(_: Any) -> None:
        raise ValueError("Unrecognized configuration class")

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_config", refuse)
    with pytest.raises(WeightsError, match=r"no encoder that can classify \(model_type='llama'"):
        Classifier(save_tiny_causal(tmp_path), "cpu", 0)
