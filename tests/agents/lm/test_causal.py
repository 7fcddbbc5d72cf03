"""Causal models: likelihoods are those of a plain pass, and what is no causal model is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny_bert import save_tiny_bert
from tiny_causal import save_tiny_causal, torch

from agents.lm import causal
from agents.lm.causal import CausalModel
from llmrec_env.content import model_directory
from llmrec_env.content.encoders import DeviceError, WeightsError

PROMPT, ENDINGS = "Liked:\n+ slow trains\n+", [" tides", " a much longer title", " jazz", ""]


def _plain(lm: CausalModel, prompt: str, ending: str) -> float:
    start = lm.encode(prompt)
    tokens = lm.tokenizer(ending, add_special_tokens=False)["input_ids"] or [0]
    logs = lm.model(torch.tensor([start + tokens])).logits[0].log_softmax(1)
    first = len(start) - 1
    return float(np.mean([logs[first + i, token].item() for i, token in enumerate(tokens)]))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_likelihoods_with_a_shared_prompt_are_those_of_whole_texts(tiny_lm, batch_size):
    lm = CausalModel(tiny_lm, device="cpu", batch_size=batch_size)
    found = lm.log_likelihoods(PROMPT, ENDINGS)
    np.testing.assert_allclose(found, [_plain(lm, PROMPT, x) for x in ENDINGS], atol=1e-4)
    assert lm.tokens == len(lm.encode(PROMPT)) + sum(len(lm.encode(x)) - 1 or 1 for x in ENDINGS)


def test_other_architectures_read_the_same_way(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    directory = save_tiny_causal(tmp_path)
    size = json.loads((directory / "config.json").read_text())["vocab_size"]
    config = GPT2Config(vocab_size=size, n_positions=256, n_embd=16, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(directory)
    lm = CausalModel(directory, device="cpu")
    expected = [_plain(lm, PROMPT, x) for x in ENDINGS]
    np.testing.assert_allclose(lm.log_likelihoods(PROMPT, ENDINGS), expected, atol=1e-4)
    assert lm.limit == 256


def test_answers_do_not_depend_on_the_other_prompts(tiny_lm):
    lm = CausalModel(tiny_lm, device="cpu", batch_size=2)
    prompts = ["a", "a longer prompt than the first", "12, 3"]
    together = lm.answers(prompts, 6)
    assert together == [lm.answers([prompt], 6)[0] for prompt in prompts]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert lm.answers(prompts, 6, temperature=1.0) != together


def test_a_prompt_that_is_too_long_is_told_what_to_lower(tiny_lm):
    lm = CausalModel(tiny_lm, device="cpu")
    with pytest.raises(ValueError, match=r"has 4001 tokens, but .* reads 2048, .*text_budget"):
        lm.answers(["x " * 2000], 8)


@pytest.mark.parametrize("model", ["", "no/such/folder"])
def test_a_missing_directory_is_refused(model):
    with pytest.raises(WeightsError, match=r"is not a directory; .*--set model=DIR"):
        CausalModel(model)


def test_a_file_in_its_place_and_an_empty_directory_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no \.safetensors weights"):
        CausalModel(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        CausalModel(tmp_path)
    with pytest.raises(WeightsError, match="is not a directory"):
        CausalModel(tmp_path / "model.safetensors")


def test_an_encoder_is_refused_with_the_agent_that_takes_it(tmp_path):
    with pytest.raises(WeightsError, match=r"no causal language model .*BertModel.*lm-embed"):
        CausalModel(save_tiny_bert(tmp_path))


def _changed(tiny_lm, folder, **changes):
    shutil.copytree(tiny_lm, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_code_of_its_own_is_never_run(tiny_lm, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    auto_map = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Config"}
    folder = _changed(tiny_lm, tmp_path, model_type="evil", auto_map=auto_map)
    with pytest.raises(WeightsError, match=r"asks to run code of its own \(auto_map"):
        CausalModel(folder)


def test_missing_tensors_are_refused_not_drawn(tiny_lm, tmp_path):
    folder = _changed(tiny_lm, tmp_path, num_hidden_layers=3)
    with pytest.raises(WeightsError, match="lack what its config"):
        CausalModel(folder, device="cpu")
    (folder / "model.safetensors").write_bytes(b"\x08" * 64)
    with pytest.raises(WeightsError, match="is damaged"):
        CausalModel(folder, device="cpu")


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_read(tiny_lm, monkeypatch):
    monkeypatch.setattr(model_directory, "free_memory", lambda device: 1e4)
    monkeypatch.setattr(causal, "load_model", lambda *_: pytest.fail("was read"))
    with pytest.raises(DeviceError, match=r"about .* GB in float32, but cpu has 0\.0 GB"):
        CausalModel(tiny_lm, device="cpu")


def test_memory_that_ends_while_reading_says_which_setting_to_lower(tiny_lm, monkeypatch):
    lm = CausalModel(tiny_lm, device="cpu", batch_size=8)

    def generate(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lm.model, "generate", generate)
    with pytest.raises(DeviceError, match=r"batch_size=8; use batch_size=2"):
        lm.answers(["a"], 4)


def test_this_machine_has_memory_and_settings_have_ranges(tiny_lm):
    assert model_directory.free_memory("cpu") > 1e6
    for settings, said in (({"dtype": "int3"}, "dtype"), ({"batch_size": 0}, "batch_size")):
        with pytest.raises(ValueError, match=said):
            CausalModel(tiny_lm, device="cpu", **settings)
    half = CausalModel(tiny_lm, device="cpu", dtype="bfloat16")
    assert (
        half.model.dtype == torch.bfloat16 and np.isfinite(half.log_likelihoods("a", ["b"])).all()
    )
