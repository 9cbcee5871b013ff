"""What do second derivatives say, what do they cost, and where does Newton's step fail?"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxreg
from jaxreg import curvature, data, losses, models, plots

NUM_LARGE = 1500  # parameters of the problem that compares the Hessian with its products


def _of_residual(loss: Any) -> Callable[[jax.Array], jax.Array]:
    return lambda residual: loss(residual, jnp.zeros(()))


FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {  # of one number, of the knob
    "squared": _of_residual(losses.squared),
    "absolute": _of_residual(losses.absolute),
    "Huber": _of_residual(losses.huber),
    "Cauchy": _of_residual(losses.cauchy),
    "sine": jnp.sin,
}
POSITIONS, START = np.linspace(-3, 3, 121), 2.0
DAMPINGS, DAMPED = np.arange(41) / 20, 1.0
TWO_TURNS = np.linspace(-2 * np.pi, 2 * np.pi, 401, dtype=np.float32)


def run(settings: common.Settings) -> common.Answer:
    """What do second derivatives say, what do they cost, and where does Newton's step fail?"""
    train, _ = common.line_data(settings.keys(1)[0])
    sine, found, steps = _one_dimension()
    error = float(np.abs(np.asarray(sine.second, float) + np.sin(TWO_TURNS.astype(float))).max())
    newton = _newton(train)
    cost = _cost(settings)
    reweighted = _reweighted(train)

    with common.figure(settings, "second_derivatives_losses") as ax:
        second = {name: found[name].second for name in FUNCTIONS if name != "sine"}
        plots.lines(POSITIONS, second, xlabel="residual / δ", ylabel="second derivative of the loss", ax=ax)
    with common.figure(settings, "second_derivatives_sine") as ax:
        names = ("sin x", "first derivative", "second derivative")
        plots.lines(TWO_TURNS, dict(zip(names, sine, strict=True)), xlabel="x", ylabel="value", ax=ax)
        ax.set_ylim(-1.1, 1.8)  # room for the legend

    rows: list[list[Any]] = [
        ["sin'' against -sin, largest error", error],
        [f"Hessian of {NUM_LARGE} parameters: memory / MB", cost["hessian_megabytes"]],
        ["one Hessian-vector product: memory / MB", cost["product_megabytes"]],
        ["time of the Hessian / time of a product", cost["time_ratio"]],
        ["λmax by Lanczos against the whole Hessian, relative error", cost["lanczos_error"]],
        ["Newton on the squared loss: error before", newton["squared_before"]],
        ["Newton on the squared loss: error after one step", newton["squared_after"]],
        ["absolute loss: largest entry of the Hessian", newton["absolute_hessian"]],
        [
            "Huber: second derivative inside and outside δ",
            f"{newton['huber_inside']:g} and {newton['huber_outside']:g}",
        ],
        ["Huber at the start: share of rows with curvature", newton["huber_share"]],
        ["Huber: loss at the start", newton["huber_before"]],
        ["Huber: loss after Newton's step", newton["huber_newton"]],
        ["Huber: loss after the damped step", newton["huber_damped"]],
        ["Huber: loss after one step of reweighted least squares", newton["huber_reweighted"]],
        ["Cauchy at the start: λmin", newton["cauchy_smallest"]],
        ["Cauchy: loss at the start", newton["cauchy_before"]],
        ["Cauchy: loss after Newton's step", newton["cauchy_newton"]],
        ["Cauchy: loss after the damped step", newton["cauchy_damped"]],
        ["absolute loss by reweighted least squares: loss at the start", reweighted[0]],
        [f"absolute loss by reweighted least squares: loss after {len(reweighted) - 1} steps", reweighted[-1]],
    ]
    return common.Answer(
        measured={
            "sine_error": error,
            **cost,
            **newton,
            "absolute_loss_by_reweighting": reweighted,
            "steps_of_one_number": {"position": START, "damping": DAMPED, **steps},
        },
        knob=_knob(found),
        figures={
            "second_derivatives_losses": "Second derivatives of four losses: 1 for the squared loss, none for the "
            "absolute, a jump for Huber's, and below 0 for Cauchy's where the residual is large.",
            "second_derivatives_sine": "The sine and its first two derivatives.",
        },
        header=("quantity", "value"),
        rows=rows,
    )


class Derivatives(NamedTuple):
    """A function of one number at some positions."""

    value: jax.Array
    slope: jax.Array
    second: jax.Array


def _derivatives(function: Callable[[jax.Array], jax.Array], x: jax.typing.ArrayLike) -> Derivatives:
    def at(x: jax.Array) -> Derivatives:
        return Derivatives(function(x), curvature.gradient(function, x), curvature.hessian(function, x)[0, 0])

    return jax.vmap(at)(jnp.asarray(x, jnp.float32))


@jax.jit
def _one_dimension() -> tuple[Derivatives, dict[str, Derivatives], dict[str, dict[str, jax.Array]]]:
    """The sine over two turns; all functions at the knob's positions; where Newton's steps lead from one of these."""
    step = {name: partial(curvature.newton_step, function, START) for name, function in FUNCTIONS.items()}
    return (
        _derivatives(jnp.sin, TWO_TURNS),
        {name: _derivatives(function, POSITIONS) for name, function in FUNCTIONS.items()},
        {name: {"newton": step[name](), "damped": step[name](damping=DAMPED)} for name in FUNCTIONS},
    )


def _knob(found: dict[str, Derivatives]) -> common.Knob:
    return common.Knob(
        [
            common.Choice("function", "function", {name: name for name in FUNCTIONS}),
            common.Slider("position", "where you are", len(POSITIONS), int(np.argmin(np.abs(POSITIONS - START)))),
            common.Slider("damping", "damping μ", len(DAMPINGS), 0),
        ],
        {
            "positions": POSITIONS,
            "dampings": DAMPINGS,
            **{name: common.packed(np.stack(derivatives)) for name, derivatives in found.items()},
        },
        charts=2,
    )


def _newton(train: data.Dataset) -> dict[str, float]:
    return {name: float(value) for name, value in jax.jit(_newton_numbers)(train).items()}


def _newton_numbers(train: data.Dataset) -> dict[str, jax.Array]:
    start = common.LINE.init(jax.random.key(0))
    optimum = common.LINE.guess(train.x, train.y)  # type: ignore[misc]
    squared = jaxreg.empirical_risk(common.LINE, losses.squared)
    absolute = jaxreg.empirical_risk(common.LINE, losses.absolute)
    huber = jaxreg.empirical_risk(common.LINE, losses.huber)
    cauchy = jaxreg.empirical_risk(common.LINE, losses.cauchy)

    def error(params: models.Params) -> jax.Array:
        return jnp.abs(ravel_pytree(params)[0] - ravel_pytree(optimum)[0]).max()

    second = jax.vmap(lambda r: curvature.hessian(losses.huber, r, jnp.zeros(()))[0, 0])(jnp.array([0.999, 1.001]))
    residual = common.LINE.apply(start, train.x) - train.y
    smallest, _ = curvature.extreme_eigenvalues(cauchy, start, train)
    stepped = curvature.newton_step(cauchy, start, train)
    damped = curvature.newton_step(cauchy, start, train, damping=2 * jnp.abs(smallest))
    return {
        "squared_before": error(start),
        "squared_after": error(curvature.newton_step(squared, start, train)),
        "absolute_hessian": jnp.abs(curvature.hessian(absolute, start, train)).max(),
        "huber_inside": second[0],
        "huber_outside": second[1],
        "huber_share": jnp.mean(jnp.abs(residual) < 1),
        "huber_before": huber(start, train),
        "huber_newton": huber(curvature.newton_step(huber, start, train), train),
        "huber_damped": huber(curvature.newton_step(huber, start, train, damping=1.0), train),
        "huber_reweighted": huber(_reweighted_step(losses.huber, start, train), train),
        "cauchy_smallest": smallest,
        "cauchy_before": cauchy(start, train),
        "cauchy_newton": cauchy(stepped, train),
        "cauchy_damped": cauchy(damped, train),
    }


def _reweighted(train: data.Dataset, steps: int = 20) -> list[float]:
    """The absolute loss from the start on, by Newton steps on the squared loss reweighted at each."""
    absolute = jaxreg.empirical_risk(common.LINE, losses.absolute)

    def step(params: models.Params, _: None) -> tuple[models.Params, jax.Array]:
        return _reweighted_step(losses.absolute, params, train), absolute(params, train)

    @jax.jit
    def values(start: models.Params) -> jax.Array:
        end, before = jax.lax.scan(step, start, None, length=steps)
        return jnp.append(before, absolute(end, train))

    return np.asarray(values(common.LINE.init(jax.random.key(0)))).tolist()


def _reweighted_step(loss: Any, params: models.Params, train: data.Dataset) -> models.Params:
    weight = losses.irls_weight(loss, common.LINE.apply(params, train.x), train.y)
    squared = jaxreg.empirical_risk(common.LINE, losses.squared)
    return curvature.newton_step(squared, params, train._replace(weight=weight))


def _cost(settings: common.Settings) -> dict[str, float]:
    """Memory (as the compiler plans it) and time of a Hessian and of one Hessian-vector product."""
    model = models.linear(NUM_LARGE, bias=False)
    rows = jax.jit(data.linear, static_argnums=1)(settings.keys(1)[0], 200, np.ones(NUM_LARGE, np.float32))
    risk = jaxreg.empirical_risk(model, losses.squared)
    params, vector = ({"w": np.full(NUM_LARGE, value, np.float32)} for value in (0, 1))
    whole = jax.jit(partial(curvature.hessian, risk)).lower(params, rows).compile()
    product = jax.jit(partial(curvature.hvp, risk)).lower(params, vector, rows).compile()
    largest = jax.jit(partial(curvature.extreme_eigenvalues, risk))(params, rows)[1]
    x = np.asarray(rows.x, float)
    exact = np.linalg.eigvalsh(x @ x.T / 200)[-1]  # the same non-zero spectrum as the Hessian's
    return {
        "num_params": NUM_LARGE,
        "hessian_megabytes": _megabytes(whole),
        "product_megabytes": _megabytes(product),
        "time_ratio": _seconds(lambda: whole(params, rows)) / _seconds(lambda: product(params, vector, rows)),
        "lanczos_error": abs(float(largest) / exact - 1),
    }


def _megabytes(compiled: Any) -> float:
    plan = compiled.memory_analysis()
    return (plan.output_size_in_bytes + plan.temp_size_in_bytes) / 1e6


def _seconds(call: Any) -> float:
    """The best of five, after one to warm up."""
    jax.block_until_ready(call())
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    common.main(run, "second_derivatives")
