"""The study of the satisfaction classifier, end to end on a tiny world."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_bert import save_tiny_bert

from agents.joint.satisfaction.pairs import Pair
from experiments.studies import satisfaction_classifier

pytest.importorskip("peft", reason="peft is not installed")


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    bert = save_tiny_bert(folder / "bert")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMREC_CACHE", str(folder / "cache"))
        record = satisfaction_classifier.run(
            mode="lora",
            max_pairs=200,
            epochs=1,
            env=tiny | {"encoder": str(bert), "num_users": 300},
            output=folder,
        )
    return folder, record


def test_figures_stand_beside_the_references(study):
    _, record = study
    assert list(record["figures"]) == ["base rate", "cosine", "lora, T = 1", "lora"]
    assert record["figures"]["base rate"]["auc"] == 0.5
    assert all(0 <= row["auc"] <= 1 for row in record["figures"].values())
    assert record["pairs"]["train"] == 200 and record["pairs"]["validation"] == 50
    assert sum(row["number"] for row in record["reliability"]) == record["pairs"]["test"]
    assert record["figures"]["lora"]["auc"] == record["figures"]["lora, T = 1"]["auc"]


def test_file_holds_the_figures_and_no_text(study, world):
    folder, record = study
    content = (folder / "satisfaction-lora.json").read_text(encoding="utf-8")
    assert json.loads(content) == json.loads(json.dumps(record))
    assert not any(text in content for text in (*world.catalog.texts, *world.phrases.texts))


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
