"""Fit a curve to columns of a file (CSV, .xlsx, .parquet): a report, a figure and the numbers as JSON.

The model is a name (linear, exponential, exponential-offset, gaussian, gaussian-offset, ohm, planck, planck-gain); or a
formula such as "a*exp(-b*x) + c", in which x is the column of --x (its own name serves too; of several columns they are
x1, x2, …) and every other name is a parameter; or FILE.py:NAME, a function f(params, x) or a Model. Parameters start at
--p0, else where the model guesses, else at 1. Rows with an empty cell are left out. With --by each group of rows is
fitted, to a table. Computes in float64. Exit code 0 if the fit (every fit) converged, 1 if not, 2 for bad input.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg import _names, report, uncertainty
from jaxreg._command import groups
from jaxreg._command.arguments import Parser, parsed, refuse
from jaxreg._command.model import failure
from jaxreg._command.output import save_json, writable_folder
from jaxreg._command.question import Question, question_of
from jaxreg.least_squares import Fit, curve_fit
from jaxreg.status import Status, is_optimum


def main(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Fit, print the report, write numbers and figure; the exit code."""
    parser = _parser(prog)
    given = parsed(parser, arguments)
    with jax.enable_x64(True):
        return _run(parser.prog, given)


def _run(program: str, given: argparse.Namespace) -> int:
    try:
        if not 0 < given.level < 1:
            raise ValueError(f"level must be between 0 and 1, got {given.level}")
        question = question_of(given)
        if given.by:
            fits = groups.fitted(question, given)
        else:
            fit = curve_fit(question.model, question.x, question.y, question.start, **question.options)
        out = writable_folder(given.out)
    except (ValueError, ImportError) as error:
        return refuse(program, error)
    except Exception as error:
        if not (said := failure(given.model, error)):
            raise
        return refuse(program, ValueError(said))
    if given.by:
        return groups.told(fits, question, given, out)
    bends = _nonlinearity(fit, given.loss)
    save_json(out / "fit.json", _numbers(question, fit, given, bends))
    print(report.summary(fit, level=given.level))
    print("\n" + "\n".join(question.notes))
    if bends is not None:
        effects, intrinsic = (float(part) for part in bends)
        print(f"curvature: parameter effects {effects:.2g}, intrinsic {intrinsic:.2g} (doubt errors above 0.3)")
    _draw(fit, question, given, out)
    print(f"\nwritten to {out}: fit.json, fit.svg/.png")
    return 0 if is_optimum(int(fit.status)) else 1


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog=prog, description=__doc__)
    parser.add_argument("table", type=Path, help="file with a header: text with , ; or tabs, .xlsx or .parquet")
    parser.add_argument("--model", required=True, help="name of a model, a formula, or FILE.py:NAME")
    parser.add_argument("--x", required=True, help="column, or several separated by commas")
    parser.add_argument("--y", required=True, help="column")
    parser.add_argument("--by", help="column, or several: a fit of each group of rows, as a table")
    parser.add_argument("--sigma", help="column of standard deviations, or one number")
    parser.add_argument(
        "--absolute-sigma", action="store_true", help="sigma is in y's units, not just relative weights"
    )
    parser.add_argument("--p0", default="", help="start, as in a=1,b=2; of a function all parameters")
    parser.add_argument("--bounds", default="", help="as in a=0:10,b=:5")
    parser.add_argument("--fixed", default="", help="kept at a value, a=1, or at its start, a")
    parser.add_argument("--loss", default="squared", help="squared, huber, soft_l1, cauchy, tukey (%(default)s)")
    parser.add_argument(
        "--scale", choices=("mad",), help="measure the loss's threshold in an estimated scale, not in sigma"
    )
    parser.add_argument("--covariance", default="classic", help="classic, HC0 to HC3, hessian (%(default)s)")
    parser.add_argument("--level", type=float, default=0.95, help="of intervals and band (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for figure and numbers")
    return parser


def _nonlinearity(fit: Fit, loss: str) -> uncertainty.Nonlinearity | None:
    """The warning number of the error bars, where it is defined."""
    if loss != "squared" or not is_optimum(int(fit.status)) or int(fit.dof) < 1:
        return None
    found = uncertainty.nonlinearity(fit)
    return found if np.isfinite(found.intrinsic) else None


def _draw(fit: Fit, question: Question, given: argparse.Namespace, out: Path) -> None:
    from jaxreg import plots
    from jaxreg._command.figures import drawing

    # Between two dollars matplotlib would read a formula.
    xlabel, ylabel = (name.replace("$", r"\$") for name in (question.columns[0], given.y))
    y = np.asarray(fit.problem.y)
    with drawing(out, "fit"):
        if fit.problem.x.ndim == 1:
            plots.fit(fit, level=given.level, xlabel=xlabel, ylabel=ylabel)
        else:
            fitted = y - np.asarray(fit.residuals)
            plots.points(fitted, {"data": y, "fitted": fitted}, xlabel=f"fitted {ylabel}", ylabel=ylabel)


def _numbers(
    question: Question, fit: Fit, given: argparse.Namespace, bends: uncertainty.Nonlinearity | None
) -> dict[str, Any]:
    distribution = "normal" if given.absolute_sigma else "t"  # of the intervals of such a fit
    low, high = uncertainty.intervals(fit, level=given.level)
    return {
        "model": given.model,
        "columns": {"x": question.columns, "y": given.y},
        "notes": question.notes,
        "status": Status(int(fit.status)).name,
        "params": fit.params,
        "stderr": fit.stderr,
        "interval": {"level": given.level, "distribution": distribution, "lower": low, "upper": high},
        "covariance": {"names": _names.of(fit.params), "matrix": fit.covariance},
        "chi2": fit.chi2,
        "dof": fit.dof,
        "num_steps": fit.num_steps,
        "at_bound": fit.at_bound,
        "curvature": None if bends is None else bends._asdict(),
        "start": question.start,
        "options": {**question.options, "sigma": given.sigma},
        "residuals": fit.residuals,
    }
