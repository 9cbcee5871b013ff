"""SciPy's call against SciPy: the cases of its own tests of ``curve_fit``, told anew and run by both."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxreg import compat, models
from jaxreg.compat import CovarianceWarning, curve_fit

TIGHT = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}  # SciPy's defaults leave eight digits
METHODS = ("lm", "trf", "dogbox")

# One source for both: what is written with jax.numpy here is written with numpy there.
SOURCES: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "line": lambda _: lambda x, a, b: a * x + b,
    "decay": lambda xp: lambda x, a, b: a * xp.exp(-b * x),
    "decay to a level": lambda xp: lambda x, a, b, c: a * xp.exp(-b * x) + c,
    "power": lambda _: lambda x, a: x**a,
    "scaled power": lambda _: lambda x, a, b: b * x**a,
    "wave": lambda xp: lambda x, a: xp.sin(x + a),
    "plane": lambda _: lambda x, a, b: a * x[0] + b + x[1],
    "number": lambda _: lambda _, a: a,
    "no x": lambda _: lambda _, a: a * np.arange(10),
    "parabola less a target": lambda _: lambda x, a, b: a * x**2 + b * x - (4.7 * TEN**2 + 3.5 * TEN + NOISE[:10]),
    "hyperbola": lambda xp: (
        lambda x, s, t, x0, y0, c: y0 + (t - s) / 2 * (x - x0) + (s + t) / 2 * xp.sqrt((x - x0) ** 2 + c**2 / 4)
    ),
    "two peaks": lambda xp: (
        lambda x, m, n, a, b, s, c: a * xp.exp(-((x - m) ** 2) / 2 / s**2) + b * xp.exp(-((x - n) ** 2) / 2 / s**2) + c
    ),
}
OURS, THEIRS = ({name: source(xp) for name, source in SOURCES.items()} for xp in (jnp, np))

NOISE = np.random.default_rng(0).normal(size=50)
TEN = np.arange(10.0)
X4, Y4 = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.2, 9.5, 13.7])
X6, Y6, S6 = np.arange(6), np.array([1, 1, 5, 7, 8, 12]), np.array([1.0, 2, 1, 2, 1, 2])
X11 = np.linspace(0, 1, 11)
Y11 = 2 * np.exp(-2 * X11) + 0.01 * NOISE[:11]
X50 = np.linspace(0, 4, 50)
Y50 = 2.5 * np.exp(-1.3 * X50) + 0.1 * NOISE
OUTLIERS = np.where(np.arange(50) % 9 == 4, Y50 + 2, Y50)
SQUARE = np.random.default_rng(1).normal(size=(11, 11))
COVARIANCE = SQUARE @ SQUARE.T + 11 * np.eye(11)
SPECTRUM = 574.142 + 0.0115 * TEN, [859.0, 997, 1699, 2604, 2013, 1964, 2435, 1550, 949, 841]
PEAKS = [574.18, 574.215, 1300.0, 1300.0, 0.0055, 860.0]
X8 = np.array([-32, -16, -8, 4, 4, 8, 16, 32])
BENT = THEIRS["hyperbola"](X8, -2, 0.4, -1, -5, 9.5) + 0.01 * NOISE[:8]
BENT_IN = {"p0": [-0.8, 1.3, 1, -4, 0.5], "bounds": ([-3, 0, -2, -10, 0], [0, 3, 3, 0, 10])}
HOLES = np.where(np.arange(13) % 5 == 2, np.nan, np.linspace(0, 1.2, 13))
HOLED = np.where(np.arange(13) == 4, np.nan, 2 * np.exp(-2 * np.linspace(0, 1.2, 13)) + 0.01 * NOISE[:13])
BOX = ([1, 0], [1.5, 3])
LOSS = {"f_scale": 1.5, "bounds": (0, np.inf), "sigma": np.full(50, 0.1)}

CASES: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "one parameter": ("power", X4, Y4, {}),
    "two parameters": ("scaled power", X4, Y4, {}),
    "lists": ("line", [1, 2, 3, 4], [3, 5, 7.1, 9], {}),
    "whole numbers": ("line", X6, Y6, {}),
    "single precision": ("line", X6.astype(np.float32), Y6.astype(np.float32), {}),
    "sigma a number": ("line", X6, Y6, {"sigma": 2}),
    "sigma of one": ("line", X6, Y6, {"sigma": [2.0], "absolute_sigma": True}),
    "sigma": ("line", X6, Y6, {"p0": [2, 0], "sigma": S6}),
    "three sigma": ("line", X6, Y6, {"p0": [2, 0], "sigma": 3 * S6}),
    "absolute sigma": ("line", X6, Y6, {"p0": [2, 0], "sigma": 3 * S6, "absolute_sigma": 1}),
    "a covariance": ("decay", X11, Y11, {"sigma": COVARIANCE}),
    "a diagonal covariance": ("decay", X11, Y11, {"sigma": np.diag(1 + X11)}),
    "large numbers beside small ones": ("two peaks", *SPECTRUM, {"p0": PEAKS, "maxfev": 10_000}),
    "no x": ("no x", None, 2 * TEN + NOISE[:10], {}),
    "x of two rows": ("plane", np.stack([X11, X11**2]), Y11, {}),
    "a number for y": ("parabola less a target", TEN, 0, {"sigma": 0.5}),
    "a number from f": ("number", X11, Y11, {}),
    "p0 a number, and bounds": ("wave", np.linspace(-6, 6, 40), np.sin(np.linspace(-6, 6, 40)) + NOISE[:40] / 10,
                                {"p0": 2.1 * np.pi, "bounds": (-3 * np.pi, 3 * np.pi), "method": "trf"}),
    "stopped at a bound": ("decay", X11, Y11, {"bounds": BOX}),
    "an object of bounds": ("decay", X11, Y11, {"bounds": scipy.optimize.Bounds(*BOX), "method": "dogbox"}),
    "a bound on one side": ("decay", X11, Y11, {"bounds": ([0, -np.inf], [0.6, np.inf])}),
    "maxfev with bounds": ("decay", X11, Y11, {"bounds": (0, 5), "maxfev": 100}),
    "max_nfev with bounds": ("decay", X11, Y11, {"bounds": (0, 5), "max_nfev": 100}),
    "single precision and bounds": ("hyperbola", X8.astype(np.float32), BENT.astype(np.float32), BENT_IN),
    "jac by name": ("decay", X11, Y11, {"jac": "3-point", "method": "trf"}),
    "jac": ("decay", X11, Y11, {"jac": lambda x, a, b: np.stack([np.exp(-b * x), -a * x * np.exp(-b * x)]).T}),
    "without the points that are not there": ("decay", HOLES, HOLED, {"nan_policy": "omit"}),
    "and with sigma": ("decay", HOLES, HOLED, {"nan_policy": "omit", "sigma": 1 + np.arange(13.0)}),
    "and with a covariance": ("decay", HOLES, HOLED, {"nan_policy": "omit", "sigma": np.diag(1 + np.arange(13.0))}),
    "of x of two rows": ("plane", np.stack([HOLES, TEN[3] * np.ones(13)]), HOLED, {"nan_policy": "omit"}),
    "huber": ("decay", X50, OUTLIERS, {"loss": "huber", **LOSS, "absolute_sigma": True}),
    "soft_l1": ("decay", X50, OUTLIERS, {"loss": "soft_l1", **LOSS}),
    "cauchy": ("decay", X50, OUTLIERS, {"loss": "cauchy", **LOSS}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_scipy(case: str) -> None:
    name, x, y, options = CASES[case]
    popt, pcov = scipy.optimize.curve_fit(THEIRS[name], x, y, **TIGHT, **options)
    found, matrix = curve_fit(OURS[name], x, y, **TIGHT, **options)
    assert {found.dtype, matrix.dtype} == {np.dtype(float)}
    error = np.sqrt(np.diag(pcov))
    # SciPy's derivatives are differences: at 574 with a width of 0.01, right to four digits.
    np.testing.assert_allclose((found - popt) / error, 0, atol=5e-4)
    np.testing.assert_allclose(matrix / np.outer(error, error), pcov / np.outer(error, error), atol=5e-4)


def test_the_numbers_are_those_that_scipy_publishes() -> None:
    """Its tests' references, for the data of these."""
    assert curve_fit(OURS["power"], X4, Y4)[0] == pytest.approx([1.9149], abs=1e-4)
    popt, pcov = curve_fit(OURS["scaled power"], X4, Y4)
    assert popt == pytest.approx([1.7989, 1.1642], abs=1e-4)
    assert pcov.ravel() == pytest.approx([0.0852, -0.1260, -0.1260, 0.1912], abs=1e-4)
    for factor, absolute, errors in ((3, False, [0.20659803, 0.57204404]), (1, True, [0.30714756, 0.85045308])):
        pcov = curve_fit(OURS["line"], X6, Y6, [2, 0], factor * S6, absolute)[1]
        assert np.sqrt(np.diag(pcov)) == pytest.approx(errors, rel=1e-3)


def test_with_its_derivatives_scipy_finds_the_same_digits() -> None:
    def jac(x: Any, a: float, b: float, c: float) -> np.ndarray:
        return np.stack([np.exp(-b * x), -a * x * np.exp(-b * x), 0 * x + c / c]).T

    y, options = Y50 + 0.5, {"jac": jac, "sigma": 1 + X50, **TIGHT}
    popt, pcov = scipy.optimize.curve_fit(THEIRS["decay to a level"], X50, y, **options)
    found, matrix = curve_fit(OURS["decay to a level"], X50, y, **options)
    np.testing.assert_allclose(found, popt, rtol=1e-8)
    np.testing.assert_allclose(matrix, pcov, rtol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_names_of_one(method: str) -> None:
    popt, pcov, info, mesg, ier = curve_fit(OURS["decay"], X11, Y11, method=method, full_output=True)
    theirs = scipy.optimize.curve_fit(THEIRS["decay"], X11, Y11, method=method, full_output=True, **TIGHT)
    assert popt == pytest.approx(theirs[0], rel=1e-6)
    assert info["fvec"] == pytest.approx(theirs[2]["fvec"], abs=1e-6)
    assert info.keys() == theirs[2].keys()
    assert 5 < info["nfev"] < 30
    assert isinstance(mesg, str)
    assert ier in (1, 2, 3, 4)
    if method == "lm":
        upper = [np.triu(found["fjac"].T[:2]) for found in (info, theirs[2])]
        np.testing.assert_allclose(*map(abs, upper), atol=1e-5)  # the sign of a row is free
        assert np.argsort(info["ipvt"]).tolist() == np.argsort(theirs[2]["ipvt"]).tolist()
        fjac = info["fjac"][np.argsort(info["ipvt"])]
        variance = np.sum(info["fvec"] ** 2) / (len(X11) - 2)
        np.testing.assert_allclose(np.linalg.inv(fjac @ fjac.T) * variance, pcov, rtol=1e-9)
        assert info["qtf"] == pytest.approx([0, 0], abs=1e-9)  # the residuals of an optimum


def test_fvec_is_in_units_of_sigma() -> None:
    options = {"sigma": COVARIANCE, "full_output": True}
    found, theirs = (
        curve_fit(OURS["decay"], X11, Y11, **options),
        scipy.optimize.curve_fit(THEIRS["decay"], X11, Y11, **options, **TIGHT),
    )
    np.testing.assert_allclose(found[2]["fvec"], theirs[2]["fvec"], atol=1e-7)


# ---- what is not known, and what is refused ----


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [("flat", 6, "do not determine popt\\[1\\]"), ("line", 2, "no more points than parameters")],
)
def test_a_covariance_that_nobody_knows_is_infinite(name: str, size: int, words: str) -> None:
    f = {"flat": lambda x, a, b: a * x + 0 * b, "line": OURS["line"]}[name]
    with pytest.warns(CovarianceWarning, match=words):
        popt, pcov = curve_fit(f, X6[:size], Y6[:size], p0=[2, 0])
    with pytest.warns(scipy.optimize.OptimizeWarning):
        theirs, infinite = scipy.optimize.curve_fit(f, X6[:size], Y6[:size], p0=[2, 0])
    assert popt == pytest.approx(theirs, abs=1e-6)
    assert pcov.tolist() == infinite.tolist()


NAN = np.array([1, np.nan, 3])
LINE3 = {"f": OURS["line"], "xdata": [1.0, 2, 3], "ydata": [1.0, 2, 4]}
REFUSED: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "NaN in x": (ValueError, "infs or NaNs", {"xdata": NAN}),
    "NaN in y": (ValueError, "infs or NaNs", {"ydata": NAN, "check_finite": True}),
    "no points": (ValueError, "at least one point", {"xdata": [], "ydata": []}),
    "no points, bounds": (ValueError, "at least one point", {"xdata": [1], "ydata": [], "bounds": (1, 2)}),
    "no parameters": (ValueError, "p0 must be given", {"f": lambda x: x}),
    "parameters without names": (ValueError, "p0 must be given", {"f": lambda x, *p: p[0] * x}),
    "no function": (TypeError, "must be a function", {"f": "a*x + b"}),
    "a start of three": (TypeError, "too many positional arguments", {"p0": [1, 1, 1]}),
    "unknown method": (ValueError, "method must be one of", {"method": "unknown"}),
    "bounds with lm": (ValueError, "without bounds", {"method": "lm", "bounds": (0, 3)}),
    "unknown jac": (ValueError, "jac must be one of", {"method": "trf", "jac": "4-point"}),
    "args": (ValueError, "'args' is not a supported", {"args": (1,)}),
    "option of ours": (TypeError, "jaxreg.curve_fit(model, x, y, p0, sigma_x=…) has it", {"sigma_x": 0.1}),
    "unknown option": (TypeError, "unexpected keyword argument 'tol'", {"tol": 1e-8}),
    "too many parameters": (TypeError, "number of func parameters=5", {"f": OURS["hyperbola"]}),
    "a start outside": (ValueError, "Initial guess is outside", {"p0": [1, 1], "bounds": (1000, 1001)}),
    "bounds that cross": (ValueError, "lower < upper", {"bounds": ([0, 2], [3, 2])}),
    "bounds of three": (ValueError, "bounds must be", {"bounds": ([0, 0, 0], 3)}),
    "sigma of two": (ValueError, "sigma must be a number", {"sigma": [1, 2]}),
    "no covariance": (ValueError, "positive definite", {"sigma": np.ones((3, 3))}),
    "policy propagate": (ValueError, "'propagate'` is not supported by this", {"nan_policy": "propagate"}),
    "policy unknown": (ValueError, "must be one of {None, 'raise', 'omit'}", {"nan_policy": "hi"}),
    "policy raise": (ValueError, "The input contains nan", {"xdata": NAN, "nan_policy": "raise"}),
    "not finite at the start": (ValueError, "x is not finite at row 1",
                                {"xdata": NAN, "check_finite": False, "method": "trf"}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_scipy_refuses_is_refused(case: str) -> None:
    kind, words, options = REFUSED[case]
    with pytest.raises(kind):
        scipy.optimize.curve_fit(**LINE3 | options)
    with pytest.raises(kind) as raised:
        curve_fit(**LINE3 | options)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("jax.numpy", {"f": THEIRS["decay"]}),
        ("'tukey'", {"loss": "arctan", "method": "trf"}),
        ("functions of prediction", {"loss": lambda z: z, "method": "trf"}),
        ("infodict", {"callback": print, "method": "trf"}),
        ("jaxreg.curve_fit takes a Model", {"f": models.ohm()}),
    ],
)
def test_what_cannot_be_honoured_says_what_to_do(words: str, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        curve_fit(**LINE3 | options)


def test_a_budget_that_runs_out_is_an_error() -> None:
    for solver, f in ((scipy.optimize.curve_fit, THEIRS["decay"]), (curve_fit, OURS["decay"])):
        with pytest.raises(RuntimeError, match="Optimal parameters not found"):
            solver(f, X11, Y11, maxfev=2)


def test_it_is_for_the_host() -> None:
    with pytest.raises(ValueError, match=r"under jit.* take jaxreg\.curve_fit"):
        jax.jit(lambda y: curve_fit(OURS["line"], X6, y)[0])(Y6)


# ---- the door ----


def test_the_signature_is_that_of_scipy() -> None:
    ours, theirs = (inspect.signature(fn).parameters.values() for fn in (curve_fit, scipy.optimize.curve_fit))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("outside", [False, True])
def test_double_precision_is_on_inside_and_nowhere_else(outside: bool) -> None:
    """Without a warning, which would be an error here."""
    with jax.enable_x64(outside):
        popt, pcov = curve_fit(OURS["line"], jnp.arange(6.0), Y6.astype(float))
        assert jnp.ones(3).dtype == (np.float64 if outside else np.float32)
    slope, offset = np.polyfit(X6, Y6, 1)
    assert popt == pytest.approx([slope, offset], rel=1e-13)
    assert popt.dtype == pcov.dtype == np.float64
    popt += pcov[0]  # they are the caller's own


def test_a_second_call_traces_nothing() -> None:
    calls: list[int] = []

    class Decay:
        def value(self, x: Any, a: Any, b: Any) -> Any:
            calls.append(1)
            return a * jnp.exp(-b * x)

    law = Decay()
    curve_fit(law.value, X11, Y11)
    traced = len(calls)
    popt, _ = curve_fit(law.value, X11 + 0.1, 2 * Y11, p0=[3, 1])
    assert len(calls) == traced > 0
    assert popt == pytest.approx(curve_fit(OURS["decay"], X11 + 0.1, 2 * Y11)[0], rel=1e-9)


def test_what_tunes_steps_changes_nothing() -> None:
    plain = curve_fit(OURS["decay"], X11, Y11)
    tuned = curve_fit(OURS["decay"], X11, Y11, jac=print, **dict.fromkeys(compat._TUNING, 1))
    assert [one.tolist() for one in tuned] == [one.tolist() for one in plain]
