"""Pages of the site that are made: one a task, one a section of agents, the reference, notebooks.

What a page says that code or results know is taken from there: `llmrec_env.TASKS`, the docstring of
`RecEnv`, `agents/registry.py`, `results/` and the tables of `docs/results/`. What is to be thought
about a task or an agent is written in `docs/tasks.md` and `docs/agents.md`, section by section.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from agent_settings import settings_of

import llmrec_env
from agents import AGENTS
from experiments import store
from experiments.env_fields import field_docs
from experiments.report.document_tables import BASELINE, against_baseline
from experiments.report.text_tables import Cell, Table, markdown, number, percent
from experiments.store import Row
from llmrec_env.config import EnvConfig
from llmrec_env.envs.single import RecEnv
from llmrec_env.envs.spaces import added_length, instruction_length

ROOT = Path(__file__).parents[2]
LADDERS = {
    "llmrec/Switch-v1": ("ladder", "## `video`, Switch"),
    "llmrec/Cascade-v1": ("ladder", "# Cascade"),
    "llmrec/CaseStudy-v1": ("ladder", "## `video`, CaseStudy"),
    "llmrec/MovieLensCalibrated-v1": ("calibration", ""),
} | {
    f"llmrec/{name}-v1": ("domains", f"### `{name}`")
    for name in ("Ecommerce", "News", "Social", "Support", "Finance")
}
"""Page of results, and heading above the first table of a task that `results/` lacks."""
REFERENCE = {
    "Environments": ["llmrec_env.envs.single.RecEnv", "llmrec_env.envs.vector.RecVectorEnv"],
    "Settings": ["llmrec_env.config.EnvConfig"],
    "Texts": ["llmrec_env.content.catalog.Catalog", "llmrec_env.content.encoders"],
    "Data": ["llmrec_env.world.PublicData", "llmrec_env.datasets"],
    "Metrics": ["llmrec_env.metrics"],
    "Stable-Baselines3": ["llmrec_env.sb3"],
    "Agents": ["agents.base", "agents.registry", "agents.rollout", "agents.checkpoint"],
    "Experiments": ["experiments.studies.benchmark", "experiments.commands.train"],
}
"""Objects of each page of the reference."""


class Page(NamedTuple):
    """A page of the site."""

    title: str
    source: str
    """Where its links are written from, in the repository."""
    text: str


def sections_of(page: str) -> dict[str, str]:
    """Returns the sections of a page by their headings of the second level."""
    parts = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    return {title: body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


# --- tasks


def task_pages(root: Path = ROOT) -> dict[str, Page]:
    """Returns a page for each task, by its path in the site."""
    prose = sections_of((root / "docs/tasks.md").read_text("utf-8"))
    pages = {}
    for task in llmrec_env.TASKS:
        text = "\n\n".join([f"# {task}", prose[task], *_task_parts(task, root)])
        name = task.removeprefix("llmrec/")
        pages[task_path(task)] = Page(name, "docs/tasks.md", text + "\n")
    return pages


def task_path(task: str) -> str:
    """Returns where the site has the page of a task."""
    return f"tasks/{task.removeprefix('llmrec/').lower()}.md"


def _task_parts(task: str, root: Path) -> Iterable[str]:
    doc = sections_of(inspect.cleandoc(RecEnv.__doc__ or ""))
    yield f'```python\ngymnasium.make("{task}")\n```'
    yield _spaces(task)
    for title in ("Description", "Action space", "Observation space"):
        yield f"## {title}\n\n{doc[title]}"
    for title in ("Rewards", "Starting state", "Episode end"):
        yield f"## {title}\n\n{doc[title]}"
    yield f"## Arguments\n\n{doc['Arguments']} This task sets:\n\n{_differences(task)}"
    yield f"## Baselines\n\n{_baselines(task, root)}"
    yield f"## Version history\n\n{doc['Version history']}"


def _spaces(task: str) -> str:
    config = EnvConfig.from_kwargs(llmrec_env.TASKS[task])
    rows = [
        ["Action space", f"`{action_space(config)}`"],
        ["Observation space", f"`Box(-1.001, 1.001, ({observation_size(config)},), float32)`"],
        [
            "Reward",
            "0 and more, 1 about the best of a step; summed over a session it is the return",
        ],
        ["Steps of a session", f"at most {config.horizon}"],
    ]
    return markdown(Table(["of a task", "here"], rows, labels=2)).strip()


def action_space(config: EnvConfig) -> str:
    """Returns the action space in words, without building a world."""
    if config.action == "slate":
        return f"MultiDiscrete([{config.candidates}] * {config.slate_size})"
    if config.action == "item":
        return f"Discrete({config.candidates})"
    return {"weights": "Box(-1, 1, (8,), float32)", "recipe": "Discrete(32)"}[config.action]


def observation_size(config: EnvConfig) -> int:
    """Returns the length of a `vector` observation, without building a world."""
    picks = config.action in ("slate", "item")
    size = 6 * config.observation_dim + 10 + 8 * config.candidates * picks
    return size + added_length(config) + instruction_length(config)


def _differences(task: str) -> str:
    docs, plain = field_docs(), EnvConfig()
    rows = [
        [f"`{name}`", f"`{value}`", f"`{getattr(plain, name)}`", " ".join(docs[name].split())]
        for name, value in llmrec_env.TASKS[task].items()
    ]
    if not rows:
        return "nothing: it is the defaults."
    return markdown(Table(["argument", "here", "default", "what it is"], rows, labels=4)).strip()


def _baselines(task: str, root: Path) -> str:
    folder = root / "results/standard"
    if any(row.task == task for row in store.read_table(folder, Row)):
        how = "the standard leaderboard ([how it was run](results/leaderboard.md))"
        return f"From {how}:\n\n{against_baseline(folder, task).strip()}"
    if task in LADDERS:
        page, heading = LADDERS[task]
        text = (root / f"docs/results/{page}.md").read_text("utf-8")
        if table := _first_table(text, heading):
            return f"From [{page}](results/{page}.md), where the command is:\n\n{table}"
    return (
        "No table has been measured; this makes one:\n\n"
        f"```sh\npython -m experiments benchmark --tasks {task} --output runs/mine\n```"
    )


def _first_table(text: str, heading: str) -> str:
    after = text[text.index(heading) :]
    match = re.search(r"^\| agent .*\n(?:\|.*\n)+", after, re.MULTILINE)
    return match[0].strip() if match else ""


# --- agents


def agent_pages(root: Path = ROOT) -> dict[str, Page]:
    """Returns a page for each section of `docs/agents.md`, by its path in the site."""
    pages = {}
    for title, prose in sections_of((root / "docs/agents.md").read_text("utf-8")).items():
        parts = [f"# {title}", prose]
        for name in title.split(", "):
            parts += [f"## Settings of `{name}`", _settings(name, root)]
        parts += ["## Results", _returns(title.split(", "), root)]
        pages[agent_path(title)] = Page(title, "docs/agents.md", "\n\n".join(parts) + "\n")
    return pages


def agent_path(title: str) -> str:
    """Returns where the site has the page of a section of agents."""
    return f"agents/{title.partition(',')[0]}.md"


def _settings(name: str, root: Path) -> str:
    rows = [
        [f"`{x.name}`", f"`{x.value}`" if x.value else "", x.searched, x.meaning]
        for x in settings_of(name, root)
    ]
    spec = AGENTS[name]
    learns = {"none": "from nothing", "logs": "from logs", "online": "by environment steps"}
    said = f"It learns {learns[spec.learns]}; the class is `{spec.factory}`."
    if not rows:
        return f"{said} It has no settings."
    columns = ["setting", "default", "searched", "what it is"]
    return f"{said}\n\n{markdown(Table(columns, rows, labels=4)).strip()}"


def _returns(names: list[str], root: Path) -> str:
    rows: list[list[Cell | str]] = []
    for folder in ("standard", "algorithms"):
        table = store.read_table(root / "results" / folder, Row)
        means = {row.task: row.mean for row in table if row.agent == BASELINE}
        rows += [
            [
                row.agent,
                row.task,
                number(row.mean, row.ci_low, row.ci_high),
                percent(row.mean / means[row.task] - 1.0, signed=True),
                number(row.train_steps, decimals=0),
                f"`results/{folder}`",
            ]
            for row in table
            if row.agent in names
        ]
    if not rows:
        return "In no folder of `results/`; pages of [results](RESULTS.md) may have it."
    columns = ["agent", "task", "return [95 %]", f"over {BASELINE}", "training steps", "from"]
    note = "Tasks `-v0` are of an earlier version, whose figures do not compare."
    return f"{markdown(Table(columns, rows, labels=2)).strip()}\n\n{note}"


# --- reference and notebooks


def reference_pages() -> dict[str, Page]:
    """Returns the pages of the API reference, which mkdocstrings fills in."""
    return {
        f"reference/{name.lower()}.md": Page(
            name,
            f"docs/reference/{name.lower()}.md",
            f"# {name}\n\n" + "\n".join(f"::: {x}" for x in objects) + "\n",
        )
        for name, objects in REFERENCE.items()
    }


def notebook_pages(root: Path = ROOT) -> dict[str, Page]:
    """Returns the notebooks as pages: their texts, and their code as code."""
    pages = {}
    for path in sorted((root / "docs/notebooks").glob("*.py")):
        text = notebook_text(path.read_text("utf-8"))
        title = text.partition("\n")[0].removeprefix("# ")
        pages[f"notebooks/{path.stem}.md"] = Page(title, f"docs/notebooks/{path.name}", text)
    return pages


def notebook_text(source: str) -> str:
    """Returns a notebook of `# %%` cells as Markdown."""
    _, *cells = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)
    parts = []
    for kind, body in zip(cells[::2], cells[1::2], strict=True):
        if "markdown" in kind:
            parts.append(re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip())
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"
