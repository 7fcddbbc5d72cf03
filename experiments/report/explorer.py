"""Sessions of a report that a reader steps through: two agents with the same user and luck.

The page holds ids and each text once; `explorer.js` puts them together and writes them as text,
never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.report.sessions import Session, Texts, phrases_in

_HERE = Path(__file__).parent
STYLE = (_HERE / "explorer.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "explorer.js").read_text(encoding="utf-8")
SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
"""What a content security policy allows; nothing else may run in the page."""

_ABOUT = (
    "Two agents meet the same user with the same luck; what differs is what they show. Watch what "
    "an agent shows after an interest has been replaced, how long it takes to follow, and what "
    "that costs in patience. Move with the buttons, the slider or the arrow keys."
)
_FORM = """<div id="explorer" hidden>
<div class="controls">
<label>Task <select id="task"></select></label>
<label>User <select id="user"></select></label>
<label>First agent <select id="first"></select></label>
<label>Second agent <select id="second"></select></label>
</div>
<div class="stepper">
<button type="button" id="previous">Previous step</button>
<input type="range" id="step" min="1" value="1" aria-label="Step of the session">
<button type="button" id="next">Next step</button>
<output id="place" for="step"></output>
</div>
<svg id="spark" viewBox="0 0 100 30" preserveAspectRatio="none" role="img"></svg>
<p id="legend"></p>
<p id="said" class="unseen" aria-live="polite"></p>
<div class="pair"><article id="panel-first"></article><article id="panel-second"></article></div>
</div>
"""


def explorer(
    sessions: Sequence[Session], texts: Mapping[str, Texts], missing: Mapping[str, str]
) -> str:
    """Returns the part of the page, or nothing where no session was kept.

    Args:
        sessions: of all tasks.
        texts: of tasks whose sessions are shown.
        missing: why the sessions of other tasks are not.
    """
    notes = "".join(
        f'<p class="note">Sessions of {html.escape(task)} are not shown: {html.escape(why)}.</p>\n'
        for task, why in missing.items()
    )
    shown = [session for session in sessions if session["label"] in texts]
    if not shown:
        return f"<h2>Session by session</h2>\n{notes}" if notes else ""
    data = json.dumps(data_of(shown, texts), ensure_ascii=False, separators=(",", ":"))
    return (
        '<section aria-labelledby="explorer-title">\n'
        f'<h2 id="explorer-title">Session by session</h2>\n<p>{_ABOUT}</p>\n{notes}'
        '<noscript><p class="note">Stepping through sessions needs JavaScript; everything else on '
        f"this page does not.</p></noscript>\n{_FORM}"
        # No "<" of a text can end the element or begin a comment.
        f'<script type="application/json" id="sessions">{_escaped(data)}</script>\n'
        f"<script>{_SCRIPT}</script>\n</section>\n"
    )


def data_of(sessions: Iterable[Session], texts: Mapping[str, Texts]) -> dict[str, Any]:
    """Returns what `explorer.js` reads: sessions by task and user, and each text once."""
    titles, phrases = _Table(), _Table()
    tasks: dict[str, dict[str, list[dict[str, Any]]]] = {}
    patience, goodwill = 1.0, 0.01
    for session in sessions:
        own, task = texts[session["label"]], tasks.setdefault(session["label"], {})
        steps = session["steps"]
        named = phrases.places(own.phrases, (id for step in steps for id in phrases_in(step)))
        shown = titles.places(own.items, (id for step in steps for id in step["slate"]))
        packed = [_packed(step, shown, named) for step in steps]
        name = f"user {session['user']} of world {session['world']}"
        about = {"agent": session["agent"], "seed": session["seed"]}
        about |= {"survived": session["survived"], "steps": packed}
        task.setdefault(name, []).append(about)
        patience = max(patience, *(step["patience"] for step in steps))
        goodwill = max(goodwill, *(abs(step["goodwill"]) for step in steps))
    return {
        "titles": titles.texts,
        "phrases": phrases.texts,
        "patience": patience,
        "goodwill": goodwill,
        "tasks": [
            {"name": task, "users": [{"name": name, "sessions": x} for name, x in users.items()]}
            for task, users in tasks.items()
        ],
    }


class _Table:
    """Texts in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def places(self, texts: Sequence[str], ids: Iterable[int]) -> dict[int, int]:
        """Returns where the text of each id stands."""
        found = {}
        for id in ids:
            found[id] = self._places.setdefault(texts[id], len(self.texts))
            if found[id] == len(self.texts):
                self.texts.append(texts[id])
        return found


def _packed(
    step: Mapping[str, Any], shown: Mapping[int, int], named: Mapping[int, int]
) -> list[Any]:
    """A step as a short list; the order is that of `read` in `explorer.js`."""
    total = sum(weight for _, weight in step["interests"]) or 1.0
    shares = [(named[id], round(100 * weight / total)) for id, weight in step["interests"]]
    return [
        [number for pair in shares for number in pair],
        [shown[id] for id in step["slate"]],
        step["choice"],
        step["satisfied"],
        round(step["reward"], 3),
        round(step["patience"], 2),
        round(step["goodwill"], 2),
        None if step["tracking_error"] is None else round(step["tracking_error"]),
        named.get(step["query"], -1),
        [[kind, *(named[id] for id in ids)] for kind, *ids in step["events"]],
    ]


def _escaped(data: str) -> str:
    for letter in "<>&\u2028\u2029":
        data = data.replace(letter, f"\\u{ord(letter):04x}")
    return data
