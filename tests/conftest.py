import gc
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Most of a test's time is XLA's compilation. With the emitters of before for fusions, one LLVM module for a program and
# none of LLVM's optimisations it takes a third of the CPU time (the suite half), to other instructions for the same
# arithmetic. XLA ends a process that asks for an option it does not know, hence the version. `XLA_FLAGS= pytest` tests
# what users compile; the test of equal bits always does.
FLAGS = {
    "0.10": ("cpu_use_fusion_emitters=false", "cpu_parallel_codegen_split_count=1", "backend_optimization_level=0"),
    "0.12": ("cpu_parallel_codegen_split_count=1", "backend_optimization_level=0"),
}
JAXLIB = ".".join(importlib.metadata.version("jaxlib").split(".")[:2])
os.environ.setdefault("XLA_FLAGS", " ".join(f"--xla_{flag}" for flag in FLAGS.get(JAXLIB, ())))

# The commands and the scripts keep what they compile in the user's cache: not what the tests compile.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jaxtyping

# Annotated shapes are checked at each call, under a trace too, in every module that says any: a tenth of the time, and
# the same on every JAX, so on one.
PACKAGE = Path(__file__).parents[1] / "jaxreg"
SHAPED = [
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if "jaxreg._shapes" in file.read_text()
]
if JAXLIB == "0.10":
    sys.modules["jaxreg._shapes"] = jaxtyping
    jaxtyping.install_import_hook(SHAPED, "beartype.beartype")

import hypothesis
import jax
import jax.numpy as jnp
import pytest

from jaxreg import data

# Traces are many objects that live on; looking for garbage among them takes a tenth of the time.
gc.set_threshold(200_000, 20, 100)

# Shapes that broadcast by accident are the mistake that the fifth exercise is about.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Examples that the sources alone decide, and no deadline, since one may compile. `pytest --hypothesis-profile search`
# looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None, max_examples=40)
hypothesis.settings.register_profile("search", database=None, deadline=None, max_examples=1500)
hypothesis.settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    kept = PACKAGE.parent / "docs" / "exercises" / "measured"
    parser.addoption("--report", default=str(kept), help="what reproduce.py wrote, for the tests of its page")


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Path:
    """The folder of the main job: what the documentation keeps of it, or a fresh one."""
    return Path(request.config.getoption("report"))


# A compiled program is many memory maps, some 230 a fit on JAX 0.12, and Linux lets a process have 65,530: beyond that
# XLA's compiler crashes. Programs that nobody needs any more are let go in time.
MAPS = Path("/proc/self/maps")
most_maps = [20_000]


def num_maps() -> int:
    with MAPS.open("rb") as maps:
        return sum(1 for _ in maps)


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    if nextitem is not None and MAPS.exists() and num_maps() > most_maps[0]:
        jax.clear_caches()
        gc.collect()
        most_maps[0] = max(most_maps[0], min(2 * num_maps(), 45_000))


@pytest.fixture(params=["eager", "lane"])
def variant(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function of arrays as it is, or as one lane of a jitted vmap: so it is traced, and batched too."""

    def one_lane(fn: Callable[..., Any]) -> Callable[..., Any]:
        @jax.jit
        def lane(*args: Any) -> Any:
            batched = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], args)
            return jax.tree.map(lambda leaf: leaf[0], jax.vmap(fn)(*batched))

        return lane

    return {"eager": lambda fn: fn, "lane": one_lane}[request.param]


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def x64_module():
    """Double precision for a whole module: Hypothesis runs many examples inside one test's fixtures, and so takes none
    that are made for each test.
    """
    with jax.enable_x64(True):
        yield


@pytest.fixture
def new_garbage_only():
    """``gc.collect`` looks among what the test makes; among all that the tests before have left it takes seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def line() -> data.Dataset:
    """The exercises' line: 1000 rows, y = 2 x₀ - 3.4 x₁ + 4.2 + 0.01 ε."""
    return data.linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
