"""Many fits at once: the optimum, errors and status of each are those of ``curve_fit``, whatever the others do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import losses, models, uncertainty
from jaxreg.fits import _batch
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._plain import plain_fit

pytestmark = pytest.mark.usefixtures("x64")
NUM_SETS, NUM_ROWS = 300, 40
X = np.linspace(-3.0, 3.0, NUM_ROWS)
START = {"height": 2.5, "centre": 0.0, "width": 1.1, "offset": 0.0}


def peak(params, x):
    shape = jnp.exp(-0.5 * ((x - params["centre"]) / params["width"]) ** 2)
    return params["height"] * shape + params["offset"]


def drawn(num_sets=NUM_SETS, noise=0.02):
    rng = np.random.default_rng(0)
    truth = {
        "height": 2 + rng.random(num_sets),
        "centre": rng.normal(0, 0.3, num_sets),
        "width": 1 + 0.2 * rng.random(num_sets),
        "offset": rng.normal(0, 0.1, num_sets),
    }
    clean = np.asarray(jax.vmap(peak, (0, None))(truth, X))
    return clean + noise * rng.normal(size=clean.shape)


Y = drawn()


def same(found, wanted, *, rtol=1e-8):
    """Both stop where a step would change χ² by 1e-20 of it, so parameters agree to about 1e-10 of their errors."""
    for name in {field.name for field in dataclasses.fields(found)} - {"num_steps", "problem"}:
        jax.tree.map(
            lambda a, b, name=name: np.testing.assert_allclose(
                a, b, rtol=rtol, atol=1e-9, err_msg=name, equal_nan=True
            ),
            getattr(found, name),
            getattr(wanted, name),
        )


def stacked(results):
    alone = (one.without_data() if isinstance(one, jaxreg.Fit) else one for one in results)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *alone)


def one_by_one(y, p0):
    return stacked([jaxreg.curve_fit(peak, X, row, p0) for row in y])


@pytest.fixture(scope="module")
def good():
    with jax.enable_x64(True):
        return jaxreg.fit_many(peak, X, Y, START)


def test_every_fit_is_that_of_curve_fit(good):
    assert good.params["width"].shape == (NUM_SETS,)
    assert good.covariance.shape == (NUM_SETS, 4, 4)
    assert good.residuals.shape == (NUM_SETS, NUM_ROWS)
    assert (good.status == 0).all()
    same(good, one_by_one(Y, START))


def test_bad_data_sets_cost_only_themselves():
    bad = Y.copy()
    bad[7, 3] = np.nan
    bad[100] = 0.0
    starts = {name: np.full(NUM_SETS, value) for name, value in START.items()}
    starts["width"][200] = 1e-3  # between two points of x, so that the data know nothing of the peak
    starts["centre"][200] = 50.0
    mask = np.ones(Y.shape, bool)
    mask[250, 3:] = False
    found = jaxreg.fit_many(peak, X, bad, starts, p0_each=True, mask=mask)
    status = {int(index): jaxreg.Status(int(found.status[index])).name for index in np.flatnonzero(found.status)}
    assert status == {7: "NONFINITE", 100: "SINGULAR", 200: "SINGULAR", 250: "INVALID_INPUT"}
    for index in status:
        assert np.isnan(found.covariance[index]).all()
        assert all(np.isnan(leaf[index]) for leaf in jax.tree.leaves(found.stderr))
    others = np.delete(np.arange(NUM_SETS), list(status))
    plain = jaxreg.fit_many(peak, X, Y, starts, p0_each=True, mask=np.ones(Y.shape, bool))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[others], b[others]), found, plain)
    with pytest.raises(RuntimeError, match=r"4 of 300 fits failed: \[7\] NONFINITE, y is not.* \[100\] SINGULAR"):
        jaxreg.raise_if_failed(found)


def test_data_sets_that_cannot_be_started_need_no_steps():
    """A map with holes: no other program than for the others, but for a small one that says what is wrong."""
    traces = []

    def counted(params, x):
        traces.append(None)
        return peak(params, x)

    jaxreg.fit_many(counted, X, Y, START)
    needed = len(traces)
    holes = Y.copy()
    holes[::7] = np.nan
    found = jaxreg.fit_many(counted, X, holes, START)
    assert (found.status == np.where(np.arange(NUM_SETS) % 7 == 0, jaxreg.Status.NONFINITE, 0)).all()
    assert len(traces) - needed <= needed // 4
    alone = jax.jit(lambda y: jaxreg.curve_fit(peak, X, y, START))(holes[7])
    jax.tree.map(np.testing.assert_array_equal, found[7].without_data(), alone.without_data())
    # From a start at walls, at which a gradient says which parameters are held.
    bounds, sigma = ({**START, "height": 0.0}, {**START, "width": 3.0}), np.full(Y.shape, 0.1)
    walls, sigma[2, 1] = {"bounds": bounds}, 0.0
    found = jaxreg.fit_many(peak, X, Y, START, sigma=sigma, **walls)
    alone = jax.jit(lambda sigma: jaxreg.curve_fit(peak, X, Y[2], START, sigma=sigma, **walls))(sigma[2])
    jax.tree.map(np.testing.assert_array_equal, found[2].without_data(), alone.without_data())


def test_fits_that_plain_steps_lose_are_begun_anew():
    """From a start so far off that plain steps fail for about half of them."""
    far = START | {"centre": 1.0, "width": 0.5}
    problem = jaxreg.problem(peak, X, Y[0], far)
    settled = jax.jit(jax.vmap(lambda y: plain_fit(flat_problem(problem.replace(y=y)), 5000).settled))(Y)
    assert 0.2 < settled.mean() < 0.8
    found, wanted = jaxreg.fit_many(peak, X, Y, far), one_by_one(Y, far)
    assert (found.status == 0).all()
    same(found, wanted)
    np.testing.assert_array_equal(found.num_steps[~settled], wanted.num_steps[~settled])


def test_a_step_that_overshoots_once_is_halved():
    """Planck's law from 1000 K below: the second whole step increases χ² for some, and nothing is begun anew."""
    x = np.linspace(3e-7, 2e-6, NUM_ROWS)
    model, temperature = models.planck(gain=True), np.linspace(5700.0, 6000.0, 16)
    y = np.asarray(jax.vmap(models.planck_radiance, (None, 0))(x, temperature))
    y = y * (1 + 0.01 * np.random.default_rng(0).normal(size=y.shape))
    start = {"temperature": 5000.0, "gain": 1.0}
    problem = jaxreg.problem(model, x, y[0], start)
    plain = jax.jit(jax.vmap(lambda y: plain_fit(flat_problem(problem.replace(y=y)), 5000)))(y)
    assert plain.settled.all()
    wanted = stacked([jaxreg.curve_fit(model, x, row, start) for row in y])
    found = np.stack([wanted.params["gain"], wanted.params["temperature"]], axis=1)
    np.testing.assert_allclose(plain.params, found, rtol=1e-9)

    def whole(params, y):  # a Gauss-Newton step, written out; gain first
        value = params[0] * models.planck_radiance(x, params[1])
        columns = jnp.stack(jax.jvp(lambda t: models.planck_radiance(x, t), (params[1],), (1.0,)))
        design = jnp.stack([columns[0], params[0] * columns[1]], axis=1)
        unit = jnp.linalg.norm(design, axis=0)
        return params + jnp.linalg.lstsq(design / unit[None], y - value)[0] / unit, jnp.sum((y - value) ** 2)

    params, costs, step = jnp.broadcast_to(jnp.array([1.0, 5000.0]), (16, 2)), [], jax.jit(jax.vmap(whole))
    for _ in range(3):
        params, cost = step(params, y)
        costs.append(cost)
    assert (costs[2] > costs[1]).any()


def decay(params, x):
    return params["height"] * jnp.exp(-params["rate"] * x) + params["offset"]


CASES = {
    "rows in a box": {
        "sigma": np.linspace(0.01, 0.03, NUM_ROWS),
        "absolute_sigma": True,
        "mask": np.arange(NUM_ROWS) % 5 > 0,
        "fixed": {"height": False, "rate": False, "offset": True},
        "bounds": ({"height": 0.0, "rate": -np.inf, "offset": -1.0}, {"height": np.inf, "rate": 1.1, "offset": 1.0}),
    },
    "robust": {"loss": functools.partial(losses.huber, delta=0.01), "covariance": "HC3"},
}


@pytest.mark.parametrize("case", CASES)
def test_options_mean_what_they_do_for_one(case):
    rng = np.random.default_rng(1)
    height, rate = 2 + rng.random((20, 1)), 1 + 0.2 * rng.random((20, 1))
    x, options = np.linspace(0.0, 3.0, NUM_ROWS), CASES[case]
    y = height * np.exp(-rate * x) + 0.02 * rng.normal(size=(20, NUM_ROWS))
    start = {"height": 1.0, "rate": 1.0, "offset": 0.0}
    each = options | {name: np.broadcast_to(options[name], y.shape) for name in ("mask",) if name in options}
    found = jaxreg.fit_many(decay, x, y, start, **each)
    same(found, stacked([jaxreg.curve_fit(decay, x, row, start, **options) for row in y]), rtol=1e-6)
    assert (found.status == 0).all()
    if "bounds" in options:
        assert 0 < found.at_bound["rate"].sum() < 20


def test_each_data_set_may_have_its_own_x_sigma_and_start():
    few, shift = Y[:10], np.linspace(0.0, 1.0, 10)[:, None]
    starts = [START | {"centre": START["centre"] + float(step[0])} for step in shift]
    sigma = 0.02 + 0.01 * np.arange(10 * NUM_ROWS).reshape(few.shape) / (10 * NUM_ROWS)
    found = jaxreg.fit_many(peak, X + shift, few, stacked(starts), p0_each=True, sigma=sigma)
    each = zip(X + shift, few, starts, sigma, strict=True)
    same(found, stacked([jaxreg.curve_fit(peak, x, y, p0, sigma=error) for x, y, p0, error in each]))


def test_each_may_have_its_own_start_in_one_box():
    x, y = np.linspace(0.0, 2.0, 9), np.array([[1.0], [2.0], [3.0]]) * np.linspace(0.0, 2.0, 9)
    starts = np.array([0.5, 1.0, 9.0])
    found = jaxreg.fit_many(lambda p, x: p * x, x, y, starts, p0_each=True, bounds=(0.0, 2.5))
    np.testing.assert_allclose(found.params, [1.0, 2.0, 9.0], rtol=1e-12)
    assert found.status.tolist() == [jaxreg.Status.OK, jaxreg.Status.OK, jaxreg.Status.INVALID_INPUT]


def test_a_model_may_guess_each_start_and_have_features():
    wavelength = np.linspace(3e-7, 2e-6, 50)
    temperature = np.linspace(2500.0, 9000.0, 30)
    spectra = np.asarray(jax.vmap(models.planck_radiance, (None, 0))(wavelength, temperature))
    found = jaxreg.fit_many(models.planck(gain=True), wavelength, spectra)
    np.testing.assert_allclose(found.params["temperature"], temperature, rtol=1e-9)
    x = np.random.default_rng(1).normal(size=(25, 2))
    y = x @ np.array([[1.0, 2.0], [3.0, -1.0]]) + 0.5
    line = jaxreg.fit_many(models.linear(2), x, y.T)
    np.testing.assert_allclose(line.params["w"], [[1.0, 3.0], [2.0, -1.0]], rtol=1e-12)


def test_absolute_and_quantile_losses_are_linear_programs_here_too():
    x = np.random.default_rng(2).normal(size=(30, 2))
    y = (x @ np.array([2.0, -3.4]) + 4.2) + np.random.default_rng(3).standard_t(2, size=(6, 30))
    loss = functools.partial(losses.quantile, q=0.3)
    found = jaxreg.fit_many(models.linear(2), x, y, loss=loss)
    wanted = stacked([jaxreg.curve_fit(models.linear(2), x, row, loss=loss) for row in y])
    assert (found.status == 0).all()
    same(found, wanted)


def test_a_budget_of_no_steps_is_kept():
    found = jaxreg.fit_many(lambda params, x: params * x, X, Y[:3], 1.0, max_steps=0)
    assert (found.status == jaxreg.Status.MAX_STEPS).all()
    assert (found.num_steps == 0).all()


@pytest.mark.parametrize("num_sets", [1, 63, 64, 65])
def test_the_number_of_data_sets_is_free(good, num_sets):
    found = jaxreg.fit_many(peak, X, Y[:num_sets], START)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:num_sets]), found, good)


def test_chunks_and_memory_maps_change_nothing(good, tmp_path, monkeypatch):
    file = tmp_path / "y.npy"
    np.save(file, Y)
    monkeypatch.setattr(_batch, "_CHUNK", 128)
    found = jaxreg.fit_many(peak, X, np.load(file, mmap_mode="r"), START)
    jax.tree.map(np.testing.assert_array_equal, found, good)


def test_residuals_are_left_out_on_request(good):
    found = jaxreg.fit_many(peak, X, Y, START, residuals=False)
    assert found.residuals is None
    same(found, good.replace(residuals=None), rtol=1e-12)


def test_a_store_streams_resumes_and_refuses(good, tmp_path, monkeypatch):
    monkeypatch.setattr(_batch, "_CHUNK", 128)
    path = tmp_path / "fits"
    fitted, stop = _batch.Batch.fitted, []

    def killed(self, first, *rest):
        if first == 256:
            stop.append(1)
            raise KeyboardInterrupt
        return fitted(self, first, *rest)

    monkeypatch.setattr(_batch.Batch, "fitted", killed)
    with pytest.raises(KeyboardInterrupt, match="stopped with 256 of 300 fits done; the same call goes on from there"):
        jaxreg.fit_many(peak, X, Y, START, store=path)
    half = jaxreg.store.load(path)
    assert (half.values.status[:256] == 0).all()
    assert (half.values.status[256:] == -1).all()
    assert "300 fits: 44 not done, 256 OK\n" in jaxreg.summary(half)
    computed = []
    monkeypatch.setattr(_batch.Batch, "fitted", lambda self, *args: computed.append(args[0]) or fitted(self, *args))
    found = jaxreg.fit_many(peak, X, Y, START, store=path)
    assert computed == [256]
    assert isinstance(found, jaxreg.CurveFit)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[...], b), found, good)
    jaxreg.raise_if_failed(found)
    loaded = jaxreg.store.load(path)
    assert jaxreg.summary(found) == jaxreg.summary(good)
    lines = [jaxreg.summary(fits).splitlines() for fits in (loaded, good)]  # a store does not know the order given
    assert sorted(lines[0]) == sorted(lines[1])
    wanted = uncertainty.intervals(good)
    jax.tree.map(np.testing.assert_array_equal, uncertainty.intervals(found), wanted)
    with pytest.raises(ValueError, match=r"say distribution='t' or 'normal', or give it back, fit.with_problem"):
        uncertainty.intervals(loaded)
    jax.tree.map(np.testing.assert_array_equal, uncertainty.intervals(loaded, distribution="t"), wanted)
    home = loaded.values.with_problem(good.problem)
    jax.tree.map(np.testing.assert_array_equal, uncertainty.intervals(home), wanted)
    other = Y.copy()
    other[-1, -1] += 1e-9
    with pytest.raises(ValueError, match="belongs to another study: it was computed with data, starts and sigmas"):
        jaxreg.fit_many(peak, X, other, START, store=path)


def test_single_precision_has_the_optimum_to_its_digits(good):
    with jax.enable_x64(False):
        found = jaxreg.fit_many(peak, X.astype(np.float32), Y.astype(np.float32), START)
        with pytest.warns(UserWarning, match="float64 arrays are fitted in float32"):
            jaxreg.fit_many(peak, X, Y[:3], START)
    assert found.params["width"].dtype == np.float32
    assert (found.status == 0).all()
    for name in START:
        error = abs(found.params[name] - good.params[name]) / good.stderr[name]
        assert error.max() < 0.01
        np.testing.assert_allclose(found.stderr[name], good.stderr[name], rtol=2e-3)


def test_a_bar_counts_fits_and_failures(capsys):
    bad = Y[:80].copy()
    bad[3] = np.inf
    jaxreg.fit_many(peak, X, bad, START, progress=True)
    drawn = capsys.readouterr().err
    assert "100%" in drawn
    assert "1 failed" in drawn


BAD = {
    "one data set": ({"y": Y[0]}, r"y must have shape \(m, n\), a row for each of at least one data set, got \(40,\)"),
    "none": ({"y": Y[:0]}, r"at least one data set, got \(0, 40\)"),
    "x": ({"x": X[:7]}, r"x must have shape \(40,\) or \(300, 40\)"),
    "mask": ({"mask": np.ones(41, bool)}, r"mask must have shape \(300, 40\) or \(40,\), got \(41,\)"),
    "sigma": (
        {"sigma": np.ones((3, 40))},
        r"sigma must have shape \(\), \(40,\), \(300, 40\) or \(40, 40\), got \(3, 40\)",
    ),
    "shared sigma": ({"sigma": -1.0}, "sigma must be positive"),
    "start": ({"p0": None}, "p0 must be given where the model has no guess"),
    "starts": ({"p0_each": True}, r"p0\['centre'\] must have a leading axis of 300 data sets, got shape \(\)"),
    "dates": ({"y": Y.astype("datetime64[s]")}, "y must be of real numbers, got datetime64"),
    "few": ({"x": X[:3], "y": Y[:, :3]}, "at least as many points as there are parameters"),
    "loss": ({"loss": "cubic"}, "loss must be one of"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    given, message = BAD[case]
    arguments = {"x": X, "y": Y, "p0": START} | given
    with pytest.raises(ValueError, match=message):
        jaxreg.fit_many(peak, **arguments)


def test_under_a_trace_there_is_vmap():
    with pytest.raises(ValueError, match=r"use jax.vmap of fit or curve_fit"):
        jax.jit(lambda y: jaxreg.fit_many(peak, X, y, START))(Y)


def test_the_second_call_does_not_trace():
    traced = []

    def counted(params, x):
        traced.append(1)
        return peak(params, x)

    jaxreg.fit_many(counted, X, Y[:70], START)
    calls = len(traced)
    jaxreg.fit_many(counted, X, Y[70:140], START)
    assert len(traced) == calls

    def of_array(params, x):  # one parameter of as many numbers as there are data sets
        traced.append(1)
        return params[0] + params[1] * x + params[2] * x**2

    jaxreg.fit_many(of_array, X, Y[:3], np.zeros(3, X.dtype))
    calls = len(traced)
    jaxreg.fit_many(of_array, X, Y[3:6], np.zeros(3, X.dtype))
    assert len(traced) == calls
