"""What ``sweep`` and ``fit_many`` run on: blocks of work on threads, devices and processes, and how far they are.

A block is a rectangle of a grid of members, computed by one call of one compiled program. On a CPU a program keeps
about one core busy, so as many threads as there are cores each compute a block; JAX releases Python's lock meanwhile.
"""

from jaxreg._blocks._devices import compiler_options, may_share, memory_of, on_devices, workers_on
from jaxreg._blocks._processes import exchange, first_then_all, shares, wait_for_all
from jaxreg._blocks._progress import Deadline, Progress, TimeUpError
from jaxreg._blocks._threads import run

__all__ = [
    "Deadline",
    "Progress",
    "TimeUpError",
    "compiler_options",
    "exchange",
    "first_then_all",
    "may_share",
    "memory_of",
    "on_devices",
    "run",
    "shares",
    "wait_for_all",
    "workers_on",
]
