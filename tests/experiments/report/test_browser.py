"""The report in a real browser: what a reader clicks does what it says, without any request."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.report.page import write_report
from experiments.store import Episode, Metric, read_table, write_sessions, write_table
from llmrec_env.world import World

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is missing; pip install selenium"
)
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

PHONE = (390, 844)
NASTY = "</script><img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium or chromedriver is missing; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # Root may not use the sandbox, and containers have little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driven = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield driven
    driven.quit()


def emulate(browser: Any, width: int, height: int, dark: bool = False, script: bool = True) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory,
    fill_folder: Callable[[Path], Path],
    kept_session: Callable[..., dict[str, Any]],
) -> Path:
    """The report of sessions of two users and tasks; they last from 4 to 8 steps."""
    folder = fill_folder(tmp_path_factory.mktemp("run"))
    kept = [
        kept_session("drift-aware", num_steps=4),
        kept_session("ppo", num_steps=8, first_item=100),
        kept_session("oracle-planning", num_steps=6, first_item=200, survived=True),
        kept_session("drift-aware", user=19, first_item=300),
        kept_session("ppo", user=19, first_item=400),
        kept_session("ppo", first_item=500, label="Other-v0"),
    ]
    write_sessions(folder, kept)
    metrics = [Metric("Task-v0", "ppo", f"metric {i}", 0.5, 0.25, 0.75) for i in range(20)]
    write_table(folder, Metric, metrics)
    return write_report(folder)


@pytest.fixture
def page(browser: Any, report: Path) -> Any:
    """The browser with the report open, on a desk and by day."""
    emulate(browser, 1200, 900)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(report.as_uri())
    return browser


def requests(browser: Any) -> list[str]:
    """What the page asked for, but for itself and the data in it."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in events
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.endswith("report.html") for url in urls)  # requests are seen at all
    return [url for url in urls if not url.startswith("data:") and "report.html" not in url]


def slate(browser: Any, side: str) -> list[str]:
    """The titles in a panel without the mark of the chosen one."""
    items = browser.find_elements(By.CSS_SELECTOR, f"#panel-{side} .slate li")
    return [item.text.split(" ✓")[0].split(" ✗")[0].split("\n")[0] for item in items]


def text_of(browser: Any, name: str) -> str:
    return browser.find_element(By.ID, name).get_attribute("textContent")


def choose(browser: Any, name: str, value: str) -> None:
    Select(browser.find_element(By.ID, name)).select_by_visible_text(value)


def test_stepping_shows_the_slates_of_the_data(page: Any, world: World) -> None:
    titles = world.catalog.titles or world.catalog.texts
    assert text_of(page, "position") == "step 1 of 8"
    assert slate(page, "first") == list(titles[0:5])
    assert slate(page, "second") == list(titles[100:105])
    page.find_element(By.ID, "next").click()
    assert text_of(page, "position") == "step 2 of 8"
    assert slate(page, "first") == list(titles[5:10])
    assert slate(page, "second") == list(titles[105:110])
    page.find_element(By.ID, "previous").click()
    assert slate(page, "first") == list(titles[0:5])
    assert not page.find_element(By.ID, "previous").is_enabled()


def test_what_the_user_did_is_said_in_words(page: Any, world: World) -> None:
    assert "Nothing chosen." in text_of(page, "panel-first")
    page.find_element(By.ID, "next").click()
    chosen = page.find_element(By.CSS_SELECTOR, "#panel-first .slate .good")
    assert chosen.text.startswith((world.catalog.titles or world.catalog.texts)[5])
    assert "chosen, satisfied" in chosen.text
    panel = text_of(page, "panel-first")
    assert "Chosen and satisfied." in panel
    assert "Return 0.25, of which 0.25 in this step" in panel
    assert "the agent believes 21° off, the history says 41° off" in panel
    assert f"Typed: “{world.phrases.texts[7]}”" in panel
    page.find_element(By.ID, "next").click()
    assert "Chosen, but not satisfied." in text_of(page, "panel-first")
    assert f"No longer into: {world.phrases.texts[7]}" in text_of(page, "panel-first")
    assert f"Now into: {world.phrases.texts[8]}" in text_of(page, "panel-first")
    said = text_of(page, "said")
    assert said.startswith("Step 3. drift-aware: Chosen, but not satisfied. Return 0.25.")
    assert page.find_element(By.ID, "said").get_attribute("aria-live") == "polite"


def test_another_agent_and_another_user_are_shown(page: Any, world: World) -> None:
    titles = world.catalog.titles or world.catalog.texts
    choose(page, "second", "oracle-planning")
    assert slate(page, "second") == list(titles[200:205])
    assert text_of(page, "position") == "step 1 of 6"
    choose(page, "second", "ppo")
    choose(page, "user", "user 19 of world 0")
    assert slate(page, "first") == list(titles[300:305])
    assert slate(page, "second") == list(titles[400:405])
    choose(page, "task", "Other-v0")
    assert slate(page, "first") == slate(page, "second") == list(titles[500:505])
    choose(page, "task", "Task-v0")
    assert slate(page, "second") == list(titles[100:105])


def test_a_session_that_has_ended_says_so(page: Any) -> None:
    choose(page, "second", "oracle-planning")
    for _ in range(4):
        page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    words = "The session has ended: the user left after step 4, with a return of 0.50."
    assert words in text_of(page, "panel-first")
    assert "Return 0.50" in text_of(page, "panel-second")
    assert "oracle-planning stayed to the end, step 6" in text_of(page, "legend")
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_LEFT)
    assert "ended" not in text_of(page, "panel-first")


def test_the_next_switch_is_a_click_away_and_marked(page: Any) -> None:
    assert len(page.find_elements(By.CSS_SELECTOR, "#spark .switch")) == 1
    page.find_element(By.ID, "jump").click()
    assert text_of(page, "position") == "step 3 of 8"
    assert not page.find_element(By.ID, "jump").is_enabled()


def test_a_text_is_found_in_the_steps_of_either_session(page: Any, world: World) -> None:
    page.find_element(By.ID, "find").send_keys(world.phrases.texts[8].upper(), Keys.ENTER)
    assert text_of(page, "position") == "step 3 of 8"  # its first word of it: then it is born
    assert text_of(page, "matches") == "in 6 of 8 steps"
    page.find_element(By.ID, "find-next").click()
    assert text_of(page, "position") == "step 4 of 8"
    page.find_element(By.ID, "find").clear()
    page.find_element(By.ID, "find").send_keys("nowhere to be read", Keys.ENTER)
    assert text_of(page, "matches") == "in no step"
    assert text_of(page, "position") == "step 4 of 8"


def test_what_was_chosen_says_which_interest_it_is_nearest_to(page: Any, world: World) -> None:
    page.find_element(By.ID, "next").click()
    why = page.find_element(By.CSS_SELECTOR, "#panel-first .slate .good .why").text
    cosines = world.text.phrase_vectors[[0, 7]] @ world.text_vectors[5]
    nearest = int(np.argmax(cosines * [1.0, 0.25]))
    text = world.phrases.texts[[0, 7][nearest]]
    assert why == f"nearest interest: {text}, cosine {cosines[nearest]:.2f}"


def test_the_reader_chooses_the_baseline(page: Any, report: Path) -> None:
    selector = "#leaderboard-1 tbody tr"
    heads = [x.text for x in page.find_elements(By.CSS_SELECTOR, "#leaderboard-1 thead th")]
    first = Select(page.find_element(By.ID, "baseline-1")).first_selected_option.text
    column = heads.index(f"improvement over {first} [95 %]")
    choose(page, "baseline-1", "random")
    heads = [x.text for x in page.find_elements(By.CSS_SELECTOR, "#leaderboard-1 thead th")]
    assert heads[column] == "improvement over random [95 %]"
    sessions = read_table(report.parent, Episode)
    returns = {
        agent: np.mean([x.ret for x in sessions if x.task == "Task-v0" and x.agent == agent])
        for agent in ("random", "ppo")
    }
    shown = {
        row.find_element(By.TAG_NAME, "th").text: row.find_elements(By.TAG_NAME, "td")
        for row in page.find_elements(By.CSS_SELECTOR, selector)
    }
    assert not re.search(r"\d", shown["random"][column - 1].text)
    expected = f"{100 * (returns['ppo'] / returns['random'] - 1):+,.1f} %"
    assert shown["ppo"][column - 1].text.startswith(expected)


@pytest.mark.parametrize("width", [390, 700, 1200])
def test_a_word_is_explained_on_focus_within_the_page(page: Any, width: int) -> None:
    emulate(page, width, 900)
    terms = page.find_elements(By.CSS_SELECTOR, ".term")
    assert len(terms) >= 10
    for term in terms:
        tip = term.find_element(By.CSS_SELECTOR, "[role=tooltip]")
        assert not tip.is_displayed()
        page.execute_script("arguments[0].focus()", term)
        assert tip.is_displayed() and len(tip.text) > 20
        assert 0 <= tip.rect["x"] and tip.rect["x"] + tip.rect["width"] <= width + 1
    page.execute_script("document.activeElement.blur()")


def test_the_slider_moves_and_lists_keep_their_arrow_keys(page: Any) -> None:
    page.find_element(By.ID, "step").send_keys(Keys.END)
    assert text_of(page, "position") == "step 8 of 8"
    assert not page.find_element(By.ID, "next").is_enabled()
    page.find_element(By.ID, "second").send_keys(Keys.ARROW_RIGHT)
    assert page.find_element(By.ID, "position").text.startswith(("step 8 of 8", "step 6 of 6"))


def test_nothing_is_requested_and_nothing_fails(page: Any) -> None:
    for _ in range(7):
        page.find_element(By.ID, "next").click()
    assert requests(page) == []
    assert page.get_log("browser") == []


def test_a_text_that_is_markup_stays_text(page: Any, report: Path, tmp_path: Path) -> None:
    title = slate(page, "first")[0]
    nasty = NASTY.replace("<", "\\u003c").replace(">", "\\u003e")
    path = tmp_path / "report.html"
    path.write_text(report.read_text().replace(f'"{title}"', f'"{nasty}"'))
    page.get(path.as_uri())
    assert slate(page, "first")[0] == NASTY
    assert page.title != "broken"
    assert page.get_log("browser") == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_everything_without_scrolling_sideways(page: Any, dark: bool) -> None:
    emulate(page, *PHONE, dark=dark)
    page.refresh()
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= PHONE[0]
    first, second = (page.find_element(By.ID, f"panel-{x}").rect for x in ("first", "second"))
    assert second["y"] >= first["y"] + first["height"]
    buttons = [page.find_element(By.ID, name).rect for name in ("previous", "next")]
    assert all(button["height"] >= 44 for button in buttons)  # wide enough for a thumb


def luminance(colour: str) -> float:
    parts = [float(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_texts_are_readable_by_day_and_by_night(page: Any, dark: bool) -> None:
    emulate(page, 1200, 900, dark=dark)
    page.find_element(By.ID, "next").click()
    background = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert (luminance(background) < 0.05) == dark
    chosen = page.find_element(By.CSS_SELECTOR, "#panel-first .slate .good")
    marked = chosen.value_of_css_property("background-color")
    texts = [("body", background), ("#legend .first", background), ("#legend .second", background)]
    for name, behind in [*texts, ("#panel-first .slate .good", marked), (".faint", background)]:
        colour = page.find_element(By.CSS_SELECTOR, name).value_of_css_property("color")
        light, deep = sorted((luminance(colour), luminance(behind)), reverse=True)
        assert (light + 0.05) / (deep + 0.05) >= 4.5, name


def test_without_script_the_page_says_what_is_missing(page: Any) -> None:
    emulate(page, 1200, 900, script=False)
    page.refresh()
    assert "needs JavaScript" in page.find_element(By.TAG_NAME, "noscript").text
    assert not page.find_element(By.ID, "explorer").is_displayed()
    assert page.find_element(By.TAG_NAME, "table").is_displayed()


def test_every_control_has_a_name_and_can_be_focused(page: Any) -> None:
    script = "return [...document.querySelectorAll('select, button, input')].map(x => x.id)"
    for name in page.execute_script(script):
        control = page.find_element(By.ID, name)
        assert control.accessible_name, name
        if control.is_displayed() and control.is_enabled():
            page.execute_script("arguments[0].focus()", control)
            assert page.switch_to.active_element == control
