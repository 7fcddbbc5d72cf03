"""A study of hyper-parameters that processes share, and that may be killed at any moment.

All that processes know of each other lies in the folder: `study.db` has the trials, and a process
locks one byte of `study.lock` while it runs one. The kernel drops that lock when the process dies,
so that a trial which still is said to run but is not locked is known to be dead: it is marked as
failed, and its settings are tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from agents import make_agent
from agents.base import SEGMENT, OnlineAgent
from experiments.runs.environments import TRAIN_ENVS, environment, task_config
from experiments.runs.evaluation import validator
from experiments.runs.spec import RunSpec
from experiments.runs.training import train
from experiments.store import storing
from experiments.tuning.search_spaces import nested, raw_defaults, space_of, suggest

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

DATABASE, LOCK = "study.db", "study.lock"
DEFAULTS = "defaults"
"""Attribute of the trial that runs the agent as it is."""

_POLL = 0.2  # seconds
_PATIENCE = 60.0  # seconds to wait for another process's write
_STARTUP = 5  # trials that ended well before one is given up for being worse
_MOST_RANDOM = 10  # trials before the sampler models what it has seen
_MOST_FAILURES = 3  # in a row: not the luck of the draw

Report = Callable[[int, float], None]
"""Called with the number of a measurement and the mean return so far; may raise to give up."""


@dataclass(frozen=True)
class Plan:
    """What a trial trains, and with whom it is measured: validation users alone."""

    agent: str
    task: str
    worlds: tuple[int, ...]
    steps: int
    """User-steps of training in each world."""
    users: int
    """Validation users of each world, the first of the split."""
    seed: int = 0
    """Of the sampler and of training."""
    env: dict[str, Any] = field(default_factory=dict)

    def specs(self, settings: dict[str, Any]) -> list[RunSpec]:
        """Returns what is trained, a run a world."""
        options: dict[str, Any] = {"users": self.users, "env": self.env, "settings": settings}
        return [
            RunSpec(self.task, self.agent, world, self.seed, self.steps, "validation", **options)
            for world in self.worlds
        ]


class _Worse(Exception):
    """A trial is given up: others did better when they had trained as much."""


def import_optuna() -> Any:
    """Returns the module `optuna`; without it ImportError says what to install."""
    try:
        import optuna
    except ImportError:
        raise ImportError("optuna is not installed; pip install llmrec-env[tune].") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # we tell what happens ourselves
    return optuna


# --- one trial


def score(
    plan: Plan, settings: dict[str, Any], report: Report, spent: dict[int, float]
) -> list[float]:
    """Returns the return on validation users after training, of each world.

    Args:
        plan: what to train.
        settings: of the agent.
        report: told the mean over worlds so far, after each segment of training.
        spent: receives the user-steps of training in each world.
    """
    returns: list[float] = []
    segments = -(-plan.steps // SEGMENT) + 1  # one to spare: a segment may end early
    for place, spec in enumerate(plan.specs(settings)):
        config = task_config(spec.task, spec.env)
        agent = cast(OnlineAgent, make_agent(spec.agent, config, spec.seed, **spec.settings))
        agent.on_steps = _keeper(spent, spec.world)
        measure = validator(agent, spec, spec.users)
        numbers = iter(range(place * segments, (place + 1) * segments))

        def validate(measure: Any = measure, at: Any = numbers) -> float:
            value = measure()
            report(next(at), float(np.mean([*returns, value])))
            return value

        learning = train(agent, environment(spec, agent, TRAIN_ENVS, "train"), spec, validate)
        spent[spec.world], value = learning[-1]
        returns.append(value)
    return returns


def _keeper(spent: dict[int, float], world: int) -> Callable[[int], None]:
    return lambda done: spent.__setitem__(world, float(done))


def behind(others: Sequence[FrozenTrial], number: int, value: float) -> bool:
    """Returns whether a value is below the median of what others had at the same measurement."""
    known = [x.intermediate_values[number] for x in others if number in x.intermediate_values]
    return len(known) >= _STARTUP and value < float(np.median(known))


# --- many trials


class Search:
    """The study of a folder; use it as a context."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Opens the study, new or not."""
        self.optuna, self.plan = import_optuna(), plan
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # One file for all: closing any drops every lock that the process has on it.
            self._lock = open(folder / LOCK, "ab")
        with self._alone():  # two that create the tables would meet
            self._storage = self.optuna.storages.RDBStorage(
                f"sqlite:///{(folder / DATABASE).resolve()}",
                engine_kwargs={"connect_args": {"timeout": _PATIENCE}},
            )
            self.study = self.optuna.create_study(
                **dict(storage=self._storage, study_name=plan.agent, direction="maximize"),
                load_if_exists=True,
            )
        self._states = self.optuna.trial.TrialState

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_: Any) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._lock.close()

    def trials(self, *states: str) -> list[FrozenTrial]:
        """Returns the trials in these states, in the order of their numbers; all by default."""
        wanted = tuple(getattr(self._states, state) for state in states) or None
        return self.study.get_trials(deepcopy=False, states=wanted)

    def ended(self) -> list[FrozenTrial]:
        """Returns the trials that count: those that ended, or were given up for being worse."""
        return self.trials("COMPLETE", "PRUNED")

    def work(self, trials: int, on_trial: Callable[[FrozenTrial], None]) -> None:
        """Runs trials until so many have ended, here or in other processes.

        Args:
            trials: how many are wanted, those that the folder holds included.
            on_trial: told of each trial that ends here.

        A trial that fails is marked so, and another is drawn; of several in a row the last raises.
        """
        failures = 0
        while claimed := self._next(trials):
            trial, settings = claimed
            try:
                self._run(trial, settings)
                failures = 0
            except Exception as error:
                trial.set_user_attr("error", type(error).__name__)  # a message may quote a text
                self.study.tell(trial, state=self._states.FAIL)
                failures += 1
                if failures == _MOST_FAILURES:
                    raise
            finally:
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, 1 + trial.number)
            on_trial(self.trials()[trial.number])

    def _next(self, trials: int) -> tuple[Trial, dict[str, Any]] | None:
        """A new trial that is locked, and its settings; None once enough have ended."""
        while True:
            with self._alone():
                alive = [x for x in self.trials("RUNNING") if not self._bury(x)]
                ended = len(self.ended())
                if ended >= trials:
                    return None
                if ended + len(alive) < trials:
                    return self._ask(ended + len(alive), min(_MOST_RANDOM, trials // 3))
            time.sleep(_POLL)  # those that run may die

    def _ask(self, place: int, random: int) -> tuple[Trial, dict[str, Any]]:
        """The trial that is `place` among those that count: a study that is killed draws the same.

        What one process does depends on the trials that ended, the seed and `place` alone.
        """
        if not self.trials():
            self.study.enqueue_trial(raw_defaults(self.plan.agent), user_attrs={DEFAULTS: True})
        seed = int(np.random.SeedSequence((self.plan.seed, place)).generate_state(1)[0])
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=random)
        trial = self.study.ask()
        fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, 1 + trial.number)
        if trial.user_attrs.get(DEFAULTS):
            known, space = raw_defaults(self.plan.agent), space_of(self.plan.agent)
            for name in known:  # what has no known default is not said to have been tried
                suggest(space[name], trial, name)
            return trial, {}
        chosen = {name: suggest(x, trial, name) for name, x in space_of(self.plan.agent).items()}
        return trial, nested(self.plan.agent, chosen)

    def _bury(self, trial: FrozenTrial) -> bool:
        """Whether the process of a trial is dead; then its settings wait to be tried again."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + trial.number)
        except (BlockingIOError, PermissionError):
            return False
        kept = {name: x for name, x in trial.user_attrs.items() if name == DEFAULTS}
        if trial.params or kept:  # otherwise it died before it drew them
            self.study.enqueue_trial(trial.params, user_attrs=kept)
        self.study.tell(trial.number, state=self._states.FAIL)
        fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, 1 + trial.number)
        return True

    def _run(self, trial: Trial, settings: dict[str, Any]) -> None:
        """Runs a trial and keeps what came of it."""
        started, spent = time.perf_counter(), dict[int, float]()
        state, value = self._states.COMPLETE, None
        trial.set_user_attr("settings", settings)

        def report(number: int, value: float) -> None:
            trial.report(value, number)
            if behind(self.trials("COMPLETE"), number, value):
                raise _Worse

        try:
            value = float(np.mean(score(self.plan, settings, report, spent)))
        except (_Worse, FloatingPointError) as reason:  # to diverge is to be worse
            state = self._states.PRUNED
            trial.set_user_attr("diverged", isinstance(reason, FloatingPointError))
        finally:
            trial.set_user_attr("user_steps", int(sum(spent.values())))
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 2))
        self.study.tell(trial, value, state)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While it lasts no other process does the same."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, 0)
