"""Joint recommender for logs that do not say what was shown beside what was consumed."""

from __future__ import annotations

from typing import Any

from agents.joint.recommender import Joint
from agents.rankers.ease_text import EaseText


def without_slates(
    seed: int = 0,
    click: float = 1.0,
    text: float = 1.0,
    regularisation: float = 200.0,
    cosine: float = 0.01,
    popular: float = 0.01,
    **settings: Any,
) -> EaseText:
    """Returns the ranker by both halves, whose closed form `EaseText` solves.

        L = lambda1 |X - X B|^2 + lambda |B - lambda2 c V V'|^2,  diag B = 0

    Without slates there is no choice to model: L_C says how well item-to-item weights B reconstruct
    the consumption X, L_T draws them to the cosines V V' of the texts. lambda1 = 0 leaves the texts
    alone, B = lambda2 c V V', and no popularity; lambda2 = 0 reads no text: it is `Ease`.

    Args:
        seed: nothing is drawn; recorded only.
        click: lambda1, weight of the reconstruction.
        text: lambda2, weight of what the texts say.
        regularisation: lambda.
        cosine: c.
        popular: weight of popularity.
        **settings: the other fields of EaseText.

    Raises:
        ValueError: a loss has a weight below 0, or none has one.
    """
    Joint(seed, click=click, text=text)  # refuses weights as it does
    if click == 0:
        return EaseText(seed, popular=0.0, most_items=0, text=text * cosine, **settings)
    return EaseText(seed, regularisation / click, popular=popular, text=text * cosine, **settings)
