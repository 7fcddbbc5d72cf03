"""Features of pairs of behaviour and item: both texts read as one, or each alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from agents.joint.satisfaction.pairs import Pair
from agents.joint.text_tower import TextTower, batches
from llmrec_env.content.encoders.blocks import Tokens
from llmrec_env.content.encoders.protocol import normalize_texts

_SHARE = 0.3  # of what the head reads beside the cosine, so that the cosine is learnt first


def cross_encoded(tower: TextTower, pairs: Sequence[Pair]) -> Tensor:
    """Returns the first token of [CLS] behaviour [SEP] item [SEP], (n, width)."""
    behaviour = normalize_texts([" ".join(pair.behaviour) for pair in pairs])
    items = normalize_texts([pair.item for pair in pairs])
    limit = tower.max_length
    encoding = tower.tokenizer(behaviour, items, truncation=True, max_length=limit)
    tokens: Tokens = {name: encoding[name] for name in encoding}
    order: list[int] = []
    parts: list[Tensor] = []
    for members in batches(tokens, tower.batch_tokens):
        hidden, _ = tower.read(tokens, members)
        parts.append(hidden[:, 0])
        order += members
    return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(tower.device)]


def bi_encoded(tower: TextTower, pairs: Sequence[Pair]) -> Tensor:
    """Returns u, v, u * v, their cosine and whether there is no behaviour, (n, 3 width + 2)."""
    owner = [row for row, pair in enumerate(pairs) for _ in pair.behaviour]
    texts = [text for pair in pairs for text in pair.behaviour]
    vectors = tower([*texts, *(pair.item for pair in pairs)])
    past, item = vectors[: len(texts)], vectors[len(texts) :]
    total = torch.zeros_like(item).index_add(
        0, torch.tensor(owner, device=item.device).long(), past
    )
    mean = nn.functional.normalize(total, dim=1)
    cosine = (mean * item).sum(dim=1, keepdim=True)
    nothing = (total == 0).all(dim=1, keepdim=True).to(item.dtype)
    scale = tower.width**0.5  # makes numbers of the size of 1
    others = torch.cat([mean, item, scale * mean * item], dim=1)
    return torch.cat([scale * cosine, nothing, _SHARE * scale * others], dim=1)
