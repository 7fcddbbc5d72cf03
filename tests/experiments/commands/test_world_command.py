"""The command `world` makes a world of own tables: its options reach the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cli import main
from experiments.commands.world import pairs
from experiments.runs.spec import RunSpec, environment, task_config
from llmrec_env.config import ConfigError
from llmrec_env.saved_world import parameters_of


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [
        f"{i}|The {word} story of number {i}" for i in range(10) for word in ("sea", "sky", "fox")
    ]
    lines = ["id|body", *(f"{number}|{row.split('|')[1]}" for number, row in enumerate(rows))]
    (tmp_path / "items.csv").write_bytes("\n".join([*lines, "99|café"]).encode("cp1252"))
    logs = ["who\tid\tms\tact", *(f"u{k % 7}\t{k % 30}\t{k * 1000}\tview" for k in range(1, 60))]
    (tmp_path / "logs.tsv").write_text("\n".join(logs))
    monkeypatch.chdir(tmp_path)
    return tmp_path


OPTIONS = (
    "world --items items.csv --logs logs.tsv --output w --encoder hashing --encoding cp1252 "
    "--rename id=item body=text who=user act=event ms=timestamp --events view=click "
    "--time-unit ms"
).split()


def test_options_reach_the_tables_and_the_world_every_command(tables: Path, capsys):
    assert main(OPTIONS) == 0
    said = capsys.readouterr().out
    assert "items.csv: 31 items of 31 rows" in said and "logs.tsv: 59 of 59 records" in said
    fields = {"catalog": "w"}
    config = task_config("llmrec/Drift-v1", fields)
    assert (config.encoder, config.num_users) == ("hashing", 20)
    assert parameters_of("w").items() <= config.to_dict().items()
    spec = RunSpec("llmrec/Drift-v1", "content", 0, env=fields)
    from agents import make_agent

    env = environment(spec, make_agent("content", config), 2, "train")
    observation, _ = env.reset(seed=0)
    assert len(observation) and env.config.encoder == "hashing"
    assert main(OPTIONS) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([*OPTIONS, "--overwrite"]) == 0


def test_a_tab_can_be_written_on_the_command_line(tables: Path, capsys):
    (tables / "items.csv").write_text((tables / "items.csv").read_text("cp1252").replace("|", "\t"))
    assert main([*OPTIONS, "--encoding", "utf-8", "--delimiter", "tab"]) == 0
    assert "items.csv: 31 items" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("a",), ("=a",), ("a=",), ("a=b", "a=c")])
def test_pairs_that_are_none_are_refused(words: tuple[str, ...]):
    with pytest.raises(ConfigError, match=r"--rename '.*' is not THEIRS=OURS with a new name"):
        pairs("rename", words)
    assert pairs("rename", ("a=b=c", "d=e")) == {"a=b": "c", "d": "e"}
