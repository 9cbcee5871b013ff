"""``fit_many(…, shared=…)``: against SciPy on the stacked problem, and against sums over all rows written in NumPy."""

import copy
import functools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

import jaxreg
from jaxreg import Status, models

pytestmark = pytest.mark.usefixtures("x64_module")

M, N = 6, 6  # as many data sets as points
traced = []


def decay(params: Any, x: Any) -> Any:
    traced.append(x)
    return params["a"] * jnp.exp(-params["k"] * x) + params["c"]


@functools.cache
def data() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    x = np.sort(draw.uniform(0, 3, (M, N)), axis=1)
    sigma = draw.uniform(0.02, 0.1, (M, N))
    y = draw.uniform(1, 3, (M, 1)) * np.exp(-1.3 * x) + draw.uniform(-1, 1, (M, 1))
    mask = np.ones((M, N), bool)
    mask[1, 4:] = mask[4, 0] = mask[2, 1::2] = False
    return {"x": x, "y": y + sigma * draw.standard_normal((M, N)), "sigma": sigma, "mask": mask}


def fitted(k: Any = 1.0, model: Any = decay, **changes: Any) -> Any:
    """All calls of one program."""
    x, y, sigma, mask = (data() | changes).values()
    p0 = {"k": k, "c": np.linspace(0, 0.5, M), "a": np.full(M, 1.0)}
    return jaxreg.fit_many(model, x, y, p0, sigma=sigma, mask=mask, p0_each=True, shared=("k",))


def changed(name: str, place: Any, value: Any) -> dict[str, np.ndarray]:
    array = data()[name].copy()
    array[place] = value
    return {name: array}


def rows(k: Any, a: Any, c: Any, sets: Any, **changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of these data sets and their derivatives by k, and then by a and c of each: a matrix of all."""
    given = data() | changes
    residual, jacobian = [], []
    for place, (own, offset, one) in enumerate(zip(a, c, sets, strict=True)):
        x, y, sigma, mask = (given[name][one] for name in ("x", "y", "sigma", "mask"))
        law = np.exp(-k * x)
        columns = np.zeros((len(x), 1 + 2 * len(sets)))
        columns[:, 0], columns[:, 1 + 2 * place], columns[:, 2 + 2 * place] = -own * x * law, law, 1
        residual.append(((own * law + offset - y) / sigma)[mask])
        jacobian.append((columns / sigma[:, None])[mask])
    return np.concatenate(residual), np.concatenate(jacobian)


def by_scipy(sets: Any = range(M), **changes: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """[k, a₀, c₀, a₁, …], their covariance, χ²."""

    def both(values: Any) -> tuple[np.ndarray, np.ndarray]:
        return rows(values[0], values[1::2], values[2::2], sets, **changes)

    start = np.concatenate([[1.0], np.tile([1.0, 0.2], len(sets))])
    best = least_squares(lambda v: both(v)[0], start, lambda v: both(v)[1], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    residual, jacobian = both(best.x)
    dof = len(residual) - len(best.x)
    return best.x, residual @ residual / dof * np.linalg.inv(jacobian.T @ jacobian), residual @ residual


def close(found: Any, wanted: Any, rtol: float) -> None:
    np.testing.assert_allclose(found, wanted, rtol=rtol)


def check(fit: Any, sets: Any = range(M), **changes: Any) -> None:
    """Against SciPy, of the data sets that took part."""
    best, cov, chi2 = by_scipy(sets, **changes)
    sets = np.array(sets)
    close(fit.params["k"], best[0], 1e-8)
    close(fit.params["a"][sets], best[1::2], 1e-8)
    close(fit.chi2, chi2, 1e-8)
    close(fit.covariance, cov[:1, :1], 1e-6)
    for place, one in enumerate(sets):
        order = [1 + 2 * place, 2 + 2 * place, 0]
        close(fit.each.covariance[one], cov[np.ix_(order, order)], 1e-6)
    close(fit.cross_covariance(sets[0], sets[-1]), cov[1:3, -2:], 1e-6)
    close(fit.cross_covariance(sets[0], sets[0]), cov[1:3, 1:3], 1e-6)
    close(fit.stderr["c"][sets], np.sqrt(np.diagonal(cov))[2::2], 1e-6)
    close(fit.stderr["k"], cov[0, 0] ** 0.5, 1e-6)
    assert fit.dof == sum(data()["mask"][one].sum() - 2 for one in sets) - 1 == fit.dof_each.sum() - 1


# ---- Numbers, and data sets that cannot be fitted ----


def test_unequal_data_sets_are_fitted_as_scipy_fits_them_stacked():
    fit = fitted()
    assert fit.status == Status.OK
    assert (fit.status_each == Status.OK).all()
    check(fit)
    close(fit.chi2_each.sum(), fit.chi2, 1e-12)
    assert (np.isnan(fit.residuals) == ~data()["mask"]).all()
    assert {name: np.shape(leaf) for name, leaf in fit.params.items()} == {"a": (M,), "c": (M,), "k": ()}
    jaxreg.raise_if_failed(fit)
    again = fitted(k=np.full(M, 1.0))  # a start that all share may come with the axis, and nothing is traced again
    seen = len(traced)
    other = fitted(**changed("y", 0, data()["y"][1]))
    assert again.params["k"] == fit.params["k"] != other.params["k"]
    assert len(traced) == seen


def test_a_shared_start_of_several_numbers_needs_no_axis_either():
    x, y, *_ = data().values()

    def law(p, x):
        return p["a"] * jnp.exp(-p["k"][0] * x) + p["k"][1]

    for k in ([1.0, 0.2], np.tile([1.0, 0.2], (M, 1))):
        p0 = {"k": np.array(k), "a": np.ones(M)}
        fit = jaxreg.fit_many(law, x, y, p0, p0_each=True, shared=["k"], max_steps=0)
        assert fit.params["k"].tolist() == [1.0, 0.2]


def test_a_data_set_that_fails_is_left_out_and_disturbs_no_other():
    lost = fitted(**changed("y", (3, 2), np.nan))
    assert lost.status_each.tolist() == [0, 0, 0, Status.NONFINITE, 0, 0]
    assert lost.status == Status.OK
    check(lost, [0, 1, 2, 4, 5])
    for name, value, status in (
        ("mask", [False] * N, Status.INVALID_INPUT),
        ("mask", [True] + [False] * (N - 1), Status.INVALID_INPUT),  # fewer points than its own parameters
        ("sigma", -1.0, Status.INVALID_INPUT),
        ("x", np.nan, Status.NONFINITE),
        ("x", 1.0, Status.SINGULAR),  # takes part, says nothing of the rate, and does not know its own two
    ):
        other = fitted(**changed(name, 3, value))
        assert other.status_each.tolist() == [0, 0, 0, status, 0, 0], (name, value)
        assert other.status == Status.OK
        close(other.params["k"], lost.params["k"], 1e-12)
        close(np.delete(other.params["a"], 3), np.delete(lost.params["a"], 3), 1e-12)
        assert np.isfinite(other.stderr["k"])
        assert np.isnan(other.stderr["a"][3])
    with pytest.raises(RuntimeError, match=r"1 of 6 data sets failed: \[3\] SINGULAR, not determined: .* a .* c"):
        jaxreg.raise_if_failed(other)
    with pytest.raises(RuntimeError, match=r"1 of 6 data sets failed: \[3\] NONFINITE, y is not finite at row 2"):
        jaxreg.raise_if_failed(lost)
    jaxreg.raise_if_failed(lost, allowed=[Status.NONFINITE])
    check(fitted(**changed("y", ~data()["mask"], np.nan)))  # where nobody looks


def test_a_joint_fit_that_fails_says_so():
    nothing = fitted(y=np.full((M, N), np.nan))
    assert nothing.status == Status.NONFINITE
    assert (nothing.status_each == Status.NONFINITE).all()
    assert nothing.params["k"] == 1
    assert np.isnan(nothing.stderr["k"])
    assert nothing.dof == 0
    with pytest.raises(RuntimeError, match=r"failed: NONFINITE, y is not finite at row 0 .* in data set \[0\]"):
        jaxreg.raise_if_failed(nothing)
    start = fitted(k=np.nan)
    assert start.status == Status.NONFINITE
    with pytest.raises(RuntimeError, match=r"failed: NONFINITE, the start of k is not finite"):
        jaxreg.raise_if_failed(start)
    still = fitted(x=np.ones((M, N)))
    assert still.status == Status.SINGULAR
    assert (still.status_each == Status.SINGULAR).all()
    assert np.isnan(still.covariance).all()
    assert np.isnan(still.stderr["a"]).all()
    with pytest.raises(RuntimeError, match="failed: SINGULAR, not determined: "):
        jaxreg.raise_if_failed(still)


def test_units_do_not_matter():
    fit, small = fitted(), fitted(y=1e-12 * data()["y"], sigma=1e-12 * data()["sigma"])
    assert small.status == Status.OK
    close(small.params["k"], fit.params["k"], 1e-9)
    close(small.params["a"], 1e-12 * fit.params["a"], 1e-8)
    close(small.stderr["c"], 1e-12 * fit.stderr["c"], 1e-7)


def peak(params: Any, x: Any) -> Any:
    shape = jnp.exp(-0.5 * ((x - params["center"]) / params["width"]) ** 2)
    return params["height"] * shape + params["slope"] * x + params["bend"] * x**2


def peaks(unit: float = 1.0, max_steps: int = 60, **start: Any) -> Any:
    """Eight peaks of one width over one background, in a unit; starts beside the truth, but for those given."""
    draw = np.random.default_rng(3)
    x, height, center = np.linspace(0, 10, 60), draw.uniform(0.5, 1.5, 8), draw.uniform(3, 7, 8)
    of_each = zip(height, center, strict=True)
    y = np.stack([a * np.exp(-0.5 * ((x - b) / 0.8) ** 2) + 0.05 * x - 0.004 * x**2 for a, b in of_each])
    y += 0.02 * draw.standard_normal(y.shape)
    p0 = {"height": np.full(8, unit), "center": center + 0.3, "width": 1.0, "slope": 0.0, "bend": 0.0} | start
    shared = ("width", "slope", "bend")
    return jaxreg.fit_many(
        peak, x, unit * y, p0, p0_each=True, shared=shared, sigma=0.02 * unit, absolute_sigma=True, max_steps=max_steps
    )


@pytest.mark.parametrize(
    ("unit", "start"),
    [
        pytest.param(1e-12, {"height": np.ones(8)}, id="own starts of 1"),
        pytest.param(1e-12, {"height": np.ones(8), "slope": 1.0, "bend": 1.0}, id="all starts of 1"),
        pytest.param(1e-12, {"slope": 1.0}, id="one shared start of 1"),
        pytest.param(1.0, {"slope": 100.0, "bend": -100.0}, id="shared starts a thousand times too large"),
        pytest.param(1.0, {"height": 100 * np.cos(np.arange(8.0))}, id="own starts of either sign"),
        pytest.param(1.0, {"width": 3.0}, id="a shared shape far off"),
    ],
)
def test_starts_may_be_far_off_in_size(unit, start):
    best, fit = peaks(), peaks(unit, **start)
    assert fit.status == Status.OK
    close(fit.chi2, best.chi2, 1e-9)
    close(fit.params["width"], best.params["width"], 1e-7)


def test_a_data_set_whose_derivative_by_shared_parameters_is_not_finite_is_left_out():
    def root(params: Any, x: Any) -> Any:
        return jnp.sqrt((params["k"] * x) ** 2) + params["c"]

    x = np.tile(np.linspace(1, 2, 8), (3, 1))
    y = 2 * x + np.arange(3)[:, None] + 0.01 * np.cos(7 * x)
    x[1, 3] = 0.0  # there the derivative by k is infinity times nothing
    fit = jaxreg.fit_many(root, x, y, {"k": 1.0, "c": 0.0}, shared=("k",))
    assert fit.status == Status.OK
    assert fit.each.status.tolist() == [Status.OK, Status.NONFINITE, Status.OK]
    close(fit.params["k"], np.polyfit(x[0], y[0], 1)[0], 1e-9)  # the third differs by a constant


def test_a_data_set_that_cannot_begin_leaves_no_trace_of_its_unit():
    def law(params: Any, x: Any) -> Any:
        return params["a"] * jnp.exp(-params["k"] * x) + params["c"] * jnp.sqrt(x)

    x = np.tile(np.linspace(0.1, 3, 12), (6, 1))
    y = (
        np.linspace(1, 3, 6)[:, None] * np.exp(-1.3 * x)
        + 0.1 * np.sqrt(x)
        + 0.02 * np.cos(9 * x + np.arange(6)[:, None])
    )
    y[3] *= 64
    p0 = {"k": 1.0, "a": 1.0, "c": 0.0}
    without = jaxreg.fit_many(law, np.delete(x, 3, 0), np.delete(y, 3, 0), p0, shared=("k",), sigma=0.02)
    x[3, 0] = -1.0
    fit = jaxreg.fit_many(law, x, y, p0, shared=("k",), sigma=0.02)
    assert fit.status == without.status == Status.OK
    assert fit.each.status[3] == Status.NONFINITE
    close([fit.params["k"], fit.stderr["k"], fit.chi2], [without.params["k"], without.stderr["k"], without.chi2], 1e-8)


@pytest.mark.parametrize("start", [(1.0, 1.0), (10.0, 0.2), (1000.0, 5.0)], ids=str)
def test_steps_of_one_data_set_end_nowhere_without_a_derivative(start):
    def law(params: Any, x: Any) -> Any:
        return jnp.sqrt(params["a"]) * jnp.exp(-params["k"] * x)  # at a = 0, the bound, the derivative is infinite

    x = np.linspace(0.1, 3, 12)
    y = np.linspace(0.05, 2, 6)[:, None] * np.exp(-1.3 * x) + 0.02 * np.cos(9 * x + np.arange(6)[:, None])
    p0 = dict(zip(("a", "k"), start, strict=True))
    fit = jaxreg.fit_many(law, x, y, p0, shared=("k",), sigma=0.02, bounds={"a": (0.0, np.inf)})
    law_of = {"model": models.expression("b*exp(-k*x)"), "shared": ("k",), "sigma": 0.02}
    best = jaxreg.fit_many(x=x, y=y, p0={"b": 1.0, "k": 1.0}, **law_of)
    assert fit.status == Status.OK
    close(fit.params["k"], best.params["k"], 1e-6)


@pytest.mark.parametrize("unit", [1e-4, 1e-8])
def test_an_exponent_may_start_at_zero_in_any_unit(unit):
    def law(params: Any, x: Any) -> Any:
        return jnp.exp(params["l"] - params["k"] * x)

    x = np.linspace(0.1, 3, 12)
    y = unit * np.linspace(1, 3, 6)[:, None] * np.exp(-1.3 * x)
    fit = jaxreg.fit_many(law, x, y, {"l": 0.0, "k": 1.0}, shared=("k",), sigma=0.02 * unit)
    assert fit.status == Status.OK
    close(fit.params["k"], 1.3, 1e-6)


def test_a_global_fit_is_copied_and_pickled():
    fit = fitted()
    for other in (copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
        assert other.params["k"] == fit.params["k"]
        assert (other.cross_covariance(0, 1) == fit.cross_covariance(0, 1)).all()
        assert "6 data sets share k" in repr(other)
    assert fit.replace(dof=3).dof == 3


# ---- Robust losses, bounds, derivatives ----

SETS = 18  # more than are reduced at once


def law(params: Any, x: Any) -> Any:
    return params["a"] * jnp.exp(-params["k"] * x) + params["d"] + params["q"] * x


@functools.cache
def outliers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, sigma: a data set with NaN, one whose amplitude is above its bound, and an offset below its own."""
    draw = np.random.default_rng(2)
    x = np.linspace(0, 3, 8)
    y = np.linspace(1, 3, SETS)[:, None] * np.exp(-1.3 * x) + 0.1 * x + 0.05 * draw.standard_normal((SETS, 8))
    y[2, 3], y[5, 5], y[9, 7], y[0, 0] = 3, -1, 2, np.nan
    return x, y, draw.uniform(0.03, 0.08, (SETS, 8))


HIGHEST = np.where(np.arange(SETS) == 7, 1.2, 9.0)


def robust(y: Any, sigma: Any, q: Any = 0.1) -> Any:
    p0 = {"a": 1.0, "d": 0.3, "k": 1.0, "q": q}
    bounds = {"a": (0.0, HIGHEST), "d": (0.02, 1.0)}
    return jaxreg.fit_many(
        law, outliers()[0], y, p0, sigma=sigma, loss="huber", bounds=bounds, fixed={"q": True}, shared=("k", "d")
    )


WEIGHTS = np.random.default_rng(3).standard_normal((3, SETS))


def number(fit: Any) -> Any:
    """Of all that has a derivative."""
    parts = jnp.stack([fit.params["a"], fit.stderr["a"], fit.chi2_each]) * WEIGHTS
    known = jnp.isfinite(parts) & (jnp.arange(SETS) > 0)[None]
    return jnp.where(known, parts, 0).sum() + fit.params["k"] + 10 * fit.stderr["k"] + 0.1 * fit.chi2


@functools.cache
def lanes() -> Any:
    """Whole global fits in one program: of two data, and of these with y, sigma and q moved along a direction."""
    _, y, sigma = outliers()
    draw = np.random.default_rng(4)
    other = np.where(np.arange(SETS)[:, None] == 3, np.nan, y + 0.01 * draw.standard_normal(y.shape))
    points = [(y, sigma, 0.1), (other, 1.1 * sigma, 0.12)]
    steps = [1e-6 * draw.standard_normal(np.shape(array)) for array in points[0]]
    moved = [
        (*point[:which], point[which] + sign * steps[which], *point[which + 1 :])
        for point in points
        for which in range(3)
        for sign in (1, -1)
    ]

    @jax.jit
    @jax.vmap
    def both(*given: Any) -> Any:
        def of(*given: Any) -> Any:
            fit = robust(*given)
            return number(fit), fit.replace(problem=None, each=fit.each.without_data())

        return jax.value_and_grad(of, argnums=(0, 1, 2), has_aux=True)(*given)

    (values, fits), slopes = both(*map(np.stack, zip(*points, *moved, strict=True)))
    return jax.tree.map(np.asarray, (values, fits, slopes)), steps


def test_robust_and_bounded_fits_are_those_of_scipy():
    x, y, sigma = outliers()
    fit = jax.tree.map(lambda leaf: leaf[0], lanes()[0][1])
    kept = np.arange(1, SETS)

    def residual(values: Any) -> np.ndarray:
        model = values[2:, None] * np.exp(-values[0] * x) + values[1] + 0.1 * x
        return ((model - y[1:]) / sigma[1:]).ravel()

    def jacobian(values: Any) -> np.ndarray:
        one = np.exp(-values[0] * x)
        columns = np.zeros((SETS - 1, 8, SETS + 1))
        columns[..., 0], columns[..., 1] = -values[2:, None] * x * one, 1
        columns[kept - 1, :, kept + 1] = one
        return (columns / sigma[1:, :, None]).reshape(-1, SETS + 1)

    start, upper = np.r_[1.0, 0.3, np.full(SETS - 1, 1.0)], np.r_[9, 1, HIGHEST[1:]]
    best = least_squares(
        residual, start, jacobian, ([0, 0.02] + [0] * (SETS - 1), upper), "trf", 1e-15, 1e-15, 1e-15, loss="huber"
    )
    at_bound = np.asarray(fit.at_bound["a"])
    assert np.flatnonzero(at_bound).tolist() == [7]
    assert fit.at_bound["d"]
    assert not fit.at_bound["k"]
    assert fit.params["a"][7] == 1.2
    assert fit.params["d"] == 0.02
    found = np.r_[fit.params["k"], fit.params["d"], fit.params["a"][1:]]
    gradient = jacobian(found).T @ np.clip(residual(found), -1, 1)
    held = np.r_[False, True, at_bound[1:]]
    assert np.abs(gradient[~held]).max() < 1e-8 * np.abs(jacobian(found)).sum()
    assert gradient[1] > 0 > gradient[8]
    close(found, best.x, 1e-6)  # as far as SciPy's steps for robust losses go

    # Huber's second form, with the inverse of all.
    inside = (np.abs(residual(found)) < 1)[:, None]
    free = jacobian(found)[:, ~held]
    count, used = inside.size, (~held).sum()
    mean = inside.mean()
    size = np.sum(np.clip(residual(found), -1, 1) ** 2) / (count - used) / mean
    cov = (1 + used / count * (1 - mean) / mean) * size * np.linalg.inv(free.T @ (inside * free))
    close(fit.stderr["k"], cov[0, 0] ** 0.5, 1e-6)
    close(fit.stderr["a"][1:][~at_bound[1:]], np.sqrt(np.diagonal(cov))[1:], 1e-6)
    assert np.isnan(fit.covariance[0]).all()
    assert np.isnan(np.asarray(fit.stderr["a"])[[0, 7]]).all()
    assert fit.dof == count - used
    assert fit.status == Status.OK


def test_derivatives_go_through_the_joint_optimum():
    (values, fits, slopes), steps = lanes()
    assert (fits.status == Status.OK).all()
    assert fits.status_each[1, 3] == fits.status_each[1, 0] == Status.NONFINITE
    changes = values[2:].reshape(2, 3, 2)
    for place in range(2):
        for which, slope in enumerate(slopes):
            close(np.sum(slope[place] * steps[which]), np.subtract(*changes[place, which]) / 2, 2e-6)


def test_each_data_set_has_its_own_unit_of_the_loss_and_negative_weights_count():
    draw = np.random.default_rng(4)
    x, sizes = np.linspace(0, 3, 15), np.array([0.01, 0.2, 0.05])
    y = np.array([[1.0], [2.0], [3.0]]) * np.exp(-1.3 * x) + sizes[:, None] * draw.standard_t(2, (3, 15))
    fit = jaxreg.fit_many(
        lambda p, x: p["a"] * jnp.exp(-p["k"] * x),
        x,
        y,
        {"a": 1.0, "k": 1.0},
        loss="cauchy",
        scale="mad",
        shared=("k",),
    )
    k, a = float(fit.params["k"]), np.asarray(fit.params["a"])
    residual = a[:, None] * np.exp(-k * x) - y
    unit = np.median(np.abs(residual), axis=1, keepdims=True) / 0.6744897501960817
    close(fit.scale, unit[:, 0], 1e-10)
    z = residual / unit
    slope, bend = residual / (1 + z**2), (1 - z**2) / (1 + z**2) ** 2
    columns = np.zeros((3, 15, 4))
    columns[..., 0] = -a[:, None] * x * np.exp(-k * x)
    columns[np.arange(3), :, 1 + np.arange(3)] = np.exp(-k * x)
    # The gradient is zero to what is left of the steps that change the units.
    assert np.abs(np.einsum("mnp,mn->p", columns, slope)).max() < 1e-5 * np.abs(columns).sum() * np.abs(slope).max()

    bread = np.einsum("mnp,mn,mnq->mpq", columns, bend, columns)
    mean, share = bend.mean(axis=1), 4 / 3
    size = (slope**2).sum(axis=1) / (15 - share) / mean * (1 + share / 15 * bend.var(axis=1) / mean**2)
    inverse = np.linalg.inv(bread.sum(axis=0))
    cov = inverse @ np.einsum("m,mpq->pq", size, bread) @ inverse
    assert (bend < 0).any()
    close(fit.covariance, cov[:1, :1], 1e-6)
    close(fit.stderr["a"], np.sqrt(np.diagonal(cov))[1:], 1e-6)
    close(fit.cross_covariance(0, 2), cov[1:2, 3:], 1e-6)


# ---- What may be shared, problems, bad input ----


def test_all_may_be_shared():
    x, y = data()["x"], data()["y"]
    p0 = {"a": 1.0, "k": 1.0, "c": 0.0}
    fit = jaxreg.fit_many(decay, x, y, p0, shared=("c", "k", "a"))

    def rest(p: Any) -> np.ndarray:
        return (p[0] * np.exp(-p[2] * x) + p[1] - y).ravel()

    best = least_squares(rest, [1.0, 0, 1], "3-point", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    close([fit.params[name] for name in "ack"], best.x, 1e-7)
    cov = 2 * best.cost / (M * N - 3) * np.linalg.inv(best.jac.T @ best.jac)
    close(fit.covariance, cov, 1e-6)
    close([fit.stderr[name] for name in "ack"], np.sqrt(np.diagonal(cov)), 1e-6)
    assert fit.dof == fit.dof_each.sum() - 3 == M * N - 3


def test_a_prior_of_shared_parameters_counts_once_and_of_own_ones_for_each():
    x, y, _ = outliers()
    priors = jaxreg.prior({"k": (1.1, 0.02), "a": (2.0, 0.3)})
    one = jaxreg.problem(
        lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y[1], {"a": 1.0, "k": 1.0}, sigma=0.3, absolute_sigma=True
    )
    fit = jaxreg.fit_many(one + priors, each={"y": y[:4]}, shared=("k",))
    assert fit.status_each.tolist() == [Status.NONFINITE, 0, 0, 0]

    def residual(values: Any) -> np.ndarray:
        model = values[1:, None] * np.exp(-values[0] * x)
        return np.r_[((model - y[1:4]) / 0.3).ravel(), (values[0] - 1.1) / 0.02, (values[1:] - 2) / 0.3]

    best = least_squares(residual, [1.0, 1, 1, 1], "3-point", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    close(np.r_[fit.params["k"], fit.params["a"][1:]], best.x, 1e-7)
    close(np.r_[fit.stderr["k"], fit.stderr["a"][1:]], np.sqrt(np.diagonal(np.linalg.inv(best.jac.T @ best.jac))), 1e-5)
    close(fit.chi2_prior, np.sum(residual(np.r_[fit.params["k"], fit.params["a"][1:]])[-4:] ** 2), 1e-9)
    assert fit.dof == 3 * 8 + 4 - 4


P0 = {"a": 1.0, "k": 1.0, "c": 0.0}
EACH = {"a": np.ones(M), "k": np.arange(M, dtype=float), "c": np.zeros(M)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": ("q",)}, "shared must be of a, c, k, got q"),
        ({"shared": ()}, "shared must name at least one parameter, got none"),
        ({"shared": "k"}, r"shared must be names of parameters, as in shared=\(\"rate\",\), got 'k'"),
        ({"shared": 3}, "shared must be names of parameters, .*, got 3"),
        ({"shared": (1,)}, r"shared must be names of parameters, .*, got \(1,\)"),
        ({"fixed": {"k": True}}, "k is fixed, and so the same for all: leave it out of shared"),
        ({"p0": P0 | {"a": np.ones(5)}, "y": data.__wrapped__()["y"][:5], "x": np.arange(float(N))},
         r"p0\['a'\] has a start for each of 5 data sets, .*: say p0_each=True"),
        ({"p0": EACH, "p0_each": True}, r"p0\['k'\] is shared, so it must be the same for all data sets"),
        ({"p0": {"k": 9.0, "a": np.ones(M), "c": np.zeros(M)}, "p0_each": True, "bounds": {"k": (0.0, 5.0)}},
         r"p0\['k'\] must be between its bounds 0.0 and 5.0, got 9.0"),
        ({"p0": EACH, "p0_each": True, "shared": ("q",)}, "shared must be of a, k, c, got q"),
        ({"y": [np.ones(3), np.ones(4)]}, "got data sets of unequal lengths: fill x and y up"),
        ({"p0": (1.0, 1.0, 0.0)}, r"p0 must be a dict, got tuple: models.positional"),
        ({"bounds": {"a": (np.zeros(3), 5.0)}}, r"bounds\['a'\] .* one for all or have shape \(6,\), got shape \(3,\)"),
        ({"bounds": {"k": (np.zeros(M), 5.0)}}, r"bounds\['k'\] .* one for all or have shape \(\), got shape \(6,\)"),
        ({"bounds": {"a": (2.0, 3.0)}}, r"p0\['a'\] must be between its bounds .*, got 1.0 at index 0"),
        ({"y": data.__wrapped__()["y"][:, :2], "x": np.ones(2)}, "6·2 own .* 1 shared, got 6·2"),
        ({"store": "here"}, "store is for many fits, and data sets with shared parameters are one: jaxreg.save"),
        ({"timeout": 3.0}, "timeout must be None in a global fit: max_steps bounds it"),
        ({"covariance": "HC3"}, "covariance must be 'classic' in a global fit, got 'HC3'"),
        ({"residuals": "no"}, "residuals must be True or False, got 'no'"),
        ({"model": models.linear(1), "x": np.ones((N, 1)), "loss": "absolute", "p0": None, "shared": ("w",)},
         "loss must not be absolute or quantile in a global fit: take 'huber'"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(changes, message):
    given = {"model": decay, "x": data()["x"], "y": data()["y"], "p0": P0, "shared": ("k",)} | changes
    with pytest.raises(ValueError, match=message):
        jaxreg.fit_many(**given)
