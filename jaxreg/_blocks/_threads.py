"""Jobs on a few threads."""

import functools
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import jax

from jaxreg import _trace
from jaxreg._blocks._progress import stop_if_asked

Job = TypeVar("Job")


def run(
    jobs: Iterable[Job], compute: Callable[[Job], Any], *, workers: int, finished: Callable[[Job, Any], None]
) -> None:
    """Compute all jobs on a few threads, and tell of each that is done.

    An error, or Ctrl-C while a ``Progress`` is open, lets the jobs that run end, starts no other, and is raised.

    Args:
        jobs: the jobs, drawn from one after the other.
        compute: ``compute(job)``, called on any thread.
        workers: threads; with 1 everything is done on the caller's.
        finished: ``finished(job, result)``, called on the caller's thread.

    >>> found = []
    >>> run(range(5), lambda number: number**2, workers=2, finished=lambda number, square: found.append(square))
    >>> sorted(found)
    [0, 1, 4, 9, 16]
    """
    stop_if_asked()
    compute = _trace.undisturbed(compute)
    if workers == 1:
        for job in jobs:
            finished(job, compute(job))
            stop_if_asked()
        return
    waiting = iter(jobs)
    x64 = _trace.x64()  # JAX keeps its settings per thread

    def in_thread(job: Job) -> Any:
        with jax.enable_x64(x64):
            return compute(job)

    pool = _threads(workers)
    running = {pool.submit(in_thread, job): job for job in itertools.islice(waiting, workers)}
    try:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                result = future.result()
                running |= {pool.submit(in_thread, following): following for following in itertools.islice(waiting, 1)}
                finished(job, result)
                stop_if_asked()
    finally:
        wait(running)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that are kept: to start them takes longer than a small sweep."""
    return ThreadPoolExecutor(count, thread_name_prefix="jaxreg")
