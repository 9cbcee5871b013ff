"""What the exercise scripts share: their arguments, the exercises' set-up, judging published numbers, saving."""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _lesson
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _page.turned import Choice as Choice
from _page.turned import Knob as Knob
from _page.turned import Slider as Slider
from _page.turned import packed as packed
from matplotlib.axes import Axes

import jaxreg
from jaxreg import batching, data, losses, models
from jaxreg._command import figures
from jaxreg._command.arguments import Parser as Parser
from jaxreg._command.arguments import parsed as parsed
from jaxreg._command.arguments import refuse as refuse
from jaxreg._command.arguments import write_any_letter
from jaxreg._command.figures import drawing as drawing
from jaxreg._command.output import plain as plain
from jaxreg._command.output import save_json as save_json
from jaxreg._command.output import table as table
from jaxreg._command.output import text as text
from jaxreg._command.output import writable_folder as writable_folder

write_any_letter()

PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())
TRUE_W = jnp.array(PUBLISHED["common"]["true_w"], jnp.float32)
TRUE_B = PUBLISHED["common"]["true_b"]
NOISE = PUBLISHED["common"]["noise"]
NUM_TRAIN = PUBLISHED["common"]["num_train"]
NUM_VALIDATION = PUBLISHED["common"]["num_validation"]
BATCH_SIZE = PUBLISHED["common"]["batch_size"]
STEPS_PER_EPOCH = -(-NUM_TRAIN // BATCH_SIZE)
MOST_EPOCHS = 20  # of an exercise on the line
LINE = models.linear(2)


class Settings(NamedTuple):
    """What the command line says."""

    seed: int
    replicates: int
    out: Path

    def keys(self, count: int | None = None) -> jax.Array:
        """One random key for each replicate."""
        return jax.random.split(jax.random.key(self.seed), self.replicates if count is None else count)


class Answer(NamedTuple):
    """What an exercise found; ``docs/exercises/NAME.md`` says it."""

    measured: dict[str, Any]  # the numbers, which the text names
    knob: Knob
    figures: dict[str, str]  # file name without ending -> caption; the first stands for the knob without scripts
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    published: list[dict[str, Any]] = []  # noqa: RUF012


Exercise = Callable[[Settings], Answer]


@jax.jit
def line_data(key: jax.Array) -> tuple[data.Dataset, data.Dataset]:
    """The exercises' line: 1000 training and 1000 validation rows."""
    rows = data.linear(key, NUM_TRAIN + NUM_VALIDATION, TRUE_W, TRUE_B, noise=NOISE)
    return data.split(rows, NUM_TRAIN)


class Replicates(NamedTuple):
    """The exercises' line drawn anew for each seed; all fields have a leading axis of seeds."""

    key: jax.Array  # for the training
    train: data.Dataset
    validation: data.Dataset
    order: jax.Array  # (epochs, rows); drawn once here, where each program that reshuffles would draw it again


@functools.cache  # several exercises start from the same lines
def line_replicates(settings: Settings, count: int | None = None) -> Replicates:
    """As many lines as the settings say, or the first ``count`` of them (more are drawn where there are fewer)."""
    if count is None or count > settings.replicates:
        return _draw_lines(settings.keys(count))
    return _first(line_replicates(settings), count)


@functools.partial(jax.jit, static_argnums=1)
def _first(lines: Replicates, count: int) -> Replicates:
    return jax.tree.map(lambda leaf: leaf[:count], lines)


@jax.jit
@jax.vmap
def _draw_lines(key: jax.Array) -> Replicates:
    key_data, key_train = jax.random.split(key)
    key_order = jax.random.split(key_train)[1]  # as ``train`` does
    order = jax.lax.map(batching.epoch_order("reshuffled", NUM_TRAIN, key_order), jnp.arange(MOST_EPOCHS))
    train, validation = line_data(key_data)
    return Replicates(key_train, train, validation, order)


@functools.partial(jax.jit, static_argnames=("loss", "epochs", "reduction", "remainder"))
def fit_lines(
    lines: Replicates, learning_rate: jax.typing.ArrayLike, *, epochs: int, **options: Any
) -> jaxreg.Training:
    """``fit_line`` of each seed; compiled once for all exercises with the same options."""

    def member(lines: Replicates) -> jaxreg.Training:
        rows = {"validation": lines.validation, "order": lines.order[:epochs]}
        return fit_line(lines.key, learning_rate, lines.train, epochs=epochs, **rows, **options)

    return jax.vmap(member)(lines)


def fit_line(
    key: jax.Array,
    learning_rate: jax.typing.ArrayLike,
    train: data.Dataset,
    *,
    loss: Any = losses.squared,
    epochs: int = 3,
    **options: Any,
) -> jaxreg.Training:
    """The exercises' training: plain SGD on minibatches of 32, reshuffled every epoch."""
    return jaxreg.train(
        LINE,
        loss,
        train,
        optimizer=optax.sgd(learning_rate),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        key=key,
        **options,
    )


def line_parameters(result: jaxreg.Training) -> dict[str, np.ndarray]:
    """w[0], w[1] and b of each member, NaN for the members that diverged."""
    failed = np.asarray(result.status) != jaxreg.Status.OK
    values = {"w[0]": result.params["w"][..., 0], "b": result.params["b"]}
    if result.params["w"].shape[-1] > 1:
        values["w[1]"] = result.params["w"][..., 1]
    return {name: np.where(failed, np.nan, np.asarray(value)) for name, value in values.items()}


def relative_error(params: Any) -> jax.Array:
    """The largest relative error of w and b against the truth; lane by lane under vmap."""
    w = jnp.abs(params["w"] / TRUE_W - 1).max(axis=-1)
    return jnp.maximum(w, jnp.abs(params["b"] / TRUE_B - 1))


def published_run(run_id: str) -> dict[str, Any]:
    """The settings and numbers of a published run."""
    return next(run for run in PUBLISHED["runs"] if run["id"] == run_id)


def judge_line(run_id: str, result: jaxreg.Training) -> list[dict[str, Any]]:
    """One row for each published weight and bias of a run against its replicates."""
    run, samples = published_run(run_id), line_parameters(result)
    numbers = {f"w[{index}]": value for index, value in enumerate(run["w"])} | {"b": run["b"]}
    return [judge(run_id, name, number, samples[name]) for name, number in numbers.items()]


def judge(run_id: str, parameter: str, published: Any, samples: Any) -> dict[str, Any]:
    """Whether a published number lies between the 0.5 and 99.5 percentiles of its replicates.

    A published nan is inside if at least 0.5 % of the replicates are not finite; its percentile is their share in
    percent. The other columns are over the finite replicates.
    """
    values = np.asarray(samples, float)
    finite = values[np.isfinite(values)]
    low, median, high = np.percentile(finite, [0.5, 50, 99.5]) if len(finite) else [math.nan] * 3
    number = float(published)
    if math.isnan(number):
        percentile = 100 * (1 - len(finite) / len(values))
        inside = percentile >= 0.5
    else:
        percentile = 100 * (np.mean(finite < number) + np.mean(finite == number) / 2) if len(finite) else math.nan
        inside = bool(low <= number <= high)
    return {
        "id": run_id,
        "parameter": parameter,
        "published": number,
        "median": float(median),
        "low": float(low),
        "high": float(high),
        "percentile": float(percentile),
        "inside": bool(inside),
    }


def figure(
    settings: Settings, name: str, *, size: tuple[float, float] = (6.2, 4.4)
) -> contextlib.AbstractContextManager[Axes]:
    """Axes of one figure in the folder of the settings."""
    return figures.figure(settings.out, name, size=size)


def parse(description: str | None, arguments: Sequence[str] | None = None) -> Settings:
    """Read the arguments that all scripts have."""
    parser = Parser(description=description)
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for numbers and figures (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (%(default)s)")
    parser.add_argument("--replicates", type=int, default=1000, help="seeds to a distribution (%(default)s)")
    given = parsed(parser, arguments)
    try:
        if not 0 <= given.seed < 2**32:
            raise ValueError(f"seed must be between 0 and 2³² - 1, got {given.seed}")
        if given.replicates < 1:
            raise ValueError(f"replicates must be at least 1, got {given.replicates}")
        return Settings(given.seed, given.replicates, writable_folder(given.out))
    except ValueError as error:
        parser.error(str(error))


def main(exercise: Exercise, name: str) -> None:
    """Run one exercise from the command line: save its numbers and figures, print the answer."""
    settings = parse(exercise.__doc__)
    answer = exercise(settings)
    save_json(settings.out / f"{name}.json", {"published": answer.published, **answer.measured})
    words = _lesson.words(name, plain(answer.measured), settings._asdict())
    print(f"{_lesson.answer(words)}\n\n{table(answer.header, answer.rows)}")
    if answer.published:
        columns = ("id", "parameter", "published", "median", "low", "high", "percentile", "inside")
        print("\n" + table(columns, [[row[column] for column in columns] for row in answer.published]))
    print(f"\nwritten to {settings.out}: {name}.json, {', '.join(f'{figure}.svg/.png' for figure in answer.figures)}")
