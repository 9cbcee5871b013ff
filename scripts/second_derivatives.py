"""What do second derivatives say, what do they cost, and where does Newton's step fail?"""

import time
from functools import partial
from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxreg
from jaxreg import curvature, data, losses, models, plots

NUM_LARGE = 1500  # parameters of the problem that compares the Hessian with its products


def run(settings: common.Settings) -> common.Answer:
    """What do second derivatives say, what do they cost, and where does Newton's step fail?"""
    train, _ = common.line_data(settings.keys(1)[0])
    sine = _sine()
    newton = _newton(train)
    cost = _cost(settings)
    reweighted = _reweighted(train)

    names = ("sin x", "first derivative", "second derivative")
    with common.figure(settings, "second_derivatives_sine") as ax:
        plots.lines(sine["x"], dict(zip(names, sine["derivatives"], strict=True)), xlabel="x", ylabel="value", ax=ax)
        ax.set_ylim(-1.1, 1.8)  # room for the legend
    residual, second = _second_derivatives_of_losses()
    with common.figure(settings, "second_derivatives_losses") as ax:
        plots.lines(residual, second, xlabel="residual / δ", ylabel="second derivative of the loss", ax=ax)

    rows = [
        ["sin'' against -sin, largest error", sine["error"]],
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
        title="Second derivatives",
        question="What do second derivatives say, what do they cost, and where does Newton's step fail?",
        text=(
            f"On the squared loss one Newton step goes from an error of {newton['squared_before']:.2g} to "
            f"{newton['squared_after']:.1g}, but a Hessian of {NUM_LARGE} parameters takes "
            f"{cost['hessian_megabytes']:.0f} MB and {cost['time_ratio']:.0f} times as long as a Hessian-vector "
            f"product, which takes {1e3 * cost['product_megabytes']:.0f} kB and is enough for λmax. The absolute loss "
            "has no curvature at all, so Newton's step does not exist, and Huber's only on "
            f"{100 * newton['huber_share']:.0f} % of the rows, so the step takes its loss from "
            f"{newton['huber_before']:.3g} to {newton['huber_newton']:.3g}; steps of reweighted least squares take "
            f"the one to {reweighted[-1]:.2g} in {len(reweighted) - 1}, the other to {newton['huber_reweighted']:.2g} "
            f"in one. Cauchy's Hessian is indefinite far from the optimum (λmin = {newton['cauchy_smallest']:.2g}): "
            f"Newton's step raises the loss from {newton['cauchy_before']:.3g} to {newton['cauchy_newton']:.3g}, the "
            f"damped one lowers it to {newton['cauchy_damped']:.3g}."
        ),
        header=("quantity", "value"),
        rows=rows,
        figures={
            "second_derivatives_sine": "The sine and its first two derivatives.",
            "second_derivatives_losses": "Second derivatives of the losses: none for the absolute, a jump for Huber's.",
        },
        measured={"sine_error": sine["error"], **cost, **newton, "absolute_loss_by_reweighting": reweighted},
    )


def _sine() -> dict[str, Any]:
    x = jnp.linspace(-2 * jnp.pi, 2 * jnp.pi, 401)
    derivatives = jax.jit(lambda x: (jnp.sin(x), curvature.gradient(jnp.sin, x), curvature.hessian(jnp.sin, x)[0, 0]))
    values, first, second = jax.vmap(derivatives)(x)
    return {
        "x": x,
        "derivatives": (values, first, second),
        "error": float(np.abs(np.asarray(second, float) + np.sin(np.asarray(x, float))).max()),
    }


def _second_derivatives_of_losses() -> tuple[jax.Array, dict[str, jax.Array]]:
    residual = jnp.linspace(-3, 3, 601)
    chosen = {
        "squared": losses.squared,
        "absolute": losses.absolute,
        "Huber": losses.huber,
        "pseudo-Huber": losses.pseudo_huber,
        "Cauchy": losses.cauchy,
    }

    def second(loss: Any) -> jax.Array:
        return jax.vmap(lambda r: curvature.hessian(loss, r, jnp.zeros(()))[0, 0])(residual)

    found = jax.jit(lambda: [second(loss) for loss in chosen.values()])()
    return residual, dict(zip(chosen, found, strict=True))


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
