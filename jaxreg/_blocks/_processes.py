"""Several processes that each do their share; one alone does all."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Job = TypeVar("Job")
Made = TypeVar("Made")


def shares(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    """The jobs of each process, where there are several.

    >>> shares([1, 2, 3])
    [[1, 2, 3]]
    """
    return [jobs[first :: jax.process_count()] for first in range(jax.process_count())]


def exchange(jobs: Sequence[Job], part_of: Callable[[Job], np.ndarray]) -> None:
    """Fill in what the other processes have computed: of each job its part of an array.

    >>> exchange([0, 1], np.zeros((2, 3)).__getitem__)
    """
    if jax.process_count() == 1:
        return
    parts = [[part_of(job) for job in share] for share in shares(jobs)]
    sizes = [sum(part.size for part in share) for share in parts]
    mine = parts[jax.process_index()]
    dtype = next(part.dtype for share in parts for part in share)
    sent = np.zeros(max(sizes), dtype)
    np.concatenate([part.ravel() for part in mine] or [sent[:0]], out=sent[: sizes[jax.process_index()]])
    # As bytes, which no setting of JAX converts.
    received = multihost_utils.process_allgather(sent.view(np.uint8)).reshape(len(parts), -1)
    for share, taken in zip(parts, np.asarray(received), strict=True):
        numbers, start = taken.view(dtype), 0
        for part in share:
            part[...] = numbers[start : start + part.size].reshape(part.shape)
            start += part.size


def wait_for_all(what: str) -> None:
    """Wait until every process has come to the same place, where there are several.

    >>> wait_for_all("all blocks stored")
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"jaxreg: {what}")


def first_then_all(call: Callable[[], Made]) -> Made:
    """Call something in the first process, then in all others, so that they find what it has made.

    >>> first_then_all(lambda: 3)
    3
    """
    try:
        found = [call()] if jax.process_index() == 0 else []
    finally:  # what the first refuses, the others refuse too
        wait_for_all("the first is done")
    return found[0] if found else call()
