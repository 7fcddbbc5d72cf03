"""One tiny causal model for all tests of language-model agents."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_causal import save_tiny_causal


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_causal(tmp_path_factory.mktemp("tiny-lm"))
