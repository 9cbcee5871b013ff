"""Run the nine exercises: one table, one page, and a verdict on every published number.

Exit code 0 if every published number lies inside its replicates, 1 if not.
"""

import importlib
import importlib.metadata
import json
import platform
import sys
import time
from typing import Any

import _common as common
import _page
import jax
import jax.numpy as jnp
from _page import parts

import jaxreg

EXERCISES = (
    "initialisation",
    "ohm",
    "planck",
    "second_derivatives",
    "reshape",
    "learning_rates",
    "last_batch",
    "losses",
    "shuffling",
)
COLUMNS = ("id", "parameter", "published", "median", "low", "high", "percentile", "inside")


def main() -> int:
    """The exit code of ``run`` as the command line says."""
    return run(common.parse(__doc__))


def run(settings: common.Settings) -> int:
    """Run everything, print the table, write the page; the exit code."""
    began = time.perf_counter()
    answers: dict[str, common.Answer] = {}
    seconds: dict[str, float] = {}
    for number, name in enumerate(EXERCISES, start=1):
        print(f"[{number}/{len(EXERCISES)}] {name} …", end=" ", flush=True)
        started = time.perf_counter()
        answers[name] = importlib.import_module(name).run(settings)
        seconds[name] = time.perf_counter() - started
        print(f"{seconds[name]:.1f} s", flush=True)

    published = [row for answer in answers.values() for row in answer.published]
    outside = [f"{row['id']} {row['parameter']}" for row in published if not row["inside"]]
    environment = _environment(settings)
    results = {
        "published": published,
        "exercises": {name: {**answer.measured, "seconds": seconds[name]} for name, answer in answers.items()},
        "environment": environment,
    }
    common.save_json(settings.out / "results.json", results)
    page = common.plain({name: parts.shown(answer) for name, answer in answers.items()})
    (settings.out / "page.json").write_text(json.dumps(page, allow_nan=False) + "\n", encoding="utf-8")
    _page.write(settings.out)

    print("\n" + common.table(COLUMNS, [[row[column] for column in COLUMNS] for row in published]))
    verdict = f"; outside: {', '.join(outside)}" if outside else ""
    print(f"\n{len(published) - len(outside)} of {len(published)} published numbers inside{verdict}")
    print(f"{time.perf_counter() - began:.0f} s; open {settings.out / 'index.html'}")
    return 1 if outside else 0


def _environment(settings: common.Settings) -> dict[str, Any]:
    packages = ("jax", "jaxlib", "optax", "numpy", "matplotlib")
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version(), "jaxreg": jaxreg.__version__}
        | {name: importlib.metadata.version(name) for name in packages},
        "device": device.device_kind,
        "dtype": str(jnp.zeros(()).dtype),
        "seed": settings.seed,
        "replicates": settings.replicates,
    }


if __name__ == "__main__":
    sys.exit(main())
