"""Command line: the list of commands, fields of the environment, and mistakes told in one line."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

from experiments.cli import COMMANDS, MODULES, main
from experiments.env_fields import field_docs, given_fields, split_env_options
from experiments.runs.spec import task_config
from experiments.studies import benchmark
from llmrec_env.config import ConfigError, EnvConfig

SWITCH, CASE_STUDY = "llmrec/Switch-v1", "llmrec/CaseStudy-v1"


def test_the_list_of_commands_loads_no_framework():
    code = """
import sys
from experiments.cli import main
main(["--help"])
print({"torch", "numba", "tyro"} & {*sys.modules})
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, loaded = said.stdout.splitlines()
    assert loaded == "set()"
    for group, commands in COMMANDS.items():
        assert f"{group}:" in lines
        for name, (_, summary) in commands.items():
            assert any(line.split() == [name, *summary.split()] for line in lines)


@pytest.mark.parametrize("name", MODULES)
def test_every_command_tells_its_own_options_before_those_of_the_environment(name, capsys):
    function = importlib.import_module(f"experiments.{MODULES[name]}").run
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "options" in said
    assert said.count("--env.FIELD") == ("env" in inspect.signature(function).parameters)
    assert "--env.catalog" not in said


def test_the_fields_of_the_environment_are_listed_on_demand(capsys):
    assert main(["benchmark", "--help-env"]) == 0
    said = capsys.readouterr().out
    assert {*field_docs()} == {field.name for field in dataclasses.fields(EnvConfig)}
    for name, doc in field_docs().items():
        assert f"--env.{name.replace('_', '-')} " in said and doc in said


@pytest.mark.parametrize(
    ("task", "option", "field", "value"),
    [
        (SWITCH, "--env.switch-rate 0.03", "switch_rate", 0.03),
        (CASE_STUDY, "--env.num_users 4000", "num_users", 4000),
    ],
)
def test_a_field_that_is_given_overrides_the_task_even_at_its_default(
    task, option, field, value, monkeypatch
):
    specs = []
    monkeypatch.setattr(benchmark, "run_specs", lambda made, *_: specs.extend(made) or [])
    assert main(["benchmark", "--tasks", task, "--agents", "random", *option.split()]) == 0
    benchmark.run(tasks=(task,), agents=("random",), env={field: value})
    assert len(specs) == 4
    assert {getattr(task_config(spec.task, spec.env), field) for spec in specs} == {value}
    assert all(spec.env == {field: value} for spec in specs)


def test_values_are_those_of_the_fields():
    options = (
        "runs/ppo --env.off drift satiation --env.choice-null -1.5 --users 4 --env.num-items none"
    )
    fields, others = split_env_options(options.split())
    assert fields == {"off": ["drift", "satiation"], "choice_null": -1.5, "num_items": None}
    assert others == ["runs/ppo", "--users", "4"]
    for text, value in (("true", True), ("False", False), ("perhaps", "perhaps")):
        fields, _ = split_env_options(["--env.privileged-observation", text])
        assert fields == {"privileged_observation": value}
    assert split_env_options(["--env.dim=32", "--env.catalog", "video"])[0] == {
        "dim": 32,
        "catalog": "video",
    }
    assert given_fields({"off": ("drift",)}) == {"off": ["drift"]}
    with pytest.raises(ConfigError, match="Did you mean 'switch_rate'"):
        given_fields({"swich_rate": 0.1})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["benchmrk"], "Did you mean 'benchmark'"),
        (["report", "nowhere"], "nowhere"),
        (["benchmark", "--agents", "contnt"], "Did you mean 'content'"),
        (["benchmark", "--tasks", "llmrec/Drift-v9"], "Did you mean 'llmrec/Drift-v1'"),
        (["benchmark", "--env.swich-rate", "0.1"], "Did you mean 'switch_rate'"),
        (["benchmark", "--env.switch-rate"], "expected one argument"),
        (["benchmark", "--dry-run", "--env.switch-rate", "x"], "switch_rate='x' is not a number"),
        (["benchmark", "--dry-run", "--env.dim", "4.5"], "dim=4.5 is not an integer"),
    ],
)
def test_the_command_line_says_what_is_wrong(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            ImportError("tuning needs optuna; pip install llmrec-env[tune]."),
            1,
            "error: tuning needs",
        ),
        (KeyboardInterrupt(), 130, "--resume goes on"),
    ],
)
def test_an_ordinary_mistake_ends_without_a_traceback(error, status, said, capsys, monkeypatch):
    def failing(*_):
        raise error

    monkeypatch.setattr(benchmark, "run_specs", failing)
    assert main(["benchmark", "--agents", "random"]) == status
    assert said in capsys.readouterr().err


def test_compiling_is_announced_once_on_stderr():
    code = """
import numba
from experiments.cli import announce_compilation
announce_compilation()
announce_compilation()
double = numba.njit(lambda x: x + x)
double(1), double(1.0)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "" and said.stderr.count("compiling the simulator") == 1
