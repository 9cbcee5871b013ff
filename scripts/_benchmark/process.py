"""Measurements in processes of their own: other devices, memory that nothing else has used, first calls."""

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _benchmark.measure import Timing

Call = Callable[[dict[str, Any]], list[float]]


@contextlib.contextmanager
def other_process(module: str, devices: int = 1) -> Iterator[Call]:
    """A CPU process in which a module's ``serve`` answers what it is asked with numbers."""
    folder = Path(__file__).parents[1]
    command = [sys.executable, "-c", f"import {module}; {module}.serve()"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asking, answering = process.stdin, process.stdout

        def call(asked: dict[str, Any]) -> list[float]:
            print(json.dumps(asked), file=asking, flush=True)
            answer = answering.readline()
            if not answer:
                raise RuntimeError(f"the process for {asked} has ended")
            return [float(number) for number in answer.split()]

        yield call
        asking.close()


def timed_there(runs: Mapping[str, Callable[[], list[float]]], repeats: int) -> dict[str, Timing]:
    """Time calls to other processes in turn; each answers with its wall and processor seconds."""
    timings = {name: Timing(run()[0], [], []) for name, run in runs.items()}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds, work = run()
            timings[name].times.append(seconds)
            timings[name].work.append(work)
    return timings


def answer_all(answer: Callable[..., Sequence[float]]) -> None:
    """Answer each line of the input, the arguments as JSON; ``{"peak": true}`` asks for the peak of memory in GB."""
    for line in sys.stdin:
        asked = json.loads(line)
        found = [_peak_memory() / 1e9] if asked.get("peak") else answer(**asked)
        print(*found, flush=True)


def _peak_memory() -> int:
    """The most bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
