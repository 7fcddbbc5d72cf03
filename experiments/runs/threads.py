"""One thread around all that learns and acts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits

from experiments.store.machine import THREADS


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Runs a block, or the function that it decorates, on one thread, whatever the environment.

    Several threads share a sum out between them, so that its last bits depend on how many there
    are, and after some updates so does every weight.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with threadpool_limits(THREADS):
            yield
    finally:
        torch.set_num_threads(before)
