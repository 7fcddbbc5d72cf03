import errno
import io
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import make_agent
from experiments.runs import training
from experiments.runs.evaluation import execute_run
from experiments.runs.spec import RunSpec, environment, task_config
from experiments.runs.training import discard_checkpoint, summary_writer, train
from experiments.store import CHECKPOINTS, ResultsError
from experiments.store.folder import checked, with_checksum

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

SEGMENT, ROLLOUT, ENVS = 1024, 256, 32
SETTINGS = {"n_steps": ROLLOUT // ENVS, "batch_size": 128, "n_epochs": 2}
SHORT = {"n_steps": 8, "batch_size": 256, "n_epochs": 1}


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SEGMENT", SEGMENT)


@pytest.fixture
def spec(tiny: dict[str, Any]) -> RunSpec:
    steps = 3 * SEGMENT
    return RunSpec("llmrec/Drift-v1", "ppo", 0, train_steps=steps, env=tiny, settings=SETTINGS)


class Killed(BaseException):
    """What no handler takes for a failure."""


def trained(spec: RunSpec, folder: Path | None, kill_at: int = -1) -> tuple[Any, list[list[float]]]:
    """Trains a new agent, as a new process would; dies while it validates segment `kill_at`."""
    agent: Any = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **SETTINGS)
    env = environment(spec, agent, ENVS, "train")
    points = 0

    def validate() -> float:
        nonlocal points
        if (points := points + 1) == kill_at:
            raise Killed
        weights = agent.model.policy.state_dict()
        return float(sum(weight.double().sum() for weight in weights.values()))

    return agent, train(agent, env, spec, validate, folder)


def weights_of(agent: Any) -> dict[str, Any]:
    return agent.model.policy.state_dict()


def checkpoint(folder: Path) -> Path:
    (path,) = (folder / CHECKPOINTS).iterdir()
    return path


def interrupted(spec: RunSpec, folder: Path, segments: int = 1) -> Path:
    with pytest.raises(Killed):
        trained(spec, folder, kill_at=segments + 1)
    return checkpoint(folder)


@pytest.mark.parametrize("segments", [1, 2])
def test_training_goes_on_to_the_same_bits(spec: RunSpec, tmp_path: Path, segments: int) -> None:
    whole, points = trained(spec, None)
    path = interrupted(spec, tmp_path, segments)
    assert (
        torch.load(io.BytesIO(checked(path, path.read_bytes())), weights_only=True)["done"]
        == segments * SEGMENT
    )
    learnt: list[int] = []
    agent: Any = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **SETTINGS)
    learn = agent.learn

    def counted(*arguments: Any) -> int:
        learnt.append(1)
        return learn(*arguments)

    agent.learn = counted
    env = environment(spec, agent, ENVS, "train")

    def total() -> float:
        weights = weights_of(agent).values()
        return float(sum(weight.double().sum() for weight in weights))

    again = train(agent, env, spec, total, tmp_path)
    assert len(learnt) == 3 - segments
    assert again == points
    assert [steps for steps, _ in points] == [SEGMENT, 2 * SEGMENT, 3 * SEGMENT]
    assert len({value for _, value in points}) == 3
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, weights_of(agent)[name]), name
    observation = np.full((4, *(env.single_observation_space.shape or ())), 0.1, np.float32)
    starts = np.ones(4, np.bool_)
    np.testing.assert_array_equal(whole.act(observation, starts), agent.act(observation, starts))


def test_an_agent_killed_after_training_can_act_again(spec: RunSpec, tmp_path: Path) -> None:
    _, points = trained(spec, tmp_path)
    agent, again = trained(spec, tmp_path)  # as if it was killed while it played
    assert again == points
    assert agent.model is not None


def test_the_checkpoint_goes_when_the_run_is_done(spec: RunSpec, tmp_path: Path) -> None:
    path = interrupted(spec, tmp_path)
    discard_checkpoint(tmp_path, RunSpec("llmrec/Drift-v1", "ppo", 1))
    assert path.exists()
    discard_checkpoint(tmp_path, spec)
    assert not path.exists()
    discard_checkpoint(tmp_path, spec)
    discard_checkpoint(tmp_path / "none", spec)


@pytest.mark.parametrize("steps", [1, ROLLOUT, SEGMENT - 100, 2 * SEGMENT + 1])
def test_the_budget_is_exceeded_by_less_than_a_rollout(tiny: dict[str, Any], steps: int) -> None:
    spec = RunSpec("llmrec/Drift-v1", "ppo", 0, train_steps=steps, env=tiny, settings=SETTINGS)
    _, points = trained(spec, None)
    assert steps <= points[-1][0] < steps + ROLLOUT
    assert len(points) == -(-steps // SEGMENT)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(spec: RunSpec, tmp_path: Path) -> None:
    path, generator = interrupted(spec, tmp_path), random.Random(0)
    agent: Any = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **SETTINGS)
    env = environment(spec, agent, ENVS, "train")
    data = path.read_bytes()
    for place in [*range(0, 90, 7), *generator.sample(range(len(data)), 50), len(data) - 1]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ResultsError, match=rf"{path}: damaged, its checksum .* delete it"):
            train(agent, env, spec, lambda: 0.0, tmp_path)
    for torn in (b"", data[:-1000], data + b" "):
        path.write_bytes(torn)
        with pytest.raises(ResultsError, match=rf"{path}: damaged"):
            train(agent, env, spec, lambda: 0.0, tmp_path)


def test_temporary_files_of_killed_writes_do_not_stay(spec: RunSpec, tmp_path: Path) -> None:
    path = interrupted(spec, tmp_path)
    code = "import os, signal, sys; from pathlib import Path; from experiments import store\n"
    code += "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "store.write_file(Path(sys.argv[1]), b'half')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len([*path.parent.iterdir()]) == 2
    discard_checkpoint(tmp_path, spec)
    assert [*path.parent.iterdir()] == []


class Code:
    """What a file runs if it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    "content",
    [
        lambda: pickle.dumps(Code()),
        lambda: pickle.dumps([1, 2]),
        lambda: _saved({"done": 5}),
        lambda: _saved(Code()),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_name(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = interrupted(spec, tmp_path)
    path.write_bytes(with_checksum(content()))
    with pytest.raises(ResultsError, match=r"not a checkpoint of .*; delete it and run") as error:
        trained(spec, tmp_path)
    assert str(path) in str(error.value)
    assert not Path("ran").exists()
    path.unlink()
    trained(spec, tmp_path)


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_checkpoint_of_other_dynamics_or_of_another_run_is_refused(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = interrupted(spec, tmp_path)
    with monkeypatch.context() as context:
        context.setattr(training, "source_digest", lambda: "other")
        with pytest.raises(ResultsError, match=f"{path}: was trained under other dynamics; delete"):
            trained(spec, tmp_path)
    other = RunSpec(
        "llmrec/Drift-v1", "ppo", 0, 1, spec.train_steps, env=spec.env, settings=SETTINGS
    )
    theirs = training.checkpoint_path(tmp_path, other)
    path.rename(theirs)
    with pytest.raises(ResultsError, match=f"{theirs}: was trained for another run; delete it"):
        trained(other, tmp_path)


@pytest.mark.parametrize(
    "code, text",
    [(errno.EROFS, "name a folder that is writable"), (errno.ENOSPC, "make room and run again")],
)
def test_a_checkpoint_that_cannot_be_written_says_why(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, text: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    path = interrupted(spec, tmp_path)
    kept = path.read_bytes()
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", refuse)
        with pytest.raises(ResultsError, match=rf"{path}: {os.strerror(code)}; {text}"):
            trained(spec, tmp_path)
    assert path.read_bytes() == kept  # the one before
    assert checkpoint(tmp_path) == path
    trained(spec, tmp_path)


def test_a_folder_that_holds_no_checkpoints_says_so(spec: RunSpec) -> None:
    with pytest.raises(ResultsError, match=r"/proc/checkpoints/.*name a folder that is writable"):
        trained(spec, Path("/proc"))


# --- trackers


@pytest.fixture
def short(tiny: dict[str, Any]) -> RunSpec:
    return RunSpec("llmrec/Drift-v1", "ppo", 0, 1, 1024, env=tiny, settings=SHORT)


def test_tensorboard_gets_our_numbers_and_those_of_the_algorithm(
    short: RunSpec, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = execute_run(short, folder=tmp_path, track=("tensorboard",))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == "llmrec-Drift-v1-ppo-w0-s1"
    scalars = {}
    for file in folder.rglob("events.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            scalars[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    ((steps, value),) = scalars["validation/return"]
    assert [[steps, pytest.approx(value)]] == result.learning
    assert "train/loss" in scalars and "time/fps" in scalars


def test_following_changes_nothing(short: RunSpec, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    followed = execute_run(short, folder=tmp_path, track=("tensorboard",))
    alone = execute_run(short)
    assert repr(followed.episodes) == repr(alone.episodes)  # NaN equals nothing


def test_nothing_is_written_unasked(short: RunSpec, tmp_path: Path) -> None:
    execute_run(short, folder=tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_missing_package_is_named_with_its_extra(
    short: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(ImportError, match=r"llmrec-env\[track\]"),
        summary_writer(tmp_path, short, ("tensorboard",)),
    ):
        pass


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_wandb_keeps_a_run_to_be_sent_later(
    short: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed; it is in no extra")
    monkeypatch.setenv("WANDB_SILENT", "true")
    execute_run(short, folder=tmp_path, track=("wandb",))
    runs = [name for name in os.listdir(tmp_path / "wandb") if name.startswith("offline-run")]
    assert len(runs) == 1
    assert list((tmp_path / "wandb" / runs[0]).glob("*.wandb"))
