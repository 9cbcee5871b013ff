"""What the studies share: a problem, ranges of numbers, and names of losses and optimisers as arguments."""

import argparse
import contextlib
import itertools
import math
from collections.abc import Callable, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import curvature, data, losses, models
from jaxreg._command import columns, output
from jaxreg._command.arguments import Parser, number, parsed, refuse, words
from jaxreg._points import labels
from jaxreg._tables import variables
from jaxreg.objective import empirical_risk
from jaxreg.results import Sweep

MODELS = ("linear", "ohm", "planck")
LOSSES: dict[str, tuple[Any, str | None]] = {  # with the name of the threshold
    "squared": (losses.squared, None),
    "absolute": (losses.absolute, None),
    "huber": (losses.huber, "delta"),
    "pseudo_huber": (losses.pseudo_huber, "delta"),
    "log_cosh": (losses.log_cosh, None),
    "quantile": (losses.quantile, "q"),
    "cauchy": (losses.cauchy, "delta"),
    "tukey": (losses.tukey, "delta"),
}
OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
}
SPANS = (1e-3, 10.0, 240)  # rates by default: from this to this part of 2/λmax, so many


class Problem(NamedTuple):
    """A model with its data."""

    name: str
    model: models.Model
    data: data.Dataset


def parser(description: str | None, *, seeds: int, prog: str | None = None) -> Parser:
    """The arguments that all studies have."""
    made = Parser(prog=prog, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("report"), help="folder for numbers and figures")
    made.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    made.add_argument("--replicates", "--seeds", type=int, default=seeds, help="runs of each kind, each with its seed")
    made.add_argument("--model", choices=MODELS, default="linear", help="what is fitted")
    made.add_argument("--data", type=Path, help="CSV, .xlsx or .parquet with a header; without it, the exercises' data")
    made.add_argument("--x", help="columns of the file, the features: COL[,COL]")
    made.add_argument("--y", help="column of the file, the target")
    made.add_argument("--float64", action="store_true", help="compute in double precision")
    made.add_argument(
        "--learning-rate",
        help="LOW:HIGH:COUNT[:log|lin] (log if not said), or numbers with commas between; "
        f"without it {SPANS[2]} rates around 2/λmax of the first loss",
    )
    return made


def add_sweep(made: argparse.ArgumentParser) -> None:
    """The arguments of studies that go through all optimisers and keep what they have finished."""
    made.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="with optax's other settings")
    made.add_argument("--chunk-size", type=int, help="members computed and stored together")
    made.add_argument("--store", type=Path, help="folder that keeps finished members; the same call goes on from there")


def add_loss(made: argparse.ArgumentParser, *, several: bool) -> None:
    """One loss or several."""
    names = ", ".join(LOSSES)
    said = "with commas between; " if several else ""
    made.add_argument("--loss", default="squared", help=f"{said}{names}; a threshold follows a colon: huber:0.5")


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Those of ``jaxreg.sweep``."""
    return {"chunk_size": given.chunk_size, "store": given.store}


def main(
    study: Callable[[argparse.Namespace], None],
    made: argparse.ArgumentParser,
    prefix: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Read the arguments and run a study; what is wrong with them is one line, and nothing is written."""
    given = parsed(made, arguments)
    if given.float64:
        jax.config.update("jax_enable_x64", True)
    new = not given.out.exists()
    try:
        if given.replicates < 1:
            raise ValueError(f"seeds must be at least 1, got {given.replicates}")
        output.writable_folder(given.out)
        study(given)
    except (ValueError, MemoryError, ImportError) as error:
        if new:
            with contextlib.suppress(OSError):
                given.out.rmdir()
        return refuse(made.prog, error)
    written = sorted(path.name for path in given.out.glob(f"{prefix}*"))
    print(f"\nwritten to {given.out}: {', '.join(written)}")
    return 0


def problem(given: argparse.Namespace) -> Problem:
    """The model and its rows, from the file or as in the exercises."""
    if (given.data is None) != (given.x is None) or (given.data is None) != (given.y is None):
        raise ValueError("data, x and y go together: give all three or none")
    lost = 0
    if given.data is None:
        rows, where = _built_in(given.model, jax.random.key(given.seed)), "the exercises' data"
    else:
        whole = columns.read(given.data)
        names = whole.split("x", given.x)
        table = whole.complete([*names, given.y])
        if given.model != "linear" and len(names) > 1:
            raise ValueError(f"x must be one column for the model {given.model}, got {', '.join(names)}")
        x = np.stack([table.column(name) for name in names], axis=1)
        x = x if given.model == "linear" else x[:, 0]
        rows, where = data.Dataset(jnp.asarray(x, float), jnp.asarray(table.column(given.y), float)), given.data.name
        lost = len(whole.rows) - len(table.rows)
    model = models.linear(rows.x.shape[1]) if given.model == "linear" else getattr(models, given.model)()
    left_out = f" ({lost} more with an empty cell)" if lost else ""
    return Problem(f"{given.model} on {where}, {len(rows.y)} rows{left_out}", model, rows)


def _built_in(model: str, key: jax.Array) -> data.Dataset:
    if model == "linear":
        return data.split(data.linear(key, 2000, jnp.array([2.0, -3.4]), 4.2, noise=0.01), 1000)[0]
    if model == "ohm":
        return data.ohm(key, 1000, 5.1, noise=1.0)
    return data.planck(key, 1e-9 * jnp.arange(300.0, 2000.0), 5020.0, noise=0.01)


def learning_rates(given: argparse.Namespace, posed: Problem, loss: Any) -> np.ndarray:
    """The rates asked for, rising, or those around 2/λmax at the data's own guess."""
    if given.learning_rate is not None:
        return numbers("learning-rate", given.learning_rate)
    rows = posed.data
    point = posed.model.init(jax.random.key(0)) if posed.model.guess is None else posed.model.guess(rows.x, rows.y)
    risk = empirical_risk(posed.model, loss)
    critical = float(jax.jit(lambda params: curvature.critical_learning_rate(risk, params, rows))(point))
    if not math.isfinite(critical):
        raise ValueError("learning-rate must be given for a loss without curvature")
    low, high, count = SPANS
    return np.geomspace(low * critical, high * critical, count, dtype=np.asarray(rows.y).dtype)


def numbers(name: str, text: str) -> np.ndarray:
    """Rising numbers from LOW:HIGH:COUNT[:log|lin] or a list with commas."""
    if ":" not in text:
        found = np.unique([number(name, part) for part in words(name, text)])
    else:
        low, high, count, *spacing = [*text.split(":"), "", ""][: max(3, text.count(":") + 1)]
        first, last = number(name, low), number(name, high)
        if not count.isdecimal() or int(count) < 2 or spacing not in ([], ["log"], ["lin"]):
            raise ValueError(f"{name} must be LOW:HIGH:COUNT[:log|lin] with a COUNT of at least 2, got {text!r}")
        if not first < last:
            raise ValueError(f"{name} must rise from LOW to HIGH, got {text!r}")
        if spacing != ["lin"] and first <= 0:
            raise ValueError(f"{name} must be positive to be spaced by logarithms, got {text!r}")
        found = (np.linspace if spacing == ["lin"] else np.geomspace)(first, last, int(count))
    if found[0] <= 0:
        raise ValueError(f"{name} must be positive, got {found[0]:g}")
    return found.astype(jnp.result_type(float))


def counts(name: str, text: str, *, most: int) -> list[int]:
    """Whole numbers with commas between, each at least 1."""
    found = []
    for part in words(name, text):
        if not part.isdecimal() or not 1 <= int(part) <= most:
            raise ValueError(f"{name} must be whole numbers from 1 to {most}, got {part!r}")
        found.append(int(part))
    return list(dict.fromkeys(found))


def losses_named(text: str) -> list[Any]:
    """Losses by name, with a threshold after a colon."""
    found = []
    for part in dict.fromkeys(words("loss", text)):
        name, _, threshold = part.partition(":")
        if name not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {name!r}")
        loss, option = LOSSES[name]
        if threshold:
            if option is None:
                raise ValueError(f"loss {name} has no threshold, got {part!r}")
            loss = partial(loss, **{option: number(f"{option} of {name}", threshold)})
        found.append(loss)
    return found


def single(given: argparse.Namespace) -> tuple[Problem, Any, int]:
    """The problem, the loss and the batch size of a study that has one of each."""
    posed, found = problem(given), losses_named(given.loss)
    if len(found) > 1:
        raise ValueError(f"loss must be one here, got {given.loss!r}")
    (size,) = counts("batch-size", given.batch_size, most=len(posed.data.y))
    return posed, found[0], size


def combinations(*parts: Sized) -> list[tuple[int, ...]]:
    """The places of a grid, the last part fastest."""
    return list(itertools.product(*(range(len(part)) for part in parts)))


def table(header: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Combinations as a table, the share that failed as the last column."""
    return output.table(header, [[*list(row.values())[:-1], f"{100 * row['share_failed']:.1f} %"] for row in rows])


def save_arrays(path: Path, swept: Sweep) -> None:
    """All axes and values of a sweep by name, as ``numpy.load`` reads them."""
    coordinates: dict[str, np.ndarray] = {}
    for name, points in swept.axes.items():
        coordinates |= labels(name, points, static=name in swept.static)
    leaves = jax.tree.leaves(swept.values)
    named = variables(swept.values, coordinates, leading=len(swept.axes))
    arrays: dict[str, Any] = coordinates | {one.name: leaf for one, leaf in zip(named, leaves, strict=True)}
    np.savez(path, **arrays)
