"""Language models as users: the probability is the model's own, and bad directories are refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny_bert import save_tiny_bert
from tiny_causal import save_tiny_causal, torch, transformers

from llmrec_env.content import model_directory, satisfaction_models
from llmrec_env.content.encoders import DeviceError, WeightsError
from llmrec_env.content.profiles import Profile
from llmrec_env.content.satisfaction_models import (
    SequenceClassifier,
    YesNoModel,
    load_satisfaction_model,
    prompt_of,
)

PROFILES = [
    Profile(((2, "slow trains"),)),
    Profile(((2, "jazz piano"), (0, "a film about pasta")), ((0, "war"),), -1),
    Profile(((1, "history of the comedy"),), trust=1),
]
ITEMS = ["a film about trains", "cooking pasta, the slow way, with jazz", "war"]


def save_tiny_classifier(directory, labels=2):
    """Writes a BERT with random weights that classifies pairs of texts."""
    save_tiny_bert(directory, positions=256)
    config = transformers.BertConfig.from_pretrained(directory, num_labels=labels)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        transformers.BertForSequenceClassification(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def tiny_lm(tmp_path_factory):
    return save_tiny_causal(tmp_path_factory.mktemp("lm"), ("yes", "no", "trains", "user"))


@pytest.mark.parametrize("labels", [1, 2])
def test_a_classifier_reads_both_texts_at_once(tmp_path, labels):
    model = load_satisfaction_model(str(save_tiny_classifier(tmp_path, labels)), "cpu")
    assert isinstance(model, SequenceClassifier)
    said = model.probabilities(PROFILES, ITEMS)
    plain = transformers.BertForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for profile, item, chance in zip(PROFILES, ITEMS, said, strict=True):
        with torch.no_grad():
            logits = plain(**tokenizer(profile.text, item, return_tensors="pt")).logits[0]
        expected = logits.sigmoid()[0] if labels == 1 else logits.softmax(0)[1]
        assert chance == pytest.approx(float(expected), abs=1e-5)
    assert np.ptp(said) > 1e-4


def test_a_causal_model_is_asked_for_yes_or_no(tiny_lm):
    model = load_satisfaction_model(str(tiny_lm), "cpu")
    assert isinstance(model, YesNoModel)
    said = model.probabilities(PROFILES, ITEMS)
    plain = transformers.LlamaForCausalLM.from_pretrained(tiny_lm).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
    words = [tokenizer.convert_tokens_to_ids(word) for word in (" no", " yes", "no", "yes")]
    for profile, item, chance in zip(PROFILES, ITEMS, said, strict=True):
        tokens = tokenizer(prompt_of(profile, item), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = plain(torch.tensor([[tokenizer.bos_token_id, *tokens]])).logits[0, -1]
        odds = logits.softmax(0)
        # " Yes" begins with a blank, as " No" does: it tells nothing and does not count.
        y = odds[words[1]] + odds[words[3]] + odds[tokenizer.convert_tokens_to_ids("Y")]
        n = odds[words[0]] + odds[words[2]] + odds[tokenizer.convert_tokens_to_ids("N")]
        assert chance == pytest.approx(float(y / (y + n)), abs=1e-4)


@pytest.mark.parametrize("kind", ["classifier", "causal"])
def test_a_pair_has_the_same_bits_in_any_company(kind, tiny_lm, tmp_path):
    directory = tiny_lm if kind == "causal" else save_tiny_classifier(tmp_path)
    model = load_satisfaction_model(str(directory), "cpu")
    said = model.probabilities(PROFILES * 4, ITEMS * 4)
    for i in range(3):
        assert model.probabilities([PROFILES[i]], [ITEMS[i]])[0] == said[i] == said[i + 9]


def test_other_models_are_refused_with_what_to_do(tmp_path, tiny_lm):
    with pytest.raises(WeightsError, match=r"response_model='no/such' is not a directory; name"):
        load_satisfaction_model("no/such")
    with pytest.raises(WeightsError, match=r"no sequence classifier or causal .*BertModel.*leave"):
        load_satisfaction_model(str(save_tiny_bert(tmp_path / "encoder")))
    with pytest.raises(WeightsError, match="has 3 labels; use a response_model with one"):
        load_satisfaction_model(str(save_tiny_classifier(tmp_path / "three", 3)), "cpu")
    folder = shutil.copytree(tiny_lm, tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(WeightsError, match=r"asks to run code of its own \(auto_map"):
        load_satisfaction_model(str(folder))


def test_a_tokenizer_that_begins_yes_and_no_alike_is_refused(tiny_lm, monkeypatch):
    monkeypatch.setattr(satisfaction_models, "ANSWERS", {"no": (" ",), "yes": (" ",)})
    with pytest.raises(WeightsError, match="begins yes and no with the same token"):
        load_satisfaction_model(str(tiny_lm), "cpu")


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_read(tiny_lm, monkeypatch):
    monkeypatch.setattr(model_directory, "free_memory", lambda device: 1e4)
    monkeypatch.setattr(satisfaction_models, "load_model", lambda *_: pytest.fail("was read"))
    with pytest.raises(DeviceError, match=r"about .* GB in float32, but cpu has 0\.0 GB"):
        load_satisfaction_model(str(tiny_lm), "cpu")


def test_texts_are_in_no_error(tmp_path):
    directory = save_tiny_causal(tmp_path, ("yes", "no"), max_position_embeddings=64)
    model = load_satisfaction_model(str(directory), "cpu")
    with pytest.raises(ValueError, match=r"tokens, but .* reads 64; use a") as caught:
        model.probabilities(PROFILES, ITEMS)
    assert not any(word in str(caught.value) for word in ("trains", "jazz", "pasta", "war"))
