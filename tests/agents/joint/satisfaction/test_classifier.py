"""The satisfaction classifier: what it reads, learns and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_bert import WORDS, save_tiny_bert

from agents.joint.satisfaction.classifier import SatisfactionClassifier
from agents.joint.satisfaction.pairs import Augmentation, Pair, check_pairs
from agents.neural.trainer import TrainConfig
from llmrec_env.content.encoders import WeightsError

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")

QUICK = TrainConfig(epochs=3, batch_size=16, learning_rate=3e-3, patience=3)


def alike(number, seed=0, first=0):
    """Pairs of which those satisfy whose item begins as the behaviour does."""
    rng = np.random.default_rng(seed)
    pairs = []
    for place in range(number):
        topic, other = rng.choice(len(WORDS), 2, replace=False)
        satisfied = int(rng.random() < 0.5)
        item = WORDS[topic if satisfied else other]
        pairs.append(Pair((WORDS[topic],) * 2, f"{item} {item}", satisfied, first + place // 4))
    return pairs


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(params=["cross-encoder", "bi-encoder"])
def reading(request):
    return request.param


# --- bad input


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone_is_refused_with_the_reason(bert, label):
    good, bad = alike(8), [pair._replace(satisfied=label) for pair in alike(8, first=50)]
    classifier = SatisfactionClassifier(bert, "frozen")
    message = r"all 8 are labelled .*satisfied.*From one class .*browsed=1"
    for train, held_out in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=message):
            classifier.learn(train, held_out, QUICK)
    with pytest.raises(ValueError, match=message):
        classifier.evaluate(bad)


def test_a_user_on_both_sides_is_refused(bert):
    classifier = SatisfactionClassifier(bert, "frozen")
    with pytest.raises(ValueError, match=r"2 users are in .* split_pairs"):
        classifier.learn(alike(8), alike(40, seed=1), QUICK)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"satisfied": 2}, ValueError, r"training pair 1: satisfied=2"),
        ({"satisfied": float("nan")}, ValueError, r"satisfied=nan"),
        ({"item": None}, TypeError, r"training pair 1.*texts\[2\]"),
        ({"behaviour": ("secret", "\ud800")}, ValueError, r"training pair 1.*texts\[1\]"),
    ],
)
def test_malformed_pairs_are_refused_by_place(change, error, message):
    pairs = alike(4)
    pairs[1] = pairs[1]._replace(**change)
    with pytest.raises(error, match=message) as caught:
        check_pairs(pairs, "training")
    assert "secret" not in str(caught.value)


def test_plain_tuples_are_pairs(bert):
    pairs = [tuple(pair) for pair in alike(12)]
    classifier = SatisfactionClassifier(bert, "frozen")
    classifier.learn(pairs, [tuple(pair) for pair in alike(12, first=50)], QUICK)
    assert classifier.probability(pairs).shape == (12,)
    with pytest.raises(ValueError, match=r"texts\[1\]") as caught:
        classifier.probability([(("secret", "\ud800"), "film", 1, 0)])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"reading": "mean"}, "Unknown reading"), ({"dropout": 1}, "dropout=1 is out of range")],
)
def test_bad_settings_are_refused(bert, settings, message):
    with pytest.raises(ValueError, match=message):
        SatisfactionClassifier(bert, **settings)


# --- reading


def test_a_pair_is_read_alone_as_in_company(bert, reading):
    classifier = SatisfactionClassifier(bert, "full", reading=reading)
    pairs = [*alike(9), Pair((), "film", 1, 0), Pair(("jazz " * 90,), "piano " * 90, 0, 1)]
    pairs.append(Pair((), "", 1, 0))
    together = classifier.features(pairs).detach().numpy()
    alone = np.concatenate([classifier.features([pair]).detach().numpy() for pair in pairs])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.isfinite(together).all() and classifier.features([]).shape == (0, together.shape[1])


def test_texts_read_together_are_one_sequence_of_two_segments(bert):
    classifier = SatisfactionClassifier(bert, "frozen", reading="cross-encoder")
    tower, pair = classifier.tower, Pair(("jazz piano", "film"), "slow trains", 1, 0)
    tokens = tower.tokenizer("jazz piano film", "slow trains", return_tensors="pt")
    assert tokens["input_ids"][0, [0, 4, 7]].tolist() == [2, 3, 3]
    assert tokens["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    with torch.no_grad():
        expected = tower.model(**tokens).last_hidden_state[0, 0]
    torch.testing.assert_close(classifier.features([pair])[0], expected, atol=1e-4, rtol=1e-4)


def test_texts_read_apart_are_two_vectors_their_product_and_cosine(bert):
    classifier = SatisfactionClassifier(bert, "frozen", reading="bi-encoder")
    behaviour, item = ("jazz piano", "film"), "slow trains"
    vectors = classifier.tower.vectors([*behaviour, item])
    mean = vectors[:2].mean(axis=0)
    mean, item_vector = mean / np.linalg.norm(mean), vectors[2]
    features_read = classifier.features([Pair(behaviour, item, 1, 0), Pair((), item, 1, 0)]).numpy()
    scale = classifier.tower.width**0.5
    others = [0.3 * scale * mean, 0.3 * scale * item_vector, 0.3 * scale**2 * mean * item_vector]
    expected = np.concatenate([[scale * mean @ item_vector, 0.0], *others])
    np.testing.assert_allclose(features_read[0], expected, atol=1e-4)
    assert features_read[1, 0] == 0 and features_read[1, 1] == 1


def test_before_learning_nothing_is_known(bert, reading):
    classifier = SatisfactionClassifier(bert, "full", reading=reading)
    np.testing.assert_array_equal(classifier.probability(alike(4)), 0.5)


# --- learning


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_held_out_users_are_told_apart(bert, mode):
    classifier = SatisfactionClassifier(bert, mode)
    config = TrainConfig(epochs=10, batch_size=16, learning_rate=1e-3, patience=8)
    progress = classifier.learn(alike(480), alike(64, 1, 500), config, head_rate=2e-3)
    report = classifier.evaluate(alike(200, 2, 900))
    assert report.auc > {"frozen": 0.85, "lora": 0.95, "full": 0.98}[mode]
    assert report.accuracy > 0.75 and progress.best < 0.6 and not classifier.training
    parts = {"frozen": 0, "lora": classifier.tower.num_trained, "full": 30_000}
    assert classifier.num_trained >= parts[mode] + 2 * (3 * classifier.tower.width + 3)


def test_batches_and_augmentation_are_counted_and_change_what_is_learnt(bert):
    vectors = []
    for augmentation in (Augmentation(0.5, 0.5, 1.0), Augmentation(0.5, 0.5, 1.0), Augmentation(0)):
        classifier, seen = SatisfactionClassifier(bert, "frozen"), []
        classifier.learn(
            alike(40), alike(16, 1, 500), QUICK, augmentation=augmentation, on_pairs=seen.append
        )
        assert seen == [16, 16, 8] * 3
        vectors.append(classifier.margins(alike(5, 3)))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-4


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_killed_training_goes_on_bit_for_bit(bert, mode, tmp_path):
    train, held_out = alike(48), alike(16, 1, 500)
    augmentation = Augmentation()

    class Killed(Exception):
        pass

    def trained(checkpoint=None, batches=None):
        classifier, seen = SatisfactionClassifier(bert, mode, seed=4), []

        def kill(number):
            seen.append(number)
            if batches is not None and len(seen) > batches:
                raise Killed

        more = {"augmentation": augmentation, "checkpoint": checkpoint, "on_pairs": kill}
        progress = classifier.learn(train, held_out, QUICK, **more)
        return classifier, progress, seen

    whole, expected, _ = trained()
    with pytest.raises(Killed):
        trained(tmp_path / "training.pt", batches=4)
    again, progress, seen = trained(tmp_path / "training.pt")
    assert len(seen) == 6  # the first of three epochs was not repeated
    assert progress == expected and again.temperature == whole.temperature
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_tensorboard_is_written_where_told(bert, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    classifier = SatisfactionClassifier(bert, "frozen")
    classifier.learn(alike(16), alike(16, 1, 500), QUICK, log_folder=tmp_path / "log")
    assert any((tmp_path / "log").iterdir())


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_saved_classifier_comes_back(bert, mode, tmp_path, reading):
    classifier = SatisfactionClassifier(bert, mode, reading=reading)
    classifier.learn(alike(32), alike(16, 1, 500), QUICK)
    classifier.save(tmp_path)
    other = SatisfactionClassifier(bert, mode, reading=reading, seed=9)
    other.restore(tmp_path)
    np.testing.assert_array_equal(other.probability(alike(9)), classifier.probability(alike(9)))
    different = SatisfactionClassifier(bert, mode, reading=reading, max_length=64)
    with pytest.raises(WeightsError, match="max_length=128"):
        different.restore(tmp_path)
