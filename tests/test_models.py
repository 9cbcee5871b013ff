"""Models against constants of nature, integrals and least squares from elsewhere."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.constants as si
from jax.flatten_util import ravel_pytree

from jaxreg import models
from jaxreg.models._model import apply_of

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (50, 3))
WAVELENGTH = 1e-9 * np.arange(300.0, 2000.0)


def planck(wavelength, temperature):
    """Planck's law in float64, with the textbook's formula and SciPy's constants."""
    wavelength = np.asarray(wavelength, np.float64)
    exponent = si.h * si.c / (wavelength * si.k * temperature)
    return 2 * si.h * si.c**2 / wavelength**5 / np.expm1(exponent)


def test_linear_is_a_matrix_product(variant):
    params = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array(0.3)}
    got = variant(models.linear(3).apply)(params, X)
    np.testing.assert_allclose(got, np.asarray(X) @ [1.0, -2.0, 0.5] + 0.3, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model", [models.linear(3), models.linear(3, bias=False), models.ohm()], ids=["b", "no b", "ohm"]
)
def test_features_say_how_the_model_is_linear(model):
    x = X[:, 0] if model.init(KEY).keys() == {"resistance"} else X
    flat, unravel = ravel_pytree(model.init(KEY))
    params = jax.random.normal(KEY, flat.shape)
    np.testing.assert_allclose(model.features(x) @ params, model.apply(unravel(params), x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_the_guess_of_a_line_is_least_squares(bias, variant):
    y = X @ jnp.array([1.0, 2.0, 3.0]) + 4.0 + jax.random.normal(jax.random.key(1), (50,))
    columns = np.c_[np.ones(50), X] if bias else np.asarray(X)
    expected = np.linalg.lstsq(columns, np.asarray(y))[0]
    got = variant(models.linear(3, bias=bias).guess)(X, y)
    np.testing.assert_allclose(ravel_pytree(got)[0], expected, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_the_guess_of_a_line_of_nearly_dependent_columns_is_least_squares():
    x = np.random.default_rng(0).normal(size=(40, 2))
    x[:, 1] = x[:, 0] + 1e-4 * x[:, 1]
    y = x @ [1.0, 2.0] + np.sin(np.arange(40))
    expected = np.linalg.lstsq(np.c_[np.ones(40), x], y)[0]
    got = jax.jit(models.linear(2).guess)(x, y)
    np.testing.assert_allclose(ravel_pytree(got)[0], expected, rtol=1e-9)  # the condition number squared times eps


def test_the_guess_of_ohm_is_least_squares(variant):
    current = X[:, 0]
    voltage = 5.0 * current + X[:, 1]
    got = variant(models.ohm().guess)(current, voltage)["resistance"]
    np.testing.assert_allclose(got, np.linalg.lstsq(np.asarray(current)[:, None], np.asarray(voltage))[0][0], rtol=1e-5)


def test_the_init_of_a_line_has_the_scale_asked_for():
    params = models.linear(10_000, scale=0.01).init(KEY)
    np.testing.assert_allclose(np.std(params["w"]), 0.01, rtol=0.03)  # 1/√(2·10,000) is 0.7 %
    assert params["b"] == 0


def test_the_init_scale_may_be_traced():
    scales = jnp.array([0.0, 1.0, 1000.0])
    w = jax.vmap(lambda scale: models.linear(2, scale=scale).init(KEY)["w"])(scales)
    np.testing.assert_allclose(w, np.outer(scales, w[1]), rtol=1e-6)


def test_the_initial_temperature_may_be_traced():
    got = jax.vmap(lambda kelvin: models.planck(temperature=kelvin).init(KEY)["temperature"])(jnp.array([300.0, 5e4]))
    np.testing.assert_array_equal(got, [300.0, 5e4])


@pytest.mark.parametrize("temperature", [2.7, 300.0, 5020.0, 50_000.0])
def test_planck_holds_in_float32_from_ultraviolet_to_radio(temperature, variant):
    wavelength = np.geomspace(1e-8, 1.0, 200).astype(np.float32)
    with np.errstate(over="ignore"):  # the textbook's form overflows, and is then zero as it should be
        expected = planck(wavelength, temperature)
    got = np.asarray(variant(models.planck_radiance)(wavelength, jnp.float32(temperature)))
    seen = expected > 1e-30  # below, float32 ends
    assert np.isfinite(got).all()
    # exp(-u) turns the rounding of u, 1e-7, into u·1e-7, and u is at most 100 or so where something is seen.
    np.testing.assert_allclose(got[seen], expected[seen], rtol=3e-5)


def test_planck_ends_in_rayleigh_and_jeans():
    got = models.planck_radiance(jnp.float32(1.0), 5020.0)
    np.testing.assert_allclose(got, 2 * si.c * si.k * 5020.0, rtol=3e-6)


@pytest.mark.usefixtures("x64")
def test_planck_integrates_to_stefan_and_boltzmann():
    wavelength = np.geomspace(1e-8, 1e-1, 100_000)
    total = np.trapezoid(models.planck_radiance(wavelength, 5020.0), wavelength)
    np.testing.assert_allclose(np.pi * total, si.sigma * 5020.0**4, rtol=1e-6)


def test_the_slope_by_temperature_is_finite_where_the_radiance_vanishes():
    slope = jax.grad(lambda kelvin: models.planck_radiance(3e-7, kelvin))
    assert np.isfinite(slope(300.0))
    assert np.isfinite(slope(1.0))


@pytest.mark.parametrize("gain", [True, False])
def test_the_guess_of_planck_is_near_the_truth(gain):
    factor = 1.04 if gain else 1.0
    got = models.planck(gain=gain).guess(jnp.asarray(WAVELENGTH), factor * jnp.asarray(planck(WAVELENGTH, 5020.0)))
    np.testing.assert_allclose(got["temperature"], 5020.0, rtol=2e-3)  # the grid of 1 nm at 577 nm
    assert got.keys() == ({"temperature", "gain"} if gain else {"temperature"})
    if gain:
        np.testing.assert_allclose(got["gain"], 1.04, rtol=0.01)


def test_the_gain_multiplies():
    params = {"temperature": jnp.array(5020.0), "gain": jnp.array(1.5)}
    got = models.planck(gain=True).apply(params, jnp.asarray(WAVELENGTH))
    np.testing.assert_allclose(got, 1.5 * planck(WAVELENGTH, 5020.0), rtol=1e-5)


@pytest.mark.parametrize("x", [jnp.zeros(5), jnp.zeros((5, 2))])
def test_features_of_another_width_are_refused(x):
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got"):
        models.linear(3).apply({"w": jnp.zeros(3), "b": jnp.zeros(())}, x)


@pytest.mark.parametrize("params", [{"w": jnp.zeros(3)}, {"w": jnp.zeros(2), "b": jnp.zeros(())}, jnp.zeros(4)])
def test_params_of_another_shape_are_refused(params):
    with pytest.raises(ValueError, match=r"params must have the shapes \{'b': \(\), 'w': \(3,\)\}, got"):
        models.linear(3).apply(params, jnp.zeros((5, 3)))


def test_a_plain_function_is_a_model_and_a_word_is_not():
    assert apply_of(np.add)(1.0, 2.0) == 3.0
    with pytest.raises(ValueError, match="model must be a Model or a function f\\(params, x\\), got str"):
        apply_of("linear")


def test_a_mistake_of_the_functions_own_stays_what_it_is():
    for function in (lambda params, x: params + x, max):  # the latter does not tell its signature
        with pytest.raises(TypeError, match=r"unsupported operand|not supported between"):
            apply_of(function)(1.0, "a")


PEAKS = {"amplitude": 2.0, "center": 0.4, "width": 0.1}
DECAYS = {"amplitude": 2.0, "rate": 3.0}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("offset", [None, 0.7], ids=["no offset", "offset"])
@pytest.mark.parametrize(("make", "truth"), [(models.gaussian, PEAKS), (models.exponential, DECAYS)])
def test_a_guess_is_near_the_truth_in_any_order_and_units(make, truth, offset):
    model = make(offset=offset is not None)
    guess = jax.jit(model.guess)
    for sign in (1, -1):
        units = {"amplitude": sign * 1e9, "offset": 1e9, "center": 1e-6, "width": 1e-6, "rate": 1e6}
        numbers = truth | ({} if offset is None else {"offset": offset})
        params = {name: value * units[name] for name, value in numbers.items()}
        generator = np.random.default_rng(0)
        x = 1e-6 * generator.permutation(np.linspace(0.0, 1.0, 80))
        y = np.asarray(model.apply(params, x)) + 0.02e9 * generator.normal(size=80)
        got = guess(x, y)
        assert got.keys() == params.keys()
        # Near enough for a fit: the noise is a hundredth of the amplitude.
        for name, value in params.items():
            np.testing.assert_allclose(got[name], value, atol=0.25 * abs(truth.get(name, 1.0) * units[name]))


def test_a_guess_of_a_growth_through_more_than_single_precision_holds():
    """exp(60·1.5) is 1e39; the curve itself ends at 2e13."""
    x = jnp.linspace(-1.0, 0.5, 600)
    guess = jax.jit(models.exponential().guess)(x, 2 * jnp.exp(60 * x))
    np.testing.assert_allclose(guess["rate"], -60, rtol=0.01)
    np.testing.assert_allclose(guess["amplitude"], 2, rtol=0.2)  # exp(0.5·1 % of the rate)


def test_a_peak_and_a_decay_are_their_formulas():
    x = np.linspace(0.0, 1.0, 11)
    peak = {**PEAKS, "offset": 0.5}
    expected = 2.0 * np.exp(-(((x - 0.4) / 0.1) ** 2) / 2) + 0.5
    np.testing.assert_allclose(models.gaussian(offset=True).apply(peak, x), expected, rtol=1e-5)
    np.testing.assert_allclose(models.exponential().apply(DECAYS, x), 2.0 * np.exp(-3.0 * x), rtol=1e-5)


def test_the_inits_have_the_params_of_the_models():
    for make in (models.gaussian, models.exponential):
        for offset in (False, True):
            model = make(offset=offset)
            assert model.apply(model.init(KEY), X[:, 0]).shape == (50,)


MADE = [
    lambda: models.linear(2),
    lambda: models.linear(2, scale=jnp.array(0.3)),
    models.ohm,
    lambda: models.planck(gain=True),
    lambda: models.exponential(offset=True),
    models.gaussian,
    lambda: models.expression("a*exp(-b*t/k)", independent="t", constants={"k": 2.0}),
]


@pytest.mark.parametrize("make", MADE)
def test_a_model_goes_through_pickle(make):
    """And two of the same settings are one, of which a program is compiled once."""
    model = make()
    again = pickle.loads(pickle.dumps(model))
    params, x = model.init(jax.random.key(0)), jnp.ones((3, 2))
    x = x if "w" in params else x[:, 0]
    np.testing.assert_array_equal(again.apply(again.init(jax.random.key(0)), x), model.apply(params, x))
    assert again._fields == model._fields
    assert again.rowwise
    if make is not MADE[1]:
        assert again == model == make()
        assert hash(again) == hash(model)
    marked = models.rowwise(models.positional(planck))
    assert pickle.loads(pickle.dumps(marked)) == marked
