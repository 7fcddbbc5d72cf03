"""Runs use one thread, and what was set before comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

torch = pytest.importorskip("torch")

import threadpoolctl  # noqa: E402

from experiments.runs.threads import one_thread  # noqa: E402


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpoolctl.threadpool_limits(2):
        yield
    torch.set_num_threads(before)


def numbers() -> set[int]:
    return {x["num_threads"] for x in threadpoolctl.threadpool_info()} | {torch.get_num_threads()}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_one_thread_inside_and_as_before_after(failure: type[BaseException] | None) -> None:
    before, inside = numbers(), []

    @one_thread()
    def run() -> None:
        inside.append(numbers())
        if failure:
            raise failure

    for _ in range(2):
        try:
            run()
        except BaseException as error:
            assert type(error) is failure
    assert inside == [{1}, {1}]
    assert before == {2} == numbers()


@pytest.mark.usefixtures("two_threads")
def test_they_can_be_nested() -> None:
    with one_thread():
        with one_thread():
            pass
        assert numbers() == {1}
    assert numbers() == {2}


def test_whatever_the_environment_says(run_python: Callable[..., str]) -> None:
    code = "import torch, numpy, scipy.linalg, threadpoolctl\n"
    code += "from experiments.runs.threads import one_thread\n"
    code += "with one_thread():\n    known = threadpoolctl.threadpool_info()\n"
    code += "    print({x['num_threads'] for x in known}, torch.get_num_threads())"
    assert run_python(code, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2") == "{1} 1"
