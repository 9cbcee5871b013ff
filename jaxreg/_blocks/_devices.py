"""Programs on one device or several, and how much of them at once."""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

# On an accelerator, or several devices: while one block's results travel to the host, the next is computed. A guess.
_ON_THEIR_WAY = 2


def workers_on(devices: Sequence[jax.Device]) -> int:
    """How many threads compute blocks on these devices.

    >>> workers_on(jax.devices("cpu")[:1]) >= 1
    True
    """
    if len(devices) == 1 and devices[0].platform == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _ON_THEIR_WAY


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
