"""The study of the satisfaction classifier, end to end on a tiny world."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_bert import own_cache, save_tiny_bert

from agents.joint.past import columns_of
from agents.joint.recommender import Joint
from agents.joint.satisfaction.pairs import Pair
from experiments.studies import satisfaction_classifier

pytest.importorskip("peft", reason="peft is not installed")


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    bert = save_tiny_bert(folder / "bert")
    with pytest.MonkeyPatch.context() as patch:
        own_cache(patch, folder / "cache")
        record = satisfaction_classifier.run(
            mode="lora",
            sizes=(60, 200),
            test_pairs=200,
            epochs=1,
            env=tiny | {"encoder": str(bert), "num_users": 300},
            output=folder / "out",
        )
    return folder, record


def test_figures_stand_beside_the_references(study):
    _, record = study
    sizes = ["lora, 60 pairs", "lora, 200 pairs"]
    assert list(record["figures"]) == ["base rate", "cosine", "joint", *sizes]
    assert record["figures"]["base rate"]["auc"] == 0.5
    assert all(0 <= row["auc"] <= 1 for row in record["figures"].values())
    assert record["pairs"]["train"] == 200 and record["pairs"]["validation"] == 50
    assert [record["learnt_from"][name] for name in sizes] == [60, 200]
    assert sum(row["number"] for row in record["reliability"]) == record["pairs"]["test"]
    assert list(record["over_cosine"]) == ["joint", *sizes]
    for name, (value, low, high) in record["over_cosine"].items():
        auc = record["figures"][name]["auc"] - record["figures"]["cosine"]["auc"]
        assert low < value < high and value == pytest.approx(auc)


def test_file_holds_the_figures_and_no_text(study, world):
    folder, record = study
    content = (folder / "out/satisfaction-lora-bi-encoder.json").read_text(encoding="utf-8")
    assert json.loads(content) == json.loads(json.dumps(record))
    assert not any(text in content for text in (*world.catalog.texts, *world.phrases.texts))


def test_what_joint_expects_belongs_to_the_pairs(world, monkeypatch):
    """Of a perfect `joint` every expectation is the outcome of its pair."""
    parts, rows = satisfaction_classifier._parts(world, 50, 40, 0.0, 3)
    steps = columns_of(satisfaction_classifier.public_data(world, "test"))
    truth = np.where(steps[2] == 1, 9.0, -9.0)

    def knows(agent, steps, expected):
        expected[:] = truth

    monkeypatch.setattr(Joint, "after", knows)
    monkeypatch.setattr(Joint, "learn", lambda *_: None)
    monkeypatch.setattr(Joint, "calibration", np.array([1.0, 0.0]), raising=False)
    made = satisfaction_classifier._joint(world, rows, 0)
    label = [pair.satisfied for pair in parts["test"]]
    assert (made.probability > 0.5).astype(int).tolist() == label and 0 < sum(label) < len(label)


def test_splits_share_no_user(world):
    users = {
        split: set(satisfaction_classifier.public_data(world, split).users)
        for split in ("train", "test")
    }
    assert not users["train"] & users["test"] and len(users["test"]) == 6
    data = satisfaction_classifier.public_data(world, "test")
    user = int(data.users[2])
    np.testing.assert_array_equal(data.logs.items[2], world.logs.items[user])


def test_cosine_tells_what_is_alike(world):
    texts, vectors = world.catalog.texts, world.items.vectors
    near = [int(np.argsort(-vectors @ vectors[item])[1]) for item in range(40)]
    far = [int(np.argmin(vectors @ vectors[item])) for item in range(40)]
    pairs = [Pair((texts[i],), texts[other], 1, i) for i, other in enumerate(near)]
    pairs += [Pair((texts[i],), texts[other], 0, i) for i, other in enumerate(far)]
    probabilities = satisfaction_classifier.cosine_probability(
        world, pairs, [*pairs, Pair((), texts[0], 1, 0)]
    )
    assert probabilities[:40].min() > 0.5 > probabilities[40:80].max() and np.isfinite(
        probabilities[80]
    )
