"""Words that name clusters of texts, and the interest phrases made of them, in any language."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.content.catalog import Catalog

_Rows = npt.NDArray[np.float64]
_Ids = npt.NDArray[np.int64]

_PHRASES_PER_FACET = 3
_EXAMPLES = 3  # items named by a derived phrase
_SHORT_NAME = 8  # words of a text that stand for a title
_LONGEST_NAME = 80  # characters
_NAME_WORDS = 3  # words that name a topic without a label, or a facet

# Thai, Lao, Burmese, Khmer, kana and ideographs: no spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"  # written on letters of a word
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])(?:[^\W\d_]|[{_MARKS}]))+")
_ALPHABETIC = "\u0590"  # Latin, Greek, Cyrillic and Armenian lie before; below 4 letters is grammar
_SHORTEST = 4


def words_of(text: str) -> list[str]:
    """Returns the words that can name something; of scripts without spaces, pairs of characters."""
    words: list[str] = []
    for word in _WORD.findall(text.lower()):
        if re.match(f"[{_UNSPACED}]", word):
            words += [left + right for left, right in pairwise(word)] or [word]
        elif len(word) >= (_SHORTEST if word[0] < _ALPHABETIC else 2):
            words.append(word)
    return words


def distinctive_words(words: Sequence[set[str]], groups: _Ids) -> list[list[str]]:
    """Returns the words of each group that set it apart, the best first.

    Args:
        words: of each item, (n,).
        groups: 0 to the number of groups - 1, (n,).
    """
    total = Counter(word for item_words in words for word in item_words)
    counts: list[Counter[str]] = [Counter() for _ in range(int(groups.max()) + 1)]
    for group, item_words in zip(groups, words, strict=True):
        counts[group].update(item_words)
    sizes = np.bincount(groups)
    ranked = []
    for count, size in zip(counts, sizes, strict=True):
        # How much more often than elsewhere, times how often: a rare word alone names nothing.
        score = {
            word: round(number * math.log(number / size * len(words) / total[word]), 6)
            for word, number in count.items()
        }
        ranked.append(sorted(count, key=lambda word: (-score[word], word)))
    return ranked


def topic_names(catalog: Catalog, topics: _Ids) -> tuple[str, ...]:
    """Returns names made of genres, or else of the words that set a topic's texts apart."""
    has_genres = catalog.genres is not None
    words = [set(genres) for genres in catalog.genres] if catalog.genres else _words(catalog)
    names: list[str] = []
    for topic, ranked in enumerate(distinctive_words(words, topics)):
        best = ranked[:_NAME_WORDS]
        name = (_enumeration(best) if has_genres else ", ".join(best)) or "miscellaneous"
        names.append(name if name not in names else f"{name} ({topic + 1})")
    return tuple(names)


def derived_phrases(catalog: Catalog, centred: _Rows) -> list[tuple[int, str]]:
    """Returns phrases (facet, text) that name a facet by its own words and most central items.

    Args:
        catalog: with topics and facets.
        centred: unit rows of the items, around their mean, (N, D).
    """
    facets = catalog.facets.astype(np.int64)
    own_words = [[]] * (int(facets.max()) + 1)
    if catalog.genres is None:
        own_words = distinctive_words(_words(catalog), facets)
    bank: list[tuple[int, str]] = []
    for facet, ranked in enumerate(own_words):
        ids = np.flatnonzero(facets == facet)
        central = ids[np.argsort(-_nearness(centred[ids]), kind="stable")]
        number = min(_PHRASES_PER_FACET, len(ids))
        for start in range(number):
            examples = central[start : number * _EXAMPLES : number]
            bank.append((facet, _phrase(catalog, ids, ranked, examples)))
    return bank


def _words(catalog: Catalog) -> list[set[str]]:
    return [set(words_of(text)) for text in catalog.texts]


def _nearness(rows: _Rows) -> npt.NDArray[np.float64]:
    """How near each row is to the mean of all, (n,)."""
    return portable_math.products(rows, [portable_math.mean(rows)])[:, 0]


def _phrase(catalog: Catalog, ids: _Ids, words: Sequence[str], examples: _Ids) -> str:
    names = [_short_name(catalog, int(item)) for item in examples]
    if catalog.genres is not None:
        count = Counter(genre for item in ids for genre in catalog.genres[item])
        frequent = [genre for genre, number in count.most_common(3) if number >= len(ids) / 2]
        genres = _enumeration(frequent or [genre for genre, _ in count.most_common(1)])
        kind = f"{genres} films" if genres else "films"
        return f"enjoys {kind} such as {_enumeration(names)}"
    topic = catalog.topic_names[int(catalog.topics[ids[0]])]
    others = [word for word in words[: 2 * _NAME_WORDS] if word not in topic.lower()]
    # No word of English: the catalogue may be in any language.
    return f"{', '.join([topic, *others[:_NAME_WORDS]])}: {'; '.join(names)}"


def _short_name(catalog: Catalog, item: int) -> str:
    if catalog.titles is not None:
        return catalog.titles[item][:_LONGEST_NAME].rstrip()
    words = catalog.texts[item].split()[:_SHORT_NAME]
    return " ".join(words)[:_LONGEST_NAME].rstrip(".,;:!? ")


def _enumeration(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
