"""JAX's cache of compiled programs on disk: what one call of a command has compiled, the next one reads."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import jax

from jaxreg._command.output import writable_folder

_MOST_BYTES = 300 * 2**20


def folder() -> Path:
    """Where the programs are kept."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "")) / "jaxreg"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/jaxreg")
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jaxreg"


def switch_on() -> None:
    """Keep what is compiled from now on. What JAX was told of its cache wins; a folder that fails costs no more."""
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # RuntimeError: there is no home
        place = folder().expanduser()
        if place.is_absolute():
            _trim(writable_folder(place))
            config.update("jax_compilation_cache_dir", str(place))
            # JAX keeps only what takes a second to compile, unless told otherwise; a fit is many small programs.
            config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _trim(place: Path) -> None:
    """Delete what was not read for longest; JAX's own limit needs a package more."""
    found = [(file, file.stat()) for file in place.glob("*-cache")]
    size = 0
    for file, known in sorted(found, key=lambda one: -one[1].st_atime):
        size += known.st_size
        if size > _MOST_BYTES:
            file.unlink()
