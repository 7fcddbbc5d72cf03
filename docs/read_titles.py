"""Lets a causal language model read the titles of a catalogue: `read_titles.py MODEL OUTPUT`.

What it learns is how titles are written, before `lm-rank` is fine-tuned on who takes which.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from agents.lm.causal import CausalModel
from llmrec_env import Catalog

BATCH = 32


def main() -> None:
    """Reads the arguments, trains all weights, and writes the model and its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="directory of a causal language model")
    parser.add_argument("output", help="directory to write")
    parser.add_argument("--catalog", default="video", help="whose titles")
    parser.add_argument("--epochs", type=int, default=15, help="passes over all titles")
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="highest, of AdamW")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lm = CausalModel(given.model)
    lm.model.requires_grad_(True).train()
    catalog = Catalog.load(given.catalog)
    start = lm.encode("")
    titles = [start + lm.continuation(f" {x}") for x in catalog.titles or catalog.texts]
    for epoch, loss in enumerate(read(lm, titles, given.epochs, given.learning_rate), start=1):
        print(f"epoch {epoch}: {loss:.3f} nats a token", flush=True)
    lm.model.save_pretrained(given.output)
    lm.tokenizer.save_pretrained(given.output)


def read(
    lm: CausalModel, titles: list[list[int]], epochs: int, learning_rate: float
) -> Iterator[float]:
    """Yields the mean loss of each pass over titles, as tokens, in an order of its own."""
    weights = lm.model.parameters()
    optimiser = torch.optim.AdamW(weights, learning_rate, weight_decay=0.0)
    steps = epochs * (len(titles) // BATCH) + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        losses = []
        for rows in rng.permutation(len(titles))[: len(titles) // BATCH * BATCH].reshape(-1, BATCH):
            ids, mask = lm.padded([titles[row] for row in rows], left=False)
            loss = lm.model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        yield float(np.mean(losses))


if __name__ == "__main__":
    main()
