from drawn import TEXTS, session, texts

from experiments.report import figures
from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import leaderboard
from experiments.store import Episode


def test_the_streamgraph_names_every_interest_and_marks_what_was_chosen() -> None:
    shown = texts(figures.streamgraph(session(), TEXTS))
    for i in range(4):
        assert f"interest number {i}" in shown  # the faint one beside the graph
    assert not any("interest number 4" in text for text in shown)
    assert "ppo, user 9 of world 0: return 15.0, left after step 30" in shown
    steps = [int(text.split()[1]) for text in shown if text.startswith("step ")]
    assert len(steps) == 4
    marks = [text for text in shown if text in ("✓", "✗")]
    chosen = [session()["steps"][step - 1] for step in steps]
    assert [mark == "✓" for mark in marks] == [step["satisfied"] == 1 for step in chosen]
    assert all(step["choice"] >= 0 for step in chosen)


def test_the_streamgraph_marks_every_item_of_a_slate_that_was_chosen() -> None:
    several = session()
    for step in several["steps"]:
        step["feedback"] = [-1, 1, -1, 0, 1]
    shown = texts(figures.streamgraph(several, TEXTS))
    assert shown.count("3 chosen, 2 satisfied") == 4
    assert (shown.count("✓"), shown.count("✗")) == (8, 4)


def test_the_streamgraph_of_a_session_of_one_step_is_drawn() -> None:
    assert "interest number 0" in texts(figures.streamgraph(session(num_steps=1), TEXTS))


def test_the_best_agent_that_is_no_oracle_is_shown() -> None:
    agents = {"random": 1.0, "content": 5.0, "oracle-myopic": 9.0}
    episodes = [
        Episode("t", agent, 0, 0, user, mean + user, 9, 3, 2, 40.0, True)
        for agent, mean in agents.items()
        for user in range(9)
    ]
    rows = leaderboard(episodes, resampling=Resampling(resamples=200))
    sessions = [
        session("random"),
        session("content"),
        session("oracle-myopic"),
        session("content", 40),
    ]
    assert figures.best_session(rows, sessions) is sessions[3]
    sessions[3]["steps"][9]["events"].clear()
    assert figures.best_session(rows, sessions) is sessions[1]  # shorter, but with a switch
    assert figures.best_session(rows, sessions[2:3]) is None
