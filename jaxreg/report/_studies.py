"""What is asked, and what was found of many: models, problems, trainings and sweeps as tables."""

import inspect
from typing import Any

import jax
import numpy as np

from jaxreg import _names
from jaxreg._points import key_kind, labels, num_points, readable
from jaxreg._tables import UNKNOWN, Table, number
from jaxreg.models import Model
from jaxreg.problems import Problem
from jaxreg.problems._arguments import box
from jaxreg.problems._starts import shapes_of_start
from jaxreg.report._fits import counted
from jaxreg.results import Sweep
from jaxreg.status import Status
from jaxreg.training import Training


def parts_of_model(model: Model) -> list[str | Table]:
    """How it was made, and its parameters."""
    params = model.init(jax.random.key(0))
    each = [{name: params[name]} for name in params] if isinstance(params, dict) else [params]  # in their own order
    return [f"Model {_made(model)} of {', '.join(name for one in each for name in _names.of(one))}"]


def _made(model: Any) -> str:
    """A model as it was written, or the function's name."""
    function = model.apply if isinstance(model, Model) else model
    if not hasattr(function, "recipe"):
        return readable(function)
    make, args, keywords, _ = function.recipe
    defaults = [one.default for one in inspect.signature(make).parameters.values()]
    given = [repr(one) for one, default in zip(args, defaults, strict=False) if one != default]
    given += [f"{name}={value!r}" for name, value in keywords.items()]
    return f"{make.__name__.removeprefix('_')}({', '.join(given)})"


def parts_of_problem(problem: Problem) -> list[str | Table]:
    """Its terms, and where its parameters start and may go."""
    terms = []
    for place, (term, form) in enumerate(zip(problem.terms, problem.form.terms, strict=True)):
        there = np.size(term.y) if term.mask is None else int(np.count_nonzero(term.mask))
        loss = "squared" if form.loss is None else readable(form.loss)
        words = [f"{name}={_number(value)}" for name, value in term.keywords.items()]
        sigma = _number(term.sigma) + (", absolute" if form.absolute_sigma else "")
        sigma += "" if term.sigma_x is None else f", of x {_number(term.sigma_x)}"
        model = "prior" if form.is_prior else _made(form.model)
        terms.append([str(place), model, str(there), f"{loss}({', '.join(words)})" if words else loss, sigma])
    shapes = shapes_of_start(problem.p0, problem.bounds, problem.terms, problem.form)
    names = _names.of(shapes)
    known = problem.p0 is not None and _names.structure(problem.p0) == _names.structure(shapes)
    start = map(_number, _names.numbers(problem.p0)[0]) if known else ["guessed"] * len(names)
    bounds = problem.bounds or box((-np.inf, np.inf), shapes)
    lower, upper = (map(_number, _names.numbers(bound)[0]) for bound in bounds)
    free = problem.form.free or (True,) * len(names)
    rows = [
        [name, begin, f"{low} to {high}", "" if fitted else "fixed"]
        for name, begin, low, high, fitted in zip(names, start, lower, upper, free, strict=True)
    ]
    order = {name: place for place, name in enumerate(problem.order)}
    rows.sort(key=lambda row: order.get(row[0], len(order)))
    return [
        Table([["term", "model", "points", "loss", "sigma"], *terms], "Problem"),
        Table([["parameter", "start", "bounds", ""], *rows]),
    ]


def parts_of_training(training: Training) -> list[str | Table]:
    """How it ended, its losses, and the parameters of one; quartiles of many."""
    status, steps = np.asarray(training.status), np.asarray(training.num_steps)
    losses = {"train loss": training.train_loss, "validation loss": training.validation_loss}
    known = {name: np.asarray(one) for name, one in losses.items() if one is not None and np.size(one)}
    if status.ndim:
        last = {f"last {name}": one[..., -1] for name, one in known.items()}
        return [f"{status.size} trainings: {counted(status)}", *_spread(last, status)]
    rows = [[name, _number(one[0]), _number(one[-1]), _number(_least(one))] for name, one in known.items()]
    names, values = _names.of(training.params), _names.numbers(training.params)[0]
    params = [[name, _number(value)] for name, value in zip(names, values, strict=True)]
    return [
        f"{counted(status).removeprefix('1 ')}: {int(steps)} steps",
        Table([["", "first", "last", "least"], *rows]) if rows else "",
        Table([["parameter", "value"], *params]),
    ]


def parts_of_sweep(sweep: Sweep) -> list[str | Table]:
    """Its axes, how its members ended, and the range of each number that a member has."""
    axes = []
    for name, points in sweep.axes.items():
        static = name in sweep.static
        label = labels(name, points, static=static)[name]
        ends = [UNKNOWN] * 2 if not len(label) or key_kind(points) else [_number(label[place]) for place in (0, -1)]
        axes.append([name, str(len(points) if static else num_points(points)), *ends])
    leading = len(sweep.axes)
    leaves = dict(zip(_names.leaf_names(sweep.values), map(np.asarray, jax.tree.leaves(sweep.values)), strict=True))
    ended = {name: one for name, one in leaves.items() if _names.is_status(name) and one.ndim == leading}
    scalars = {name: one for name, one in leaves.items() if one.ndim == leading and name not in ended}
    arrays = [[name, str(one.shape[leading:]), str(one.dtype)] for name, one in leaves.items() if one.ndim > leading]
    return [
        Table([["axis", "points", "first", "last"], *axes], "Sweep"),
        *(f"{name}: {counted(one)}" for name, one in ended.items()),
        *_spread(scalars, next(iter(ended.values()), None)),
        *([Table([["array", "shape of one", "dtype"], *arrays])] if arrays else []),
    ]


def _spread(numbers: dict[str, np.ndarray], status: np.ndarray | None) -> list[Table]:
    """Quartiles of the finite ones of real numbers, and where members have a status of those that are OK."""
    there = True if status is None else status == Status.OK
    rows = []
    for name, values in numbers.items():
        if values.dtype.kind not in "fiub":
            continue
        kept = values[np.isfinite(values) & there].astype(float)
        ends = np.percentile(kept, [0, 25, 50, 75, 100]) if len(kept) else [np.nan] * 5
        rows.append([name, *(number(end, 3) for end in ends)])
    title = "" if status is None else "of the members that are OK"
    return [Table([["value", "least", "25 %", "median", "75 %", "most"], *rows], title)] if rows else []


def _least(values: np.ndarray) -> float:
    return float(np.min(values, initial=np.inf, where=np.isfinite(values))) if np.isfinite(values).any() else np.nan


def _number(value: Any) -> str:
    """A number, or of an array its shape; a word as it is."""
    if np.ndim(value):
        return f"of shape {np.shape(value)}"
    return number(float(value), 5) if np.asarray(value).dtype.kind in "fiu" else str(value)
