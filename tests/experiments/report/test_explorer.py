import base64
import copy
import hashlib
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.report import page, run_results
from experiments.report.explorer import explorer_data
from experiments.report.page import run, write_report
from experiments.report.run_results import NoTextsError, Texts, read_sessions, texts_of
from experiments.store import ResultsError, write_sessions
from llmrec_env.world import World

Make = Callable[..., dict[str, Any]]
NASTY = "</script><script>alert(1)</script><!-- & \u2028 <img src=x onerror=alert(1)>"
ITEMS, PHRASES = np.random.default_rng(0).normal(size=(2, 600, 3)).astype(np.float32)
TEXTS = Texts(
    [f"item {i} {NASTY}" for i in range(600)], [f"phrase {i}" for i in range(9)], ITEMS, PHRASES[:9]
)


def embedded(page: str) -> str:
    blocks = re.findall(r'<script type="application/json" id="sessions">(.*?)</script>', page, re.S)
    assert len(blocks) == 1
    return blocks[0]


def with_sessions(folder: Path, *kept: dict[str, Any]) -> str:
    write_sessions(folder, kept)
    return write_report(folder).read_text()


def test_the_page_holds_the_texts_that_were_shown(
    folder: Path, kept_session: Make, world: World
) -> None:
    text = with_sessions(folder, kept_session("ppo"), kept_session("random", num_steps=2))
    data = json.loads(embedded(text))
    titles = world.catalog.titles or world.catalog.texts
    (task,) = data["tasks"]
    (user,) = task["users"]
    assert user["name"] == "user 9 of world 0"
    assert [session["agent"] for session in user["sessions"]] == ["ppo", "random"]
    _, slate, feedback, reward, patience, *_ = user["sessions"][0]["steps"][3]
    assert [data["titles"][i] for i in slate] == list(titles[15:20])
    assert (feedback, reward, patience) == ([-1, -1, 1, -1, -1], 0.25, 7.0)
    flat, *_, query, events, reasons, instruction = user["sessions"][0]["steps"][1]
    assert instruction == []
    named = [world.phrases.texts[0], world.phrases.texts[7]]
    assert [data["phrases"][i] for i in flat[::2]] == named
    assert flat[1::2] == [80, 20]  # shares of 1.0 and 0.25, in percent
    assert data["phrases"][query] == named[1]
    assert events == []
    ((slot, phrase, cosine),) = reasons  # item 5 was chosen, of two interests
    cosines = world.text.phrase_vectors[[0, 7]] @ world.text_vectors[5]
    nearest = int(np.argmax(cosines * [1.0, 0.25]))
    assert (slot, data["phrases"][phrase]) == (0, named[nearest])
    assert cosine == round(100 * float(cosines[nearest]))
    assert len(set(data["titles"])) == len(data["titles"]) == 40
    assert "streamgraph" in {path.stem.rsplit("-", 1)[1] for path in (folder / "figures").iterdir()}


def test_what_users_said_is_told(folder: Path, kept_session: Make, world: World) -> None:
    session = kept_session("ppo")
    session["steps"][2]["instruction"] = [0, 5, 1]
    session["steps"][3]["instruction"] = [2, -1, 0]
    data = json.loads(embedded(with_sessions(folder, session)))
    steps = data["tasks"][0]["users"][0]["sessions"][0]["steps"]
    wording, about = steps[2][-1]
    assert (wording, data["phrases"][about]) == ("show me more on {}", world.phrases.texts[5])
    assert steps[3][-1] == ["less clickbait", -1]
    assert steps[4][-1] == []


def test_texts_cannot_end_the_script_they_stand_in(
    folder: Path, kept_session: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "texts_of", lambda *_: TEXTS)
    text = with_sessions(folder, kept_session("ppo"))
    assert not re.search("[<>&\u2028]", embedded(text))
    assert json.loads(embedded(text))["titles"][3] == f"item 3 {NASTY}"
    assert text.count("<script") == 4  # two scripts, and what each reads


def test_only_the_two_scripts_may_run(folder: Path, kept_session: Make) -> None:
    text = with_sessions(folder, kept_session("ppo"))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    digests = [base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in scripts]
    policy = re.search(r'Security-Policy" content="([^"]*)"', text)
    assert policy
    assert len(digests) == 2
    allowed = "script-src " + " ".join(f"'sha256-{digest}'" for digest in digests)
    assert html.unescape(policy[1]).endswith(allowed)
    assert "unsafe-eval" not in policy[1]
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", "".join(scripts))
    assert "<noscript>" in text


def test_tasks_whose_texts_are_missing_say_why(folder: Path, kept_session: Make) -> None:
    text = with_sessions(folder, kept_session("ppo", label="<Task>", task="llmrec/Gone-v1"))
    assert "Sessions of &lt;Task&gt; are not shown: this version does not know the task" in text
    assert 'id="sessions"' not in text
    assert "Session by session" not in with_sessions(folder)


@pytest.fixture
def own_catalog(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    words = [f"secret{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]
    lines = [f"{word} {words[i // 2]},topic{i % 4}" for i, word in enumerate(words)]
    path.write_text("\n".join(["text,topic", *lines]) + "\n")
    return path


def test_texts_of_an_own_catalogue_are_shown_only_if_asked_for(
    folder: Path, kept_session: Make, own_catalog: Path
) -> None:
    session = kept_session("ppo")
    session["env"] |= {"catalog": str(own_catalog), "num_items": None}
    text = with_sessions(folder, session)
    assert "secret" not in text
    assert 'id="sessions"' not in text
    assert "the catalogue is your own" in text
    assert "report FOLDER --with-texts" in text
    assert not [*(folder / "figures").glob("*streamgraph*")]
    shown = run(folder, with_texts=True).read_text()
    assert "secreta" in embedded(shown)
    assert [*(folder / "figures").glob("*streamgraph*")]


def test_a_report_does_not_fail_for_want_of_texts(
    folder: Path, kept_session: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("somebody's text")

    monkeypatch.setattr(run_results, "load_text_space", fail)
    text = with_sessions(folder, kept_session("ppo"))
    assert "could not be loaded (RuntimeError)" in text
    assert "somebody" not in text


def test_unknown_tasks_settings_and_ids_are_told(kept_session: Make) -> None:
    for changes in ({"task": "llmrec/Gone-v1"}, {"env": {"gone": 1}}):
        with pytest.raises(NoTextsError, match="does not know the task or its settings"):
            texts_of([kept_session("ppo", **changes)])
    with pytest.raises(NoTextsError, match="lacks some ids"):
        texts_of([kept_session("ppo", first_item=580)])


@pytest.mark.parametrize(
    ("session", "step"),
    [
        ({"user": None}, {}),
        ({"steps": []}, {}),
        ({}, {"reward": "<b>"}),
        ({}, {"choice": 5}),
        ({}, {"feedback": [1, 0]}),
        ({}, {"feedback": ["1"] * 5}),
        ({}, {"slate": ["1"]}),
        ({}, {"interests": [[1]]}),
        ({}, {"events": [["died", "x"]]}),
    ],
)
def test_sessions_that_lack_something_are_named(
    tmp_path: Path, kept_session: Make, session: dict[str, Any], step: dict[str, Any]
) -> None:
    good = kept_session("ppo")
    bad = copy.deepcopy(good)
    bad["steps"][4] |= step
    write_sessions(tmp_path, [good, bad | session])
    with pytest.raises(ResultsError, match=r"sessions.json: .*session 1 lacks something"):
        read_sessions(tmp_path)


def test_torn_files_are_named_and_old_folders_have_none(tmp_path: Path, kept_session: Make) -> None:
    assert read_sessions(tmp_path) == []
    path = write_sessions(tmp_path, [kept_session("ppo")])
    assert len(read_sessions(tmp_path)) == 1
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ResultsError, match=r"sessions.json: torn"):
        read_sessions(tmp_path)
    path.write_text("{}\n")
    with pytest.raises(ResultsError, match="must hold one JSON list"):
        read_sessions(tmp_path)


def test_a_step_takes_little_room(kept_session: Make) -> None:
    kept = [kept_session(agent, num_steps=100) for agent in ("a", "b", "c")]
    data = explorer_data(kept, {"Task-v0": TEXTS}, {}).data
    assert data
    steps = json.dumps(data["tasks"], separators=(",", ":"))
    assert len(steps) / 300 < 110  # bytes
    assert len(data["titles"]) == 500  # of three sessions that show the same items
