"""Kill a sweep that keeps its chunks on disk, many times, at random instants; nothing may be lost or done twice.

A process sweeps into a store and is killed (SIGKILL); the same call goes on, is killed, … until it ends; then the next
store, until there were enough kills. A chunk that was finished when a kill came must be the same file afterwards, all
must be there in the end, and the values must have the bits of a sweep that nobody disturbed.
"""

import argparse
import hashlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import jax
import numpy as np

import jaxreg
from jaxreg import losses

MARKS = "@jaxreg/finished/c"  # in a store: one file for each finished chunk, written when the chunk is whole
CHUNK = 64
KEYS = 2
LOSSES = [losses.squared, losses.huber]


def sweep(chunks: int, store: Path | None = None) -> jaxreg.results.Sweep:
    """The sweep that is killed: losses × keys × learning rates up to where training diverges."""
    train = common.line_data(jax.random.key(0))[0]

    def run(learning_rate: jax.Array, key: jax.Array, loss: Any) -> jaxreg.Training:
        return common.fit_line(key, learning_rate, train, loss=loss)

    rates = np.geomspace(1e-3, 30.0, chunks * CHUNK // (KEYS * len(LOSSES)), dtype=np.float32)
    axes = {"learning_rate": rates, "key": jax.random.split(jax.random.key(1), KEYS)}
    return jaxreg.sweep(run, axes, static={"loss": LOSSES}, chunk_size=CHUNK, store=store, progress=False)


def digest(result: jaxreg.results.Sweep) -> str:
    """A fingerprint of all bits of the values."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(result.values):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


class Marks:
    """The finished chunks of a store as they were last seen: file → (inode, time of writing)."""

    def __init__(self, store: Path) -> None:
        self.folder = store / MARKS
        self.seen: dict[str, tuple[int, int]] = {}

    def look(self) -> int:
        """Look again, and raise if a finished chunk is gone or was written again; how many are new."""
        now = {}
        for file in self.folder.rglob("*"):
            if file.is_file() and not file.name.endswith(".partial"):
                status = file.stat()
                now[str(file.relative_to(self.folder))] = (status.st_ino, status.st_mtime_ns)
        for name, was in self.seen.items():
            if name not in now:
                raise AssertionError(f"chunk {name} was finished and is lost")
            if now[name] != was:
                raise AssertionError(f"chunk {name} was finished and was computed again")
        new = len(now) - len(self.seen)
        self.seen = now
        return new

    def has_grown(self) -> bool:
        """Whether there are more than before, or one is being written."""
        return sum(len(files) for _, _, files in os.walk(self.folder)) > len(self.seen)


class Outcome(NamedTuple):
    """What was done to the sweeps, all checks passed."""

    kills: int
    while_computing: int  # kills that came after the first new chunk of their process
    sweeps: int
    chunks: int
    kept: int  # chunks that some kill found finished


class Process:
    """A process that sweeps into a store."""

    def __init__(self, chunks: int, store: Path | None, cache: Path) -> None:
        command = [sys.executable, __file__, "--chunks", str(chunks), *(["--store", str(store)] if store else [])]
        # Programs are compiled once, by the undisturbed sweep; the killed ones only read them.
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.began = time.perf_counter()
        self._process = subprocess.Popen([*command, "--sweep"], stdout=subprocess.PIPE, text=True, env=environment)

    def wait(self, seconds: float | None = None, until: Callable[[], bool] = lambda: False) -> bool:
        """Whether it has ended, within a time or before something else happens."""
        end = None if seconds is None else time.perf_counter() + seconds
        while self._process.poll() is None:
            if until() or (end is not None and time.perf_counter() >= end):
                return False
            time.sleep(0.0005)
        return True

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()

    def digest(self) -> str:
        """What it has printed at its end."""
        printed = self._process.communicate()[0]
        if self._process.returncode:
            raise AssertionError(f"the sweep ended by itself with exit code {self._process.returncode}")
        return printed.strip()


def killed(kills: int, chunks: int, seed: int, folder: Path) -> Outcome:
    """Kill sweeps and check them, as the head of this file says."""
    instants, cache = random.Random(seed), folder / "compiled"
    wanted = Process(chunks, None, cache)
    wanted.wait()
    bits, until_first = wanted.digest(), time.perf_counter() - wanted.began
    done = computing = sweeps = kept = 0
    while done < kills:
        store = folder / f"store{sweeps}"
        marks, ended = Marks(store), False
        while not ended:
            process = Process(chunks, store, cache)
            before = len(marks.seen)
            if done >= kills:
                ended = process.wait()
            elif instants.random() < 0.2:  # at any time, also before it computes
                ended = process.wait(instants.uniform(0, until_first))
            else:
                ended = process.wait(until=marks.has_grown)
                until_first = time.perf_counter() - process.began
                ended = ended or process.wait(instants.uniform(0, 0.2))
            if not ended:
                process.kill()
                done += 1
                computing += marks.look() > 0
                print(f"kill {done}: {len(marks.seen)} of {chunks} chunks finished", file=sys.stderr, flush=True)
        kept += before
        marks.look()
        _check_whole(process.digest(), bits, store, marks, chunks)
        sweeps += 1
    return Outcome(done, computing, sweeps, sweeps * chunks, kept)


def _check_whole(found: str, wanted: str, store: Path, marks: Marks, chunks: int) -> None:
    if len(marks.seen) != chunks:
        raise AssertionError(f"{len(marks.seen)} chunks are marked as finished, not {chunks}")
    if found != wanted:
        raise AssertionError("the sweep ended with other bits than the one that was not killed")
    if digest(jaxreg.store.load(store)) != wanted:
        raise AssertionError("the store has other bits than the sweep that was not killed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill sweeps from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how often (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the instants (%(default)s)")
    parser.add_argument("--chunks", type=int, default=400, help="chunks of a sweep (%(default)s)")
    parser.add_argument("--sweep", action="store_true", help="only sweep, and print a fingerprint of the bits")
    parser.add_argument("--store", type=Path, help="with --sweep: where to keep the chunks")
    settings = parser.parse_args(arguments)
    if settings.kills < 1 or settings.chunks < 4 or settings.chunks % 4:
        parser.error("kills must be at least 1, and chunks a multiple of 4")
    if importlib.util.find_spec("zarr") is None:
        return common.refuse(parser.prog, ImportError("a store needs zarr: pip install 'jaxreg[store]'"))
    if settings.sweep:
        print(digest(sweep(settings.chunks, settings.store)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        outcome = killed(settings.kills, settings.chunks, settings.seed, Path(folder))
    print(
        f"{outcome.kills} kills of {outcome.sweeps} sweeps, {outcome.while_computing} of them after new chunks. No "
        f"finished chunk was lost or computed again, {outcome.kept} of {outcome.chunks} came from killed processes. "
        "All bits are those of a sweep that was not killed."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
