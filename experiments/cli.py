"""Command line of the experiments: `python -m experiments COMMAND`."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from typing import Any

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "train and use": {
        "world": ("commands.world", "make a world of your own items and logs"),
        "train": ("commands.train", "train one agent and save it"),
        "train-response-model": (
            "commands.train_response_model",
            "fine-tune an encoder as the user of response=llm",
        ),
        "evaluate": ("commands.evaluate", "play a saved agent with test users, beside others"),
        "watch": ("commands.watch", "watch an agent with one user, as text or as a video"),
        "explain": ("commands.explain", "which texts of the past moved what an agent shows"),
        "tune": ("tuning.tune", "search an agent's settings on validation users"),
    },
    "compare": {
        "benchmark": ("studies.benchmark", "train and compare agents on tasks"),
        "report": ("report.page", "page, figures and tables of a results folder"),
        "improvement": ("studies.improvement", "relative improvements between agents of a folder"),
        "ladder": ("studies.ladder", "do policies separate? two catalogues"),
        "case-study": ("studies.case_study", "10,000 users, 20,000 items, from texts to a report"),
        "offline-logs": (
            "studies.offline.evaluation",
            "recommenders on real logs, held out by time",
        ),
    },
    "study": {
        "ablation": ("studies.ablation", "mechanisms, encoder and observation, part by part"),
        "sensitivity": ("studies.sensitivity", "one parameter of the dynamics and the ranking"),
        "transfer": ("studies.transfer", "agents trained in one world and judged in another"),
        "learning-curves": ("studies.learning_curves", "return against steps of training"),
        "lookahead": ("studies.lookahead", "what valuing the future is worth, task by task"),
        "joint-ablation": ("studies.joint_ablation", "the joint recommender taken apart"),
        "language": ("studies.language", "does it pay to train the encoder of the texts?"),
        "taste": ("studies.taste", "what taste is worth, and what can be known of it"),
        "channels": ("studies.channels", "what item vectors are worth beside the texts"),
        "response-model": (
            "studies.response_models",
            "a language model as the user, beside the built-in response",
        ),
        "faithfulness": ("studies.faithfulness", "do explanations name what moves a score?"),
        "off-policy": (
            "studies.off_policy.evaluation",
            "policies judged from logs of another, and the truth",
        ),
        "calibrate": ("studies.calibrate", "fit the simulator to timestamped logs"),
        "satisfaction": (
            "studies.satisfaction_classifier",
            "classifier of satisfaction on texts",
        ),
    },
    "inspect": {
        "validity": ("studies.validity", "how to judge the simulator, on one page"),
        "geometry": ("studies.geometry", "what the encoder makes of the texts"),
        "throughput": ("studies.throughput", "environment steps a second"),
        "tables": ("report.document_tables", "rewrite the tables of README and docs"),
        "encode-catalogue": ("commands.encode_catalogue", "encode the bundled texts anew"),
    },
}
"""Module of `experiments` with a `run(...)`, and what it does, by command and group."""
MODULES = {name: row[0] for group in COMMANDS.values() for name, row in group.items()}
_ENV_HELP = """
environment: --env.FIELD VALUE overrides a field of the task, as --env.switch-rate 0.1
             or --env.off drift satiation; --help-env lists all of them
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the first argument names, and returns the exit status."""
    name, *options = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("", "-h", "--help"):
        print(command_list())
        return 0 if name else 2
    name = name.replace("_", "-")
    if name not in MODULES:
        from llmrec_env.config import unknown

        print(f"error: {unknown('command', name, list(MODULES))}", file=sys.stderr)
        return 2
    try:
        run_command(name, options)
    except KeyboardInterrupt as stop:
        text = "interrupted; runs that were done are kept, --resume goes on."
        print(str(stop) or text, file=sys.stderr)
        return 130
    except Exception as error:
        from llmrec_env.content.encoders import EncoderError

        known = ValueError | TypeError | OSError | ImportError | EncoderError | FloatingPointError
        if not isinstance(error, known):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def command_list() -> str:
    """Returns every command with one line, group by group."""
    lines = ["usage: python -m experiments COMMAND [OPTIONS]; COMMAND --help tells its options"]
    for group, commands in COMMANDS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {name:16} {summary}" for name, (_, summary) in commands.items()]
    return "\n".join(lines)


def run_command(name: str, options: list[str]) -> Any:
    """Runs `run(...)` of a command's module with what the options say, and returns its result.

    Raises:
        ConfigError: an option names an unknown field of the environment.
        SystemExit: help was asked for, or the options are wrong.
    """
    import tyro

    from experiments import env_fields

    function = importlib.import_module(f"experiments.{MODULES[name]}").run
    takes_env = "env" in inspect.signature(function).parameters
    if takes_env and "--help-env" in options:
        print(env_fields.help_text())
        return None
    if takes_env:
        fields, options = env_fields.split_env_options(options)
        function = functools.partial(function, env=fields)
    announce_compilation()
    try:
        return tyro.cli(function, args=options, prog=f"python -m experiments {name}")
    except SystemExit:
        if takes_env and {"-h", "--help"} & {*options}:
            print(_ENV_HELP)
        raise


@functools.cache
def announce_compilation() -> None:
    """Says on stderr when something is compiled, which takes a minute at the first use."""
    from numba.core import event

    class Announcement(event.Listener):
        made = False

        def on_start(self, event: Any) -> None:
            if not self.made:
                self.made = True
                text = "compiling the simulator, about a minute at the first use ..."
                print(text, file=sys.stderr, flush=True)

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Announcement())
