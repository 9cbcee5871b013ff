"""How many digits are right? NIST's Statistical Reference Datasets, fitted from every start with the default options.

Prints the right digits (-log10 of the relative error, at most 11: what NIST gives) of the worst parameter and of the
worst standard error of each run. Exit code 0 if every run has as many as asked for, 1 if not, 2 for bad input.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import _common as common
import _nist
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg

_MOST_DIGITS = 11.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit everything, print the table; the exit code."""
    parser = common.Parser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of NIST's .dat files and JSON files")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of the fits (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "gpu"), help="where to compute (JAX's default)")
    parser.add_argument("--digits", type=float, default=8, help="wanted of each parameter (%(default)s)")
    parser.add_argument("--error-digits", type=float, default=4, help="wanted of each standard error (%(default)s)")
    parser.add_argument("--linear-digits", type=float, default=6, help="wanted where the model is linear (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for certify.json")
    given = common.parsed(parser, arguments)
    with jax.enable_x64(given.dtype == "float64"):
        return _run(parser, given)


def _run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    try:
        problems = _problems(given.data)
        out = None if given.out is None else common.writable_folder(given.out)
        device = None if given.device is None else jax.devices(given.device)[0]
    except (ValueError, RuntimeError) as error:
        return common.refuse(parser.prog, error)

    with jax.default_device(device):
        runs = [run for problem in problems for run in _runs(problem, given)]
    passed = sum(run["passed"] for run in runs)
    header = ("data set", "start", "digits", "of errors", "status", "steps", "passed")
    print(common.table(header, [[_cell(run[name]) for name in header] for run in runs]))
    place = device or jax.devices()[0]
    print(f"\n{passed} of {len(runs)} runs passed, {given.dtype} on {place.platform} ({place.device_kind})")
    if out is not None:
        common.save_json(out / "certify.json", {"dtype": given.dtype, "device": str(place), "runs": runs})
    return 0 if passed == len(runs) else 1


def _problems(folder: Path) -> list[_nist.Problem]:
    files = sorted(file for file in folder.glob("*") if file.suffix in (".dat", ".json")) if folder.is_dir() else []
    if not files:
        raise ValueError(f"data must be a folder of NIST's .dat or .json files, got {folder}")
    problems = [_nist.read(file) for file in files]
    return sorted(problems, key=lambda problem: (problem.linear, problem.name))


def _runs(problem: _nist.Problem, wanted: argparse.Namespace) -> list[dict[str, Any]]:
    dtype = jnp.result_type(float)
    x, y = (jnp.asarray(part, dtype) for part in (problem.x, problem.y))
    runs = []
    for number, start in enumerate(problem.starts, start=1):
        fit = jaxreg.curve_fit(problem.model, x, y, start)
        digits = right_digits(fit.params, problem.params)
        errors = math.nan if problem.exact else right_digits(fit.stderr, problem.stderr)
        enough = digits >= (wanted.linear_digits if problem.linear else wanted.digits)
        # The errors of an exact fit are rounding, and those of linear sets follow from the parameters'.
        sure = problem.exact or problem.linear or errors >= wanted.error_digits
        runs.append(
            {
                "data set": problem.name,
                "start": number if start else "–",
                "digits": digits,
                "of errors": errors,
                "status": jaxreg.Status(int(fit.status)).name,
                "steps": int(fit.num_steps),
                "passed": bool(enough and sure),
            }
        )
    return runs


def right_digits(found: Mapping[str, Any], certified: Mapping[str, float]) -> float:
    """The fewest right decimal digits over all names: -log10 of the relative error (the absolute one of a zero)."""
    digits = []
    for name, truth in certified.items():
        error = abs(float(found[name]) - truth) / (abs(truth) or 1)
        digits.append(-math.log10(error) if error > 0 else math.inf)
    worst = min(digits) if all(np.isfinite(float(found[name])) for name in certified) else -math.inf
    return float(np.clip(worst, 0, _MOST_DIGITS))


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.1f}" if math.isfinite(value) else "–"
    return value


if __name__ == "__main__":
    sys.exit(main())
