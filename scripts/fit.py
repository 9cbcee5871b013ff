"""Fit a curve to columns of a CSV file: a report, a figure and the numbers as JSON.

The model is a name (linear, exponential, exponential-offset, gaussian, gaussian-offset, ohm, planck, planck-gain) or a
formula such as "a*exp(-b*x) + c", in which x is the column of --x (its own name serves too; of several columns they are
x1, x2, …). Parameters start at --p0, else where the model guesses, else at 1. Computes in float64. Exit code 0 if the
fit converged, 1 if not, 2 for bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _columns
import _common as common
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from jaxreg import models, plots, report, uncertainty
from jaxreg.status import is_optimum

MODELS = {
    "exponential": models.exponential(),
    "exponential-offset": models.exponential(offset=True),
    "gaussian": models.gaussian(),
    "gaussian-offset": models.gaussian(offset=True),
    "ohm": models.ohm(),
    "planck": models.planck(),
    "planck-gain": models.planck(gain=True),
}


class Question(NamedTuple):
    """What is asked, as ``curve_fit`` takes it."""

    model: jaxreg.Model
    x: np.ndarray
    y: np.ndarray
    start: dict[str, Any]
    options: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print the report, write figure and numbers; the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    with jax.enable_x64(True):
        return _run(parser, given)


def _run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    try:
        question = _question(given)
        fit = jaxreg.curve_fit(question.model, question.x, question.y, question.start, **question.options)
        out = common.writable_folder(given.out)
    except ValueError as error:
        return common.refuse(parser.prog, error)
    print(report.summary(fit, level=given.level))
    print("\nstart: " + ", ".join(f"{name} = {float(value):.6g}" for name, value in question.start.items()))
    bends = _nonlinearity(fit, given.loss)
    if bends is not None:
        effects, intrinsic = (float(part) for part in bends)
        print(f"curvature: parameter effects {effects:.2g}, intrinsic {intrinsic:.2g} (doubt errors above 0.3)")
    _draw(fit, given, out)
    common.save_json(out / "fit.json", _numbers(question, fit, given, bends))
    print(f"\nwritten to {out}: fit.json, fit.svg/.png")
    return 0 if is_optimum(int(fit.status)) else 1


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser(description=__doc__)
    parser.add_argument("table", type=Path, help="CSV file with a header")
    parser.add_argument("--model", required=True, help="name of a model, or a formula")
    parser.add_argument("--x", required=True, help="column, or several separated by commas")
    parser.add_argument("--y", required=True, help="column")
    parser.add_argument("--sigma", help="column of standard deviations, or one number")
    parser.add_argument(
        "--absolute-sigma", action="store_true", help="sigma is in y's units, not just relative weights"
    )
    parser.add_argument("--p0", default="", help="start, as in a=1,b=2")
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


def _question(given: argparse.Namespace) -> Question:
    if not 0 < given.level < 1:
        raise ValueError(f"level must be between 0 and 1, got {given.level}")
    table = _columns.read(given.table)
    columns = [name.strip() for name in given.x.split(",")]
    x, y = table.columns(columns), table.column(given.y)
    model = _model(given.model, columns, table.names)
    names = list(model.init(jax.random.key(0)))

    assigned = {name: _float("p0", text) for name, text in _assignments("p0", given.p0, names)}
    fixed = _assignments("fixed", given.fixed, names, bare=True)
    assigned |= {name: _float("fixed", text) for name, text in fixed if text}
    start = dict(model.init(jax.random.key(0)) if model.guess is None else model.guess(jnp.asarray(x), jnp.asarray(y)))
    start |= {name: jnp.asarray(value) for name, value in assigned.items()}

    options: dict[str, Any] = {"loss": given.loss, "scale": given.scale, "covariance": given.covariance}
    options |= {"sigma": _sigma(table, given.sigma), "absolute_sigma": given.absolute_sigma}
    if fixed:
        options["fixed"] = {name: name in dict(fixed) for name in names}
    if given.bounds:
        lower, upper = _bounds(_assignments("bounds", given.bounds, names), names)
        options["bounds"] = lower, upper
        # What was not said is moved into the box; what was said and lies outside is refused.
        start |= {name: jnp.clip(start[name], lower[name], upper[name]) for name in names if name not in assigned}
    return Question(model, x, y, start, options)


def _model(text: str, columns: Sequence[str], header: Sequence[str]) -> jaxreg.Model:
    numbered = ["x"] if len(columns) == 1 else [f"x{number}" for number in range(1, len(columns) + 1)]
    if text in MODELS:
        if len(columns) > 1:
            raise ValueError(f"x must be one column for the model {text}, got {len(columns)}")
        return MODELS[text]
    if text == "linear":
        weights = ["w"] if len(columns) == 1 else [f"w{number}" for number in range(1, len(columns) + 1)]
        text = " + ".join(["b", *(f"{weight}*{name}" for weight, name in zip(weights, numbered, strict=True))])
    elif text.isidentifier():
        raise ValueError(f"model must be a formula or one of linear, {', '.join(MODELS)}, got {text!r}")
    used = models.expression_names(text)
    variables = [own if own in used else number for own, number in zip(columns, numbered, strict=True)]
    model = models.expression(text, independent=variables)
    for name in model.init(jax.random.key(0)):
        if name in header:
            raise ValueError(
                f"the model's names must be parameters or in --x, got {name!r}, another column of the file"
            )
    return model


def _assignments(option: str, text: str, names: Sequence[str], *, bare: bool = False) -> list[tuple[str, str]]:
    """Pairs of a parameter's name and what is written behind its equals sign."""
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise ValueError(f"{option} must name parameters of the model, {', '.join(names)}, got {name!r}")
        if not (value or (bare and not equals)):
            raise ValueError(f"{option} must be written as in {names[0]}=1, got {part!r}")
        pairs.append((name, value))
    return pairs


def _float(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} must hold numbers, got {text!r}") from None


def _bounds(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    lower, upper = dict.fromkeys(names, -np.inf), dict.fromkeys(names, np.inf)
    for name, text in pairs:
        low, colon, high = text.partition(":")
        if not colon:
            raise ValueError(f"bounds must be written as in {name}=0:10, got {text!r}")
        lower[name] = _float("bounds", low) if low.strip() else -np.inf
        upper[name] = _float("bounds", high) if high.strip() else np.inf
        if not lower[name] <= upper[name]:
            raise ValueError(f"bounds must be in order, got {name}={text}")
    return lower, upper


def _sigma(table: _columns.Table, text: str | None) -> np.ndarray | float | None:
    if text is None or text in table.names:
        return None if text is None else table.column(text)
    try:
        return float(text)
    except ValueError:
        return table.column(text)  # refuses, naming the columns there are


def _nonlinearity(fit: jaxreg.Fit, loss: str) -> uncertainty.Nonlinearity | None:
    """The warning number of the error bars, where it is defined."""
    if loss != "squared" or not is_optimum(int(fit.status)) or int(fit.dof) < 1:
        return None
    found = uncertainty.nonlinearity(fit)
    return found if np.isfinite(found.intrinsic) else None


def _draw(fit: jaxreg.Fit, given: argparse.Namespace, out: Path) -> None:
    y = np.asarray(fit.problem.y)
    with common.drawing(out, "fit"):
        if fit.problem.x.ndim == 1:
            plots.fit(fit, level=given.level, xlabel=given.x, ylabel=given.y)
        else:
            fitted = y - np.asarray(fit.residuals)
            series = {"data": y, "fitted": fitted}
            plots.points(fitted, series, xlabel=f"fitted {given.y}", ylabel=given.y)


def _numbers(
    question: Question, fit: jaxreg.Fit, given: argparse.Namespace, bends: uncertainty.Nonlinearity | None
) -> dict[str, Any]:
    distribution = "normal" if given.absolute_sigma else "t"  # of the intervals of such a fit
    low, high = uncertainty.intervals(fit, level=given.level)
    return {
        "model": given.model,
        "status": jaxreg.Status(int(fit.status)).name,
        "params": fit.params,
        "stderr": fit.stderr,
        "interval": {"level": given.level, "distribution": distribution, "lower": low, "upper": high},
        "covariance": {"names": sorted(question.start), "matrix": fit.covariance},
        "chi2": fit.chi2,
        "dof": fit.dof,
        "num_steps": fit.num_steps,
        "at_bound": fit.at_bound,
        "curvature": None if bends is None else bends._asdict(),
        "start": question.start,
        "options": {**question.options, "sigma": given.sigma},
        "residuals": fit.residuals,
    }


if __name__ == "__main__":
    sys.exit(main())
