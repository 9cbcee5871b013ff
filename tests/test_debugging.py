"""What JAX gives for hunting an error works on healthy calls: ``debug_nans``, ``disable_jit``, strict promotion."""

import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg
from jaxreg import batching, curvature, data, gradient_noise, losses, models, studies, uncertainty
from jaxreg.losses import _kinds

KEY = jax.random.key(0)
X = np.linspace(0, 1, 12, dtype=np.float32)
Y = (2 * np.exp(-3 * X) + 0.01 * np.cos(50 * X)).astype(np.float32)
MASK = np.arange(12) != 3
P0 = {"a": 1.0, "k": 1.0}


def decay(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-params["k"] * x)


@functools.cache
def given() -> SimpleNamespace:
    """Made before a mode is on."""
    rows = data.linear(KEY, 20, jnp.array([2.0, -3.4]), 4.2, noise=0.1)
    fit = jaxreg.curve_fit(decay, X, Y, P0)
    at_bound = jaxreg.curve_fit(decay, X, Y, P0, bounds=(0.0, 2.5))
    params = {"w": jnp.zeros(2), "b": jnp.zeros(())}
    return SimpleNamespace(rows=rows, fit=fit, at_bound=at_bound, params=params, y=jnp.asarray(Y))


LINE = models.linear(2)


def fitted(**options: Any) -> Any:
    return jaxreg.curve_fit(options.pop("model", decay), X, Y, options.pop("p0", P0), **options)


def many(**options: Any) -> Any:
    return jaxreg.fit_many(decay, X, np.stack([Y, 2 * Y]), P0, **options)


def trained(rate: Any = 0.1, loss: Any = losses.huber, **options: Any) -> Any:
    made = {
        "optimizer": optax.sgd(rate),
        "epochs": 2,
        "batch_size": 8,
        "key": KEY,
        "validation": given().rows,
    } | options
    return jaxreg.train(LINE, loss, given().rows, **made)


def swept(**options: Any) -> Any:
    return jaxreg.sweep(lambda rate: trained(rate, **options).train_loss, {"rate": np.array([0.1, 0.2], np.float32)})


def risk() -> Any:
    return jaxreg.empirical_risk(LINE, losses.squared)


def studied(study: Any, **options: Any) -> Any:
    rows, rates = jax.tree.map(np.asarray, given().rows), np.array([0.1, 9.0], np.float32)
    return study(LINE, losses.squared, rows, learning_rate=rates, batch_size=8, key=KEY, **options)


def after(name: str, **options: Any) -> Any:
    return getattr(uncertainty, name)(given().fit, **options)


FIT = {
    "one": lambda: fitted(mask=MASK, bounds=(0.0, 2.5), sigma=np.full(12, 0.1, np.float32), absolute_sigma=True),
    "sandwich": lambda: fitted(sigma=np.eye(12, dtype=np.float32), covariance="HC3", fixed={"a": True, "k": False}),
    "robust": lambda: fitted(loss="huber", scale="mad", covariance="hessian"),
    "absolute": lambda: fitted(model=models.expression("a*x + b"), p0=None, loss="absolute"),
    "guess": lambda: fitted(model=models.exponential(offset=True), p0=None),
    "peak": lambda: models.gaussian(offset=True).guess(jnp.asarray(X), given().y),
    "many": lambda: many(mask=np.stack([MASK, MASK]), bounds=(0.0, 4.0)),
    "many robust": lambda: many(loss="soft_l1", residuals=False),
    "together": lambda: many(shared=("k",), bounds=(0.0, 4.0)),
    "together robust": lambda: many(shared=("k",), loss="soft_l1", scale="mad", mask=MASK),
}
AFTER = {
    "intervals": lambda: [uncertainty.intervals(fit) for fit in (given().fit, given().at_bound)],
    "band": lambda: after("band", x=X, kind="prediction"),
    "profile": lambda: after("profile", num=5),
    "profile_intervals": lambda: after("profile_intervals"),
    "profile_contour": lambda: after("profile_contour", parameters=["a", "k"], num=4),
    "bootstrap": lambda: uncertainty.bootstrap(KEY, given().fit, num=4),
    "nonlinearity": lambda: after("nonlinearity"),
    "summary": lambda: [jaxreg.summary(fit) for fit in (given().fit, given().at_bound)],
    "raise_if_failed": lambda: jaxreg.raise_if_failed(given().fit),
}
TRAIN = {
    "huber": trained,
    "squared": lambda: trained(loss=losses.squared, params=given().params, remainder="drop", reduction="sum"),
    "diverging": lambda: trained(rate=1e38, loss=losses.squared, epochs=3),
    "epochs_to": lambda: jaxreg.training.epochs_to(jnp.array([1.0, 0.1]), 1e-3),
    "diverging sweep": lambda: swept(optimizer=optax.sgd(1e38), loss=losses.squared, epochs=3),
    "range_test": lambda: studied(studies.range_test, steps=4, num_seeds=2),
    "predicted": lambda: studied(studies.predicted_training, epochs=2),
    "usable_rates": lambda: studies.usable_rates(jnp.array([0.1, 0.2]), 1.0, jnp.array([2.0, jnp.inf])),
}
REST = {
    "linear": lambda: data.linear(KEY, 4, jnp.ones(2), 1.0, noise=0.1),
    "ohm": lambda: data.ohm(KEY, 4, 2.0, noise=0.1),
    "planck": lambda: data.planck(KEY, jnp.linspace(4e-7, 1e-6, 5), 5000.0, gain_spread=0.1, noise=0.1),
    "split": lambda: data.split(given().rows, 5, key=KEY),
    "corrupt": lambda: [
        data.corrupt_target(given().rows, 1, 9.0),
        data.corrupt_leverage(given().rows, 1, 9.0),
        data.corrupt_fraction(KEY, given().rows, 0.2, 9.0),
        data.heavy_tailed_noise(KEY, given().rows, 0.1),
    ],
    "batching": lambda: batching.gather(given().rows, batching.minibatches(batching.sorted_order(given().rows.y), 8)),
    "orders": lambda: [batching.adversarial_order(given().rows.x), batching.epoch_order("reshuffled", 5, KEY)(1)],
    "losses": lambda: [
        jax.grad(lambda r, loss=loss: loss(r, given().y).sum())(2 * given().y) for loss in _kinds._KNOWN
    ],
    "irls": lambda: losses.irls_weight(losses.huber, given().y, 2 * given().y),
    "hessian": lambda: [
        curvature.gradient(risk(), given().params, given().rows),
        curvature.hessian(risk(), given().params, given().rows),
        curvature.hvp(risk(), given().params, given().params, given().rows),
        curvature.newton_step(risk(), given().params, given().rows),
    ],
    "spectrum": lambda: [
        curvature.extreme_eigenvalues(risk(), given().params, given().rows),
        curvature.condition_number(risk(), given().params, given().rows),
        curvature.critical_learning_rate(risk(), given().params, given().rows),
        curvature.spectral_radius(jnp.eye(2)),
    ],
    "lanczos": lambda: curvature.extreme_eigenvalues(
        lambda p: (p**2 * (1 + p[0])).sum(), jnp.ones(300), lanczos_steps=4
    ),
    "predict": lambda: curvature.predict_training(risk(), given().params, given().rows, learning_rate=0.1).loss(
        jnp.arange(3)
    ),
    "flat": lambda: curvature.predict_training(lambda p: p[0] ** 2, jnp.ones(2), learning_rate=3.0).loss(jnp.arange(3)),
    "epoch_map": lambda: curvature.epoch_map(lambda p, s: s * p @ p, jnp.ones(2), jnp.ones(2), learning_rate=0.1),
    "noise": lambda: [
        gradient_noise.mean_square_edge(risk(), given().params, given().rows, batch_size=4),
        gradient_noise.expected_training(
            risk(), given().params, given().rows, learning_rate=0.1, batch_sizes=np.array([4, 4])
        ),
    ],
    "planck_radiance": lambda: models.planck().guess(X + 1e-6, models.planck_radiance(X + 1e-6, 5000.0)),
    "expression": lambda: models.expression("a*x + b*max(x, 2) + c**2").apply(
        {"a": 1.0, "b": 2.0, "c": 3.0}, jnp.asarray(X)
    ),
}
CALLS = FIT | AFTER | TRAIN | REST


@pytest.mark.parametrize("name", CALLS)
def test_a_healthy_call_is_one_where_nans_raise_and_dtypes_do_not_mix(name: str) -> None:
    given()
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
        jax.block_until_ready(CALLS[name]())


@pytest.mark.parametrize("name", ["one", "many", "intervals", "huber", "diverging sweep", "range_test", "spectrum"])
def test_and_where_nothing_is_jitted(name: str) -> None:
    given()
    with jax.disable_jit():
        jax.block_until_ready(CALLS[name]())
