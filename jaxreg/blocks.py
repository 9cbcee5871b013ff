"""Blocks of work on threads and devices: how many at once, the memory there is, and a bar that says how far.

A block is a rectangle of a grid of members, computed by one call of one compiled program. On a CPU a program keeps
about one core busy, so as many threads as there are cores each compute a block; JAX releases Python's lock meanwhile.
"""

import functools
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from jaxreg import _trace

Job = TypeVar("Job")


def workers_on(devices: Sequence[jax.Device]) -> int:
    """How many threads compute blocks on these devices.

    >>> workers_on(jax.devices("cpu")[:1]) >= 1
    True
    """
    if len(devices) == 1 and devices[0].platform == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2  # while one block's results travel to the host, the next is computed


def memory_of(device: jax.Device) -> int:
    """Bytes of memory that a device has; more than there can be where the system does not tell.

    >>> memory_of(jax.devices("cpu")[0]) > 10**8
    True
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if not hasattr(os, "sysconf"):  # Windows
        return sys.maxsize
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def on_devices(fn: Callable[..., Any], devices: Sequence[jax.Device], *, apart: Sequence[bool]) -> Any:
    """A function jitted for several devices: of each argument, all have the whole or each has its part.

    Args:
        fn: computes on one device; the parts that it takes and gives have a leading axis of length 1.
        devices: as many as a leading axis that is divided has elements.
        apart: for each argument, whether it is divided.

    >>> double = on_devices(lambda factor, x: factor * x, jax.devices()[:1], apart=(False, True))
    >>> print(double(2.0, np.ones((1, 3), np.float32)))
    [[2. 2. 2.]]
    """
    mesh = Mesh(np.asarray(devices), ("block",))
    parts = [PartitionSpec("block") if divided else PartitionSpec() for divided in apart]
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=tuple(parts), out_specs=PartitionSpec("block"), check_vma=False)
    return jax.jit(mapped, compiler_options=compiler_options(devices[0].platform))


@functools.cache
def compiler_options(platform: str) -> dict[str, Any]:
    """XLA fills half of an AVX-512 register unless told otherwise; a later XLA may not know the option any more.

    >>> compiler_options("cuda")
    {}
    """
    if platform != "cpu":
        return {}
    options = {"xla_cpu_prefer_vector_width": 512}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def may_share(compiled: Any) -> bool:
    """Whether several threads may run a compiled program at once.

    Not with LAPACK in it: its QR of a batch waits for the threads that XLA runs programs on, and two that do so at once
    wait for each other for ever (jaxlib 0.10.2).

    >>> qr = jax.jit(lambda x: jax.numpy.linalg.qr(x)[0]).lower(jax.ShapeDtypeStruct((4, 9, 3), np.float32)).compile()
    >>> may_share(qr), may_share(jax.jit(lambda x: 2 * x).lower(1.0).compile())
    (False, True)
    """
    return "lapack" not in compiled.as_text()


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
    _stop_if_asked()
    compute = _trace.undisturbed(compute)
    if workers == 1:
        for job in jobs:
            finished(job, compute(job))
            _stop_if_asked()
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
                _stop_if_asked()
    finally:
        wait(running)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that are kept: to start them takes longer than a small sweep."""
    return ThreadPoolExecutor(count, thread_name_prefix="jaxreg")


def shares(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    """The jobs of each process, where there are several.

    >>> shares([1, 2, 3])
    [[1, 2, 3]]
    """
    return [jobs[first :: jax.process_count()] for first in range(jax.process_count())]


def exchange(parts: Sequence[Sequence[np.ndarray]]) -> None:
    """Fill in what the other processes have computed: ``parts[i]`` are the parts of an array that process i has filled.

    >>> exchange([[np.zeros(3)]])
    """
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


def first_then_all(call: Callable[[], Job]) -> Job:
    """Call something in the first process, then in all others, so that they find what it has made.

    >>> first_then_all(lambda: 3)
    3
    """
    try:
        found = [call()] if jax.process_index() == 0 else []
    finally:  # what the first refuses, the others refuse too
        wait_for_all("the first is done")
    return found[0] if found else call()


_asked_to_stop = threading.Event()


def _on_ctrl_c(number: int, frame: Any) -> None:
    if _asked_to_stop.is_set():
        signal.default_int_handler(number, frame)
    _asked_to_stop.set()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _stop_if_asked() -> None:
    if _asked_to_stop.is_set() and _in_main_thread():
        raise KeyboardInterrupt


class Progress:
    """A bar on stderr: members done, members per second, time left, and how many of them failed.

    Silent without tqdm, when stderr is no terminal, or when told to be; ``wanted=True`` draws it in any case.

    Ctrl-C inside it takes effect between blocks, a second one at once. It says how far it came, and how to go on, which
    depends on whether what is done is ``stored``. Raised wherever it falls it would do harm: XLA compiles on threads of
    its own, which crash if Python ends meanwhile, and what is raised in a callback of the garbage collector is lost.
    """

    def __init__(
        self, total: int, wanted: bool | None, *, stored: bool, unit: str = "members", failed: str = "diverged"
    ) -> None:
        self.total, self.done, self.unit, self.stored = total, 0, unit, stored
        self._failed, self._failure = 0, failed
        self._bar: Any = None
        if wanted is False or (wanted is None and not sys.stderr.isatty()):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            if wanted:
                raise ImportError("a progress bar needs tqdm: pip install 'jaxreg[progress]'") from None
            return
        self._bar = tqdm(total=total, unit=f" {unit}", unit_scale=True, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        self._deferred = _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._deferred:
            signal.signal(signal.SIGINT, _on_ctrl_c)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        asked = self._deferred and _asked_to_stop.is_set()
        if self._deferred:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _asked_to_stop.clear()
        if kind is KeyboardInterrupt or (kind is None and asked):
            how = "the same call goes on from there" if self.stored else "give it a store= to be able to go on"
            raise KeyboardInterrupt(f"stopped with {self.done} of {self.total} {self.unit} done; {how}") from None

    def advance(self, members: int, failed: int, *, restored: bool = False) -> None:
        """More members are done, some of them failed; restored ones took no time and do not count for the speed."""
        self.done += members
        self._failed += failed
        _stop_if_asked()
        if self._bar is None:
            return
        if self._failed:
            self._bar.set_postfix_str(f"{self._failed} {self._failure}", refresh=False)
        if restored:
            self._bar.initial += members
        self._bar.update(members)
