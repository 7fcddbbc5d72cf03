"""What each token of a text adds to a score of its encoding, and where an encoder attends.

Needs captum (extra `explain`). Integrated gradients: Sundararajan, Taly and Yan, Axiomatic
attribution for deep networks, ICML 2017.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.content.encoders.protocol import normalize_texts
from llmrec_env.content.encoders.transformer import TransformerEncoder, pool

Doubles = npt.NDArray[np.float64]


class TokenAttribution(NamedTuple):
    """A text's tokens, and what they add to its score."""

    tokens: list[str]  # T, with those that the model adds at both ends
    amounts: Doubles  # (T,)
    missing: float
    """The score less that of the same text with masked tokens, less the amounts: rounding."""


def attribute_tokens(
    encoder: TransformerEncoder, text: str, score: Callable[[Any], Any], steps: int = 64
) -> TokenAttribution:
    """Returns what the tokens of a text add to a score, by integrated gradients.

    The path begins where every token but those at the ends is the mask of the model, or its padding
    where it has no mask.

    Args:
        encoder: whose encoding is scored.
        text: not empty.
        score: from unit vectors, a tensor (n, D), to a tensor (n,), differentiable.
        steps: of the integral.

    Raises:
        ValueError: the text has no token, or steps is below 1.
        ImportError: captum is not installed.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} is out of range; use 1 or more.")
    captum = import_captum()
    torch, model, tokenizer = encoder._loaded
    inputs = _tokenized(encoder, text)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    blank = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else _padding(tokenizer)
    special = torch.tensor([[i in tokenizer.all_special_ids for i in ids[0].tolist()]])
    baseline = torch.where(special.to(ids.device), ids, torch.full_like(ids, blank))

    def forward(input_ids: Any) -> Any:
        rows = mask.expand(len(input_ids), -1)
        hidden = model(input_ids=input_ids, attention_mask=rows).last_hidden_state.float()
        return score(
            torch.nn.functional.normalize(pool(torch, hidden, rows, encoder.pooling), dim=1)
        )

    integrated = captum.LayerIntegratedGradients(forward, model.get_input_embeddings())
    amounts, missing = integrated.attribute(
        ids, baseline, n_steps=steps, internal_batch_size=16, return_convergence_delta=True
    )
    tokens = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    each = amounts.detach().sum(dim=-1)[0].double().cpu().numpy()
    return TokenAttribution(tokens, each, -float(missing[0]))


def attention_of(encoder: TransformerEncoder, text: str) -> tuple[list[str], Doubles]:
    """Returns the tokens of a text, T, and the last layer's attention between them, (T, T).

    Rows attend to columns and add up to 1; the mean over heads.
    """
    torch, model, tokenizer = encoder._loaded
    inputs = _tokenized(encoder, text)
    own = copy.deepcopy(model)  # the kernels that encode tell no attention, and must stay
    own.set_attn_implementation("eager")
    with torch.inference_mode():
        layers = own(**inputs, output_attentions=True).attentions
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    return tokens, layers[-1][0].double().mean(dim=0).cpu().numpy()


def import_captum() -> Any:
    """Returns `captum.attr`, or says how to install it."""
    try:
        return importlib.import_module("captum.attr")
    except ImportError as error:
        raise ImportError(
            "integrated gradients need captum; pip install llmrec-env[explain]."
        ) from error


def _tokenized(encoder: TransformerEncoder, text: str) -> dict[str, Any]:
    _, _, tokenizer = encoder._loaded
    (text,) = normalize_texts([text])
    found = tokenizer([text], truncation=True, max_length=encoder.max_length, return_tensors="pt")
    if not found["input_ids"].shape[1]:
        raise ValueError("the text has no token; give one with words.")
    names = ("input_ids", "attention_mask")
    return {name: found[name].to(encoder.device) for name in names}


def _padding(tokenizer: Any) -> int:
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
