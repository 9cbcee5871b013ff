"""What a fit is asked for: the arguments, read with the columns and the model that they name."""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg import _names
from jaxreg._command import columns
from jaxreg._command.arguments import bounds_of, number, pairs
from jaxreg._command.model import model_of
from jaxreg.models import Apply, Model


class Question(NamedTuple):
    """What is asked, as ``curve_fit`` takes it, and where it comes from."""

    model: Model | Apply
    x: np.ndarray
    y: np.ndarray
    start: dict[str, Any] | None  # None where each group has its own
    options: dict[str, Any]
    table: columns.Table
    columns: Sequence[str]  # of x
    by: Sequence[str]
    notes: list[str]


def question_of(given: argparse.Namespace) -> Question:
    """The question; ValueError says what is wrong with it."""
    whole = columns.read(given.table)
    names, by = whole.split("x", given.x), whole.split("by", given.by) if given.by else []
    weights = [given.sigma] if given.sigma in whole.names else []
    table = whole.complete([*names, given.y, *weights, *by])
    x, y = table.columns(names), table.column(given.y)
    model = model_of(given.model, names)
    params = _params(model, given)

    assigned = {name: number(f"p0 of {name}", text) for name, text in pairs("p0", given.p0, params)}
    fixed = dict(pairs("fixed", given.fixed, params, bare=True))
    assigned |= {name: number(f"fixed {name}", text) for name, text in fixed.items() if text}
    options: dict[str, Any] = {"loss": given.loss, "scale": given.scale, "covariance": given.covariance}
    options |= {"sigma": _sigma(table, given.sigma), "absolute_sigma": given.absolute_sigma}
    if fixed:
        options["fixed"] = {name: name in fixed for name in params}
    if given.bounds:
        options["bounds"] = bounds_of(given.bounds, params)
    guesses = isinstance(model, Model) and model.guess is not None
    start = None if by and guesses and not (assigned or fixed) else _start(model, x, y, assigned, options)
    notes = _notes(whole, table, params, names, given.y)
    if start is not None:
        values = zip(_names.of(start), _names.numbers(start)[0], strict=True)
        notes = ["start: " + ", ".join(f"{name} = {value:.6g}" for name, value in values), *notes]
    return Question(model, x, y, start, options, table, names, by, notes)


def _params(model: Model | Apply, given: argparse.Namespace) -> list[str]:
    """The names of the parameters; a function has those that the start names."""
    if isinstance(model, Model):
        start = jax.eval_shape(model.init, jax.random.key(0))
        if not isinstance(start, dict):
            raise ValueError(f"model must have a dict of parameters, got {_names.structure(start)}")
        return list(start)
    named = [name for name, _ in pairs("p0", given.p0, None)]
    if not named:
        raise ValueError(f"p0 must name every parameter of {given.model}, as in a=1,b=2, got none")
    return named


def _start(
    model: Model | Apply, x: np.ndarray, y: np.ndarray, assigned: dict[str, float], options: dict[str, Any]
) -> dict[str, Any]:
    """What is said, and for the rest the model's guess or its own start."""
    start: dict[str, Any] = {}
    if isinstance(model, Model):
        start = model.init(jax.random.key(0)) if model.guess is None else jax.jit(model.guess)(x, y)
        start = dict(jax.device_get(start))
    if "bounds" in options:
        # What was not said is moved into the box; what was said and lies outside is refused.
        lower, upper = options["bounds"]
        start = {name: np.clip(value, lower[name], upper[name]) for name, value in start.items()}
    return start | {name: np.full(np.shape(start.get(name, 0.0)), value) for name, value in assigned.items()}


def _notes(
    whole: columns.Table, table: columns.Table, params: Sequence[str], names: Sequence[str], y: str
) -> list[str]:
    """What was taken for what."""
    variables = ["x"] if len(names) == 1 else [f"x{place}" for place in range(1, len(names) + 1)]
    said = [f"{variable} is {own!r}" for variable, own in zip(variables, names, strict=True)]
    notes = [f"columns: {', '.join(said)}, y is {y!r}"]
    if namesakes := [name for name in params if name in whole.names]:
        notes.append(f"parameters, not the columns of these names: {', '.join(namesakes)}")
    if lost := len(whole.rows) - len(table.rows):
        notes.append(f"left out for an empty cell: {lost} of {len(whole.rows)} rows")
    if whole.decimal_commas:
        notes.append("commas in numbers were read as decimal points")
    return notes


def _sigma(table: columns.Table, text: str | None) -> np.ndarray | float | None:
    if text is None or text in table.names:
        return None if text is None else table.column(text)
    try:
        return float(text)
    except ValueError:
        return table.column(text)  # refuses, naming the columns there are
