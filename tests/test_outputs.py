"""Targets of any shape, features of any form: the same numbers as of the same points in a row."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import uncertainty

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(2)
COLUMN, ROW = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 6))
START = {"c": 0.0, "d": 0.0, "h": 2.0, "w": 1.0}


def spot(params, x):
    square = (x[0] - params["c"]) ** 2 + (x[1] - params["d"]) ** 2
    return params["h"] * jnp.exp(-square / params["w"] ** 2)


IMAGE = np.asarray(spot({"c": 0.1, "d": -0.2, "h": 3.0, "w": 0.7}, (COLUMN, ROW))) + 0.01 * RNG.normal(size=(6, 8))
TIME = np.linspace(0.0, 3.0, 30)
RING = 2 * np.exp((3j - 0.5) * TIME) + 0.01 * (RNG.normal(size=30) + 1j * RNG.normal(size=30))
NEAR = {"a": 1.5, "g": 0.4, "w": 2.9}


def ring(params, t):
    return params["a"] * jnp.exp((1j * params["w"] - params["g"]) * t)


def parts(params, t):
    found = ring(params, t)
    return jnp.concatenate([found.real, found.imag])


def same(found, wanted, names=("params", "stderr", "covariance", "chi2", "dof")):
    for name in names:
        close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-15)
        jax.tree.map(close, getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize(("sigma", "masked"), [("number", False), ("each", True), ("covariance", True)])
def test_an_image_is_its_points_in_a_row(sigma, masked):
    error = {
        "number": 0.1,
        "each": 0.1 + 0.1 * RNG.random((6, 8)),
        "covariance": 0.01 * np.eye(48) + 0.001,
    }[sigma]
    mask = IMAGE > 0.3 if masked else None
    image = IMAGE if mask is None else np.where(mask, IMAGE, np.nan)
    fit = jaxreg.curve_fit(spot, (COLUMN, ROW), image, START, sigma=error, mask=mask)
    flat = jaxreg.curve_fit(
        spot,
        (COLUMN.ravel(), ROW.ravel()),
        image.ravel(),
        START,
        sigma=error.ravel() if sigma == "each" else error,
        mask=None if mask is None else mask.ravel(),
    )
    same(fit, flat)
    assert fit.residuals.shape == (6, 8)
    np.testing.assert_allclose(fit.residuals.ravel(), flat.residuals)


def test_features_may_be_named_and_whole_numbers_stay_so():
    """A model that looks an offset up by the detector's number."""
    which = np.arange(40) % 2

    def model(params, x):
        return params["slope"] * x["time"] + params["offset"][x["detector"]]

    time = np.linspace(0, 1, 40)
    y = 2 * time + np.array([1.0, 3.0])[which]
    start = {"slope": 0.0, "offset": np.zeros(2)}
    for detector in (which, which.astype(np.int16), jnp.asarray(which)):
        fit = jaxreg.curve_fit(model, {"time": time.tolist(), "detector": detector}, y, start)
        np.testing.assert_allclose(fit.params["offset"], [1, 3], rtol=1e-8)
    fits = jaxreg.fit_many(model, {"time": time, "detector": which}, np.stack([y, 2 * y]), start)
    np.testing.assert_allclose(fits.params["offset"], [[1, 3], [2, 6]], rtol=1e-8)
    new = uncertainty.band(fit, {"time": np.array([0.5, 9.0]), "detector": np.array([1, 0])})
    np.testing.assert_allclose(new.prediction, [4, 19], rtol=1e-8)


def test_complex_numbers_are_two_residuals_each():
    fit = jaxreg.curve_fit(ring, TIME, RING, NEAR, sigma=0.01)
    apart = jaxreg.curve_fit(parts, TIME, np.concatenate([RING.real, RING.imag]), NEAR, sigma=0.01)
    same(fit, apart)
    assert fit.dof == 57
    np.testing.assert_allclose(fit.residuals, RING - ring(fit.params, TIME), rtol=1e-10)
    assert re.search(r"points +60\nparameters +3\n", jaxreg.summary(fit))
    band, wanted = uncertainty.band(fit, TIME), uncertainty.band(apart, TIME)
    np.testing.assert_allclose(np.concatenate([band.prediction.real, band.prediction.imag]), wanted.prediction)
    np.testing.assert_allclose(np.concatenate([band.stderr.real, band.stderr.imag]), wanted.stderr)
    good, known = jaxreg.goodness(fit), jaxreg.goodness(apart)
    np.testing.assert_allclose(good.aic, known.aic, rtol=1e-9)
    left = np.sum(np.abs(fit.residuals) ** 2) / np.sum(np.abs(RING - RING.mean()) ** 2)
    np.testing.assert_allclose(good.r_squared, 1 - left, rtol=1e-9)
    assert np.isnan(good.runs)


def test_many_of_them_and_under_a_trace():
    fits = jaxreg.fit_many(ring, TIME, np.stack([RING, 2 * RING]), NEAR)
    same(fits[0], jaxreg.curve_fit(ring, TIME, RING, NEAR))
    images = jaxreg.fit_many(spot, (COLUMN, ROW), np.stack([IMAGE, 2 * IMAGE, IMAGE]), START)
    same(images[1], jaxreg.curve_fit(spot, (COLUMN, ROW), 2 * IMAGE, START))
    problem = jaxreg.problem(spot, (COLUMN, ROW), IMAGE, START)
    height = jax.jit(jax.vmap(lambda y: jaxreg.fit(problem.replace(y=y)).params["h"]))(np.stack([IMAGE, 2 * IMAGE]))
    np.testing.assert_allclose(height, images.params["h"][:2], rtol=1e-8)


def test_a_sandwich_takes_the_outputs_of_a_row_together():
    """Errors that are the same for all outputs of a row: sums of the scores over each row, written out."""
    x = np.linspace(0, 1, 25)
    y = np.stack([1 + x, 2 - x], axis=1) + 0.1 * RNG.normal(size=(25, 1))
    fit = jaxreg.curve_fit(
        lambda p, x: jnp.stack([p["a"] + p["b"] * x, p["c"] - x], axis=1),
        x,
        y,
        {"a": 0.0, "b": 0.0, "c": 0.0},
        covariance="HC0",
    )
    design = np.zeros((25, 2, 3))
    design[:, 0, 0], design[:, 0, 1], design[:, 1, 2] = 1, x, 1
    bread = np.linalg.inv(np.einsum("noi,noj->ij", design, design))
    scores = np.einsum("noi,no->ni", design, fit.residuals)
    np.testing.assert_allclose(fit.covariance, bread @ scores.T @ scores @ bread, rtol=1e-8)
    with pytest.raises(ValueError, match="covariance 'HC3' is for one number a row"):
        jaxreg.fit(fit.problem, covariance="HC3")


@pytest.mark.parametrize("kind", ["pairs", "residual", "parametric"])
def test_a_bootstrap_of_complex_numbers(kind):
    fit = jaxreg.curve_fit(ring, TIME, RING, NEAR)
    spread = uncertainty.bootstrap(jax.random.key(0), fit, kind=kind, num=300)
    for name in NEAR:
        np.testing.assert_allclose(spread.stderr[name], fit.stderr[name], rtol=0.35)


def test_a_masked_point_reaches_nothing_whatever_stands_there():
    mask = np.ones((6, 8), bool)
    mask[2, 3] = mask[4] = False
    spoilt, column = np.where(mask, IMAGE, np.nan), np.where(mask, COLUMN, np.inf)
    found = jaxreg.curve_fit(spot, (column, ROW), spoilt, START, mask=mask)
    same(found, jaxreg.curve_fit(spot, (COLUMN, ROW), IMAGE, START, mask=mask))
    slope = jax.grad(lambda y: jaxreg.curve_fit(spot, (column, ROW), y, START, mask=mask).params["h"])(spoilt)
    assert np.isfinite(slope).all()
    assert (np.asarray(slope)[4] == 0).all()


BAD = {
    "a robust loss of complex numbers": (
        lambda: jaxreg.curve_fit(ring, TIME, RING, NEAR, loss="huber"),
        "loss must be 'squared' for complex y, whose real and imaginary parts are residuals each",
    ),
    "a complex model of real numbers": (
        lambda: jaxreg.curve_fit(ring, TIME, RING.real, NEAR),
        "the model's prediction must be of real numbers, got complex128",
    ),
    "another shape": (
        lambda: jaxreg.curve_fit(lambda p, x: spot(p, x).ravel(), (COLUMN, ROW), IMAGE, START),
        r"the model's prediction must have y's shape \(6, 8\), got \(48,\)",
    ),
    "sigma": (
        lambda: jaxreg.curve_fit(spot, (COLUMN, ROW), IMAGE, START, sigma=np.ones(8)),
        r"sigma must be a number, have y's shape \(6, 8\), or be a covariance of shape \(48, 48\), got shape \(8,\)",
    ),
    "mask": (
        lambda: jaxreg.curve_fit(spot, (COLUMN, ROW), IMAGE, START, mask=np.ones(8, bool)),
        r"mask must have shape \(6, 8\), got \(8,\)",
    ),
    "words among features": (
        lambda: jaxreg.curve_fit(spot, {"x": np.array(["a"])}, IMAGE, START),
        r"x\['x'\] must be of real numbers, got <U1",
    ),
    "no points": (lambda: jaxreg.curve_fit(spot, (COLUMN, ROW), IMAGE[:0], START), "y must have at least one point"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case):
    run, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        run()
