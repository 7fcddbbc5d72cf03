"""Hyper-parameter search with optuna that processes share, and that may be killed at any moment.

Optuna's storage in the folder is all that processes know of each other. Each running trial gives a
heartbeat; one that gives none for a while is dead: it is marked as failed and tried again.
"""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents import make_agent
from agents.base import SEGMENT, OnlineAgent
from experiments.runs.evaluation import validator
from experiments.runs.spec import TRAIN_ENVS, RunSpec, environment, task_config
from experiments.runs.threads import one_thread
from experiments.runs.training import train
from experiments.store import storing
from experiments.tuning.search_spaces import nested, raw_defaults, space_of, suggest

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

DATABASE = "study.db"
DEFAULTS = "defaults"
"""Attribute of the trial that runs the agent as it is."""

HEARTBEAT, GRACE = 10, 60  # seconds; a trial without a heartbeat for so long is dead
_POLL = 0.2  # seconds
_PATIENCE = 60.0  # seconds to wait for another process's write
_STARTUP = 5  # trials that ended well before one is given up for being worse
_MOST_RANDOM = 10  # trials before the sampler models what it has seen
_MOST_FAILURES = 3  # in a row: not chance

Report = Callable[[int, float], None]
"""Called with the number of a measurement and the mean return so far; may raise to give up."""


@dataclass(frozen=True)
class Plan:
    """What a trial trains, and with whom it is measured: validation users alone."""

    agent: str
    task: str
    worlds: tuple[int, ...]
    steps: int
    """Environment steps of training in each world, of an agent that learns online."""
    users: int
    """Validation users of each world, the first of the split."""
    seed: int = 0
    """Of the sampler and of training."""
    env: dict[str, Any] = field(default_factory=dict)

    def specs(self, settings: dict[str, Any]) -> list[RunSpec]:
        """Returns what is trained, a run a world."""
        return [
            RunSpec(
                self.task,
                self.agent,
                world,
                self.seed,
                self.steps,
                "validation",
                users=self.users,
                env=self.env,
                settings=settings,
            )
            for world in self.worlds
        ]


def import_optuna() -> Any:
    """Returns the module `optuna`; without it ImportError says what to install."""
    try:
        import optuna
    except ImportError:
        raise ImportError("optuna is not installed; pip install llmrec-env[tune].") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings quote messages of errors
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


# --- one trial


@one_thread()
def score(
    plan: Plan, settings: dict[str, Any], report: Report, spent: dict[int, float]
) -> list[float]:
    """Returns the return on validation users after training, of each world.

    Args:
        plan: what to train.
        settings: of the agent.
        report: told the mean over worlds so far, after each segment of training.
        spent: receives the environment steps of training in each world.
    """
    returns: list[float] = []
    segments = -(-plan.steps // SEGMENT) + 1  # one to spare: a segment may end early
    for index, spec in enumerate(plan.specs(settings)):
        config = task_config(spec.task, spec.env)
        agent = make_agent(spec.agent, config, spec.seed, **spec.settings)
        measure = validator(agent, spec, spec.users)
        numbers = iter(range(index * segments, (index + 1) * segments))

        def validate(measure: Any = measure, numbers: Any = numbers) -> float:
            value = measure()
            report(next(numbers), float(np.mean([*returns, value])))
            return value

        train_env = environment(spec, agent, TRAIN_ENVS, "train")
        if isinstance(agent, OnlineAgent):
            agent.on_steps = _keeper(spent, spec.world)
            spent[spec.world], value = train(agent, train_env, spec, validate)[-1]
        else:
            agent.fit(train_env, 0)
            value = validate()
        returns.append(value)
    return returns


def _keeper(spent: dict[int, float], world: int) -> Callable[[int], None]:
    return lambda done: spent.__setitem__(world, float(done))


# --- many trials


class _Surplus(Exception):
    """Another process began the last trial that is wanted at the same moment."""


def open_study(folder: Path, plan: Plan) -> Study:
    """Returns the study of a folder, new or not; its first trial is the agent as it is."""
    optuna = import_optuna()
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(folder / DATABASE).resolve()}",
        engine_kwargs={"connect_args": {"timeout": _PATIENCE}},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )
    study = optuna.create_study(
        storage=storage,
        study_name=plan.agent,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_min_trials=_STARTUP),
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(raw_defaults(plan.agent), user_attrs={DEFAULTS: True})
    return study


def trials_of(study: Study, *states: str) -> list[FrozenTrial]:
    """Returns the trials in these states, in the order of their numbers."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in states]


def search(
    folder: Path, plan: Plan, trials: int, on_trial: Callable[[Study, FrozenTrial], None]
) -> None:
    """Runs trials until so many have ended, here or in other processes.

    Args:
        folder: of the study.
        plan: what a trial is.
        trials: how many are wanted; those that failed or were killed do not count.
        on_trial: told of each trial that ends here.

    A trial that fails is marked so, and another is drawn; of several in a row the last raises.
    """
    study, failures = open_study(folder, plan), 0
    _wait_for_the_dead(study)
    while _is_wanted(study, trials):
        try:
            study.optimize(_objective(plan, trials), n_trials=1, callbacks=[on_trial])
            failures = 0
        except _Surplus:
            pass
        except Exception:
            failures += 1
            if failures == _MOST_FAILURES:
                raise


def _wait_for_the_dead(study: Study) -> None:
    """Lets trials that a kill left behind be retried first, so that all goes on as it would have.

    Trials of other processes that are alive are waited for no longer than it takes to tell.
    """
    until = time.monotonic() + GRACE + 1
    while trials_of(study, "RUNNING") and time.monotonic() < until:
        time.sleep(_POLL)
        _bury(study)


def _is_wanted(study: Study, trials: int) -> bool:
    """Whether another trial is to be begun; waits while those that run may be enough."""
    while True:
        _bury(study)
        ended = len(trials_of(study, "COMPLETE", "PRUNED"))
        if ended >= trials:
            return False
        if ended + len(trials_of(study, "RUNNING")) < trials:
            return True
        time.sleep(_POLL)


def _bury(study: Study) -> None:
    """Fails the trials that are dead; those that had begun are queued to be tried again."""
    optuna = import_optuna()
    optuna.storages.fail_stale_trials(study)
    old = datetime.datetime.now() - datetime.timedelta(seconds=2 * GRACE)
    for trial in trials_of(study, "RUNNING"):
        # Killed before its first heartbeat, which optuna waits for without end.
        if not trial.params and trial.datetime_start and trial.datetime_start < old:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)


def _objective(plan: Plan, trials: int) -> Callable[[Trial], float]:
    optuna = import_optuna()

    def objective(trial: Trial) -> float:
        study, index = trial.study, _index_of(trial)
        if index >= trials:
            raise _Surplus
        # What is drawn depends on the trials that ended, the seed and the index: a study that is
        # killed draws the same.
        seed = int(np.random.SeedSequence((plan.seed, index)).generate_state(1)[0])
        random = min(_MOST_RANDOM, trials // 3)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=random)
        settings = _drawn(trial, plan.agent)
        trial.set_user_attr("settings", settings)
        started, spent = time.perf_counter(), dict[int, float]()

        def report(number: int, value: float) -> None:
            trial.report(value, number)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            return float(np.mean(score(plan, settings, report, spent)))
        except FloatingPointError:  # to diverge is to be worse
            trial.set_user_attr("diverged", True)
            raise optuna.TrialPruned from None
        except KeyboardInterrupt:
            optuna.storages.RetryHeartbeatStaleTrialCallback()(study, study.trials[trial.number])
            raise
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("error", type(error).__name__)  # a message may quote a text
            raise
        finally:
            trial.set_user_attr("user_steps", int(sum(spent.values())))
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 2))

    return objective


def _index_of(trial: Trial) -> int:
    """How many of the trials before this one count: those that have ended, or are running."""
    counted = trials_of(trial.study, "COMPLETE", "PRUNED", "RUNNING")
    return sum(other.number < trial.number for other in counted)


def _drawn(trial: Trial, agent: str) -> dict[str, Any]:
    """The settings of a trial."""
    space = space_of(agent)
    if trial.user_attrs.get(DEFAULTS):
        for name in raw_defaults(agent):  # what has no known default is not said to be tried
            suggest(space[name], trial, name)
        return {}
    return nested(agent, {name: suggest(values, trial, name) for name, values in space.items()})
