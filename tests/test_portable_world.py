"""A world has the same bits on every x86-64 machine."""

from __future__ import annotations

import json

DIGESTS = """
import hashlib, json
import numpy as np
from llmrec_env.config import EnvConfig
from llmrec_env.world import load_world

def content(array):  # field by field: between them lie bytes without a meaning
    if array.dtype.names:
        return b"".join(content(array[name]) for name in array.dtype.names)
    return np.ascontiguousarray(array).tobytes()

def digest(*arrays):
    return hashlib.sha256(b"".join(map(content, arrays))).hexdigest()[:16]

def digests(encoder):
    world = load_world(EnvConfig(num_users=100, encoder=encoder))
    text, items = world.text, world.items
    return {
        "vectors": digest(text.catalog.vectors, text.phrase_vectors),
        "text": digest(text.neighbours, text.probe, np.array(text.space.scale)),
        "interests": digest(world.interests.community_topics),
        "traits": digest(world.traits, world.params),
        "users": digest(world.users),
        "logs": digest(*world.logs),
        "items": digest(items.factors, items.popularity, items.substance),
        "histories": digest(world.histories),
    }

print(json.dumps([digests("minilm"), digests("hashing")]))
"""

# A new digest means another benchmark: raise the version of the environments with it. But a new
# mechanism that is off has columns in traits and parameters: then `traits` changes alone.
GOLDEN = [
    {
        "vectors": "c93faec1d4236728",
        "text": "fe6470382f04a6dd",
        "interests": "85a26577308dd81b",
        "traits": "aaf6528dd398cec5",
        "users": "cd99ba44a6784d53",
        "logs": "5ab7defafe9d3638",
        "items": "a49f73f67f906e3e",
        "histories": "fed00b000258b154",
    },
    {
        "vectors": "3c652137ad8945ab",
        "text": "b47c5319b43a577b",
        "interests": "85a26577308dd81b",
        "traits": "3b0fc5085ef941bb",
        "users": "06373a34523ad3c7",
        "logs": "b735a213841eef7c",
        "items": "cdc2adae81a7aa22",
        "histories": "b2761f654e8639ef",
    },
]

OLD_PROCESSOR = {  # what numpy, OpenBLAS and numba do on one of 2008
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
}


def test_the_default_world_is_the_one_that_was_measured(run_python):
    assert json.loads(run_python(DIGESTS)) == GOLDEN


def test_an_old_processor_builds_the_same_world(run_python, tmp_path):
    environment = OLD_PROCESSOR | {"LLMREC_CACHE": str(tmp_path)}
    assert json.loads(run_python(DIGESTS, **environment)) == GOLDEN
