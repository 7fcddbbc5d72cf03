"""Report of a run as one HTML page: what was run, who won and by how much, and how to run it again.

The page holds everything it shows and asks nothing of any server: its security policy tells the
browser to load nothing, and to run nothing but the choice of a baseline and the session explorer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from agents.registry import is_oracle
from experiments.report.baselines import HEAD, PREFERRED, improvements_over_each, with_baseline
from experiments.report.explorer import explorer_data
from experiments.report.figures import write_figures
from experiments.report.result_tables import (
    METRICS,
    leaderboard_tables,
    metrics_table,
    worlds_table,
)
from experiments.report.run_results import (
    NoTextsError,
    RunResults,
    Session,
    Texts,
    read_results,
    texts_of,
)
from experiments.report.terms import TERMS, described, meaning_of
from experiments.report.text_tables import latex, markdown, number
from experiments.store import REPORT, Row, read_table, write_file

_FOLDER = Path(__file__).with_name("templates")
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals |= {"terms": TERMS, "meaning_of": meaning_of}
_TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}


def run(folder: Path, /, with_texts: bool = False) -> Path:
    """Writes `report.html`, `figures/` and `leaderboard.tex` and `.md` into a results folder.

    Args:
        folder: what `benchmark --output` wrote.
        with_texts: show texts of your own catalogue too, in the page and in a figure. Texts of
            bundled catalogues are shown anyway: their users are synthetic.
    """
    path = write_report(folder, with_texts)
    tables = leaderboard_tables(read_table(folder, Row))
    for name, text in (("tex", latex(*tables)), ("md", markdown(*tables))):
        write_file(folder / f"leaderboard.{name}", text.encode())
    print(f"open {path} in a browser")
    return path


def write_report(folder: str | os.PathLike[str], with_texts: bool = False) -> Path:
    """Writes `report.html`, and the figures for papers into `figures/`; returns the page's path.

    Args:
        folder: holds episodes, curves, leaderboard and manifest; the other files are optional.
        with_texts: also show the texts of a catalogue that is not bundled.

    Raises:
        ResultsError: a file is missing or torn, or they do not belong together; it names the file.
    """
    results = read_results(Path(folder))
    texts, missing = _texts(results.sessions, with_texts)
    paths = write_figures(results, texts)
    scripts = {"baselines": _read("baselines.js"), "explorer": _read("explorer.js")}
    tasks = [_task(results.of_task(task), task, paths) for task in results.tasks]
    page = _TEMPLATES.get_template("page.html").render(
        results=results,
        tasks=tasks,
        improvements={task["name"]: task["improvements"] for task in tasks},
        notations=METRICS,
        described=described(results.agents),
        explorer=explorer_data(results.sessions, texts, missing),
        command=_command(results.manifest),
        manifest=json.dumps(results.manifest, indent=2, ensure_ascii=False),
        style=_read("report.css") + _read("explorer.css"),
        scripts=scripts,
        policy=_policy(scripts.values()),
    )
    return write_file(results.folder / REPORT, page.encode())


def _read(name: str) -> Markup:
    """A file of ours, which goes into the page as it is."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def _policy(scripts: Iterable[str]) -> str:
    """The content security policy: nothing is loaded, and these scripts alone may run."""
    digests = (base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in scripts)
    allowed = ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:")
    return "; ".join((*allowed, " ".join(("script-src", *(f"'sha256-{x}'" for x in digests)))))


def _texts(
    sessions: Sequence[Session], with_texts: bool
) -> tuple[dict[str, Texts], dict[str, str]]:
    """The texts by task, and for other tasks why there are none."""
    texts, missing = {}, {}
    for task in dict.fromkeys(session["label"] for session in sessions):
        try:
            texts[task] = texts_of([x for x in sessions if x["label"] == task], with_texts)
        except NoTextsError as error:
            missing[task] = str(error)
    return texts, missing


def _task(results: RunResults, task: str, paths: Mapping[tuple[str, str], Path]) -> dict[str, Any]:
    """What `task.html` and `headline.html` show of a task."""
    by_agent = {row.agent: row for row in results.rows}
    public = [row for row in results.rows if not is_oracle(row.agent)]
    best = max(public or results.rows, key=lambda row: row.mean)
    figures = {name: _figure(name, path) for (own, name), path in paths.items() if own == task}
    improvements = improvements_over_each(results.episodes)
    baseline = PREFERRED if PREFERRED in improvements else next(iter(improvements))
    table = leaderboard_tables(results.rows, full=True)[0]
    return {
        "name": task,
        "best": best,
        "best_return": number(best.mean, best.ci_low, best.ci_high).text,
        "planning": by_agent.get("oracle-planning"),
        "leaderboard": with_baseline(table, baseline, improvements[baseline]),
        "improvements": improvements,
        "baseline": baseline,
        "baseline_head": HEAD,
        "worlds": worlds_table([*by_agent], results.worlds),
        "metrics": metrics_table([*by_agent], results.metrics),
        "streamgraph": figures.pop("streamgraph", None),
        "figures": [*figures.values()],
    }


def _figure(name: str, svg: Path) -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(_shortened(svg.read_bytes())).decode()}


def _shortened(svg: bytes) -> bytes:
    """The same picture at half the size: tenths of a point, no comments, short names of letters."""
    svg = re.sub(rb"<!--.*?-->|<metadata>.*?</metadata>", b"", svg, flags=re.DOTALL)
    svg = re.sub(rb"\n\s*", b"\n", svg).replace(b"DejaVuSans-", b"d")
    coordinates = re.compile(rb' d="[^"]*"|translate\([^)]*\)')  # not scales, which are small
    svg = coordinates.sub(lambda match: re.sub(rb"(\.\d)\d+", rb"\1", match.group()), svg)
    return re.sub(rb'(<use [^>]*) transform="translate\(([\d.]+) 0\)"', rb'\1 x="\2"', svg)


def _command(manifest: Mapping[str, Any]) -> str:
    words = [str(word) for word in manifest.get("command") or ["python -m experiments benchmark"]]
    if words[0].endswith("__main__.py"):
        words = ["python", "-m", "experiments", *words[1:]]
    return shlex.join(words)
