"""Profiles: levels in words, strongest first, and nothing where there is nothing to say."""

from __future__ import annotations

from llmrec_env.content.profiles import Profile
from llmrec_env.content.satisfaction_models import prompt_of

FULL = Profile(
    interests=((2, "slow trains"), (2, "jazz"), (1, "pasta"), (0, "moths, beetles and ants")),
    tired=((1, "food"), (0, "crime"), (0, "history")),
    trust=-1,
)
GOLDEN = """\
llmrec satisfaction prompt 1
About a user: Very interested in "slow trains" and "jazz". Fairly interested in "pasta". \
A little interested in "moths, beetles and ants". Very tired of "food". Tired of "crime" and \
"history". Somewhat let down by clickbait of late.
The user has chosen this item: Ten {trains} in the rain
Question: does it satisfy the user? Answer yes or no.
Answer:"""


def test_the_prompt_of_this_version_has_these_words():
    """Another wording is another judge: raise PROMPT_VERSION or PROFILE_VERSION with it."""
    assert prompt_of(FULL, "Ten {trains} in the rain") == GOLDEN


def test_what_there_is_not_is_not_told():
    assert Profile(((2, "jazz"),)).text == 'Very interested in "jazz".'
    several = Profile(tuple((1, name) for name in "abc"), trust=2).text
    assert several == (
        'Fairly interested in "a", "b" and "c". '
        "Very pleased by the depth of recommendations of late."
    )
