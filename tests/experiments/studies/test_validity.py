"""The judge of the simulator must itself be able to say no."""

import json

import numpy as np
import pytest

from agents import make_agent
from agents.rollout import rollout
from experiments.report.validity_page import validity_tables
from experiments.runs.runner import RunOptions
from experiments.statistics import calibration
from experiments.studies import validity
from llmrec_env.config import EnvConfig
from llmrec_env.world import load_world


@pytest.fixture(scope="module", params=["random", "content"])
def watched(request, new_vec):
    """Sessions with the users of the tiny world: slates they skip, and slates that tire them."""
    return watch(request.param, new_vec)


def watch(name, new_vec):
    env = new_vec(60, split="all", action="slate", observation="dict", autoreset_mode="next_step")
    agent = make_agent(name, env.config)
    agent.fit(env, 0)
    seen = calibration.Responses(env)
    for seed in range(5):
        rollout(agent, env, np.arange(60), seed, seen)
    return seen


@pytest.fixture(scope="module")
def page(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validity")
    env = tiny | {"num_users": 200}
    return folder, validity.run(env=env, options=RunOptions(output=folder))


def test_users_do_what_their_model_predicts(watched):
    choice = calibration.calibrated(watched.choice, watched.chosen)
    assert choice.error < 2 * choice.chance
    satisfaction = calibration.calibrated(watched.satisfaction, watched.satisfied)
    assert satisfaction.error < 2 * satisfaction.chance
    np.testing.assert_allclose(watched.choice.sum(axis=1), 1.0)
    assert (watched.chosen.sum(axis=1) == 1).all()


def test_a_wrong_prediction_is_found_out(watched):
    reversed_slots = watched.choice[:, [*range(watched.choice.shape[1] - 2, -1, -1), -1]]
    for wrong in (reversed_slots, np.sqrt(watched.choice)):
        found = calibration.calibrated(wrong, watched.chosen)
        assert found.error > 4 * found.chance


def test_calibration_of_known_events():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 20_000)
    z = rng.random(20_000) < p
    right, wrong = calibration.calibrated(p, z), calibration.calibrated(p**2, z)
    assert right.error == pytest.approx(right.chance, rel=0.8)
    assert wrong.error == pytest.approx(np.mean(p - p**2), abs=0.01)
    with pytest.raises(ValueError, match="10 pairs"):
        calibration.calibrated([0.5], [True])


def test_the_position_bias_is_recovered(new_vec):
    rng, slots = np.random.default_rng(0), np.arange(1, 6)
    for exponent in (0.0, 1.0):
        found, error = calibration.position_exponent(rng.poisson(5000 * slots**-exponent))
        assert 0 < error < 0.02
        assert found == pytest.approx(exponent, abs=3 * error)
    assert np.isnan(calibration.position_exponent([7])).all()
    assert np.isnan(calibration.position_exponent([7, 0])).all()
    watched = watch("random", new_vec)
    clicked, error = calibration.position_exponent(watched.chosen[:, :-1].sum(axis=0))
    predicted, _ = calibration.position_exponent(watched.choice[:, :-1].sum(axis=0))
    assert clicked == pytest.approx(predicted, abs=3 * error)


def test_variance_is_shared_out_as_it_was_put_in():
    rng = np.random.default_rng(0)
    user, session = rng.normal(0, 1, (4000, 1, 1)), rng.normal(0, 2, (4000, 5, 1))
    shares = calibration.variance_shares(user + session + rng.normal(0, 3, (4000, 5, 20)))
    assert shares["users"] == pytest.approx(1 / 14, abs=0.02)
    assert shares["sessions"] == pytest.approx(4 / 14, abs=0.02)
    assert shares["steps"] == pytest.approx(9 / 14, abs=0.02)
    alike = calibration.variance_shares(rng.normal(0, 1, (4000, 5, 20)))
    assert alike["steps"] > 0.99
    assert calibration.user_share(user[:, :, 0] + session[:, :, 0]) == pytest.approx(0.2, abs=0.03)
    assert calibration.user_share(session[:, :, 0]) < 0.02


def test_the_half_life_is_where_half_of_the_likeness_is_lost():
    steps = np.arange(200)
    assert calibration.half_life(0.1 + 0.9 * 0.5 ** (steps / 20), 0.1) == 20
    assert calibration.half_life(np.ones(200), 0.1) is None


def test_without_drift_nobody_drifts(tiny, world):
    users = np.arange(60)
    still = validity.drift(load_world(EnvConfig(**tiny, off=("drift",))), users)
    moving = validity.drift(world, users)
    fast = validity.drift(load_world(EnvConfig(**tiny, switch_rate=0.2)), users)
    assert max(still["angles"].values()) < 0.1
    assert still["half-life"] is None
    assert fast["half-life"] < moving["half-life"]
    assert 0 < moving["angles"]["1"] < moving["angles"]["10"] < moving["angles"]["100"]
    assert moving["angles"]["100"] < moving["two users"] + 5


def test_the_page_is_written(page):
    folder, measured = page
    written = json.loads((folder / "validity.json").read_text(encoding="utf-8"))
    assert written["measured"] == json.loads(json.dumps(measured))
    assert (folder / "validity.md").read_text(encoding="utf-8").count("a bad sign") == 6
    assert (folder / "figures" / "validity.svg").is_file()
    assert measured["policies"]["oracle-planning"][0] > measured["policies"]["random"][0]
    assert sum(measured["randomness"]["reward of a step"].values()) == pytest.approx(1.0)
    assert measured["drift"]["events"]["died"] > 0
    assert sum(measured["responses"]["clicks by slot"]) == pytest.approx(1.0)


def test_every_line_says_what_would_be_bad(page):
    _, measured = page
    tables = validity_tables(measured)
    rows = [(table.title, *row) for table in tables for row in table.rows]
    assert all(all(row) for row in rows)
    assert len({row[:2] for row in rows}) == len(rows)


def test_no_text_of_a_user_is_on_the_page(page, world):
    folder, _ = page
    written = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert not any(text.encode() in written for text in world.phrases.texts)


def test_users_who_do_not_choose_by_the_logit_of_the_page_are_refused(tiny):
    with pytest.raises(ValueError, match="set that, or another task"):
        validity.run("llmrec/Cascade-v1", env=tiny)
