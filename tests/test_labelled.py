"""Cubes of xarray and tables of pandas: the same numbers as a loop over SciPy's, with names in and names out."""

import re
import warnings
from functools import partial

import cloudpickle
import dask
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.optimize
import xarray

import jaxreg
from jaxreg import Status, fit_cube, fit_table, models

RNG = np.random.default_rng(0)
TIME = np.linspace(0.0, 2.0, 24)
RATE = xarray.DataArray(RNG.uniform(0.5, 3.0, (3, 4)), dims=("lat", "lon"), coords={"lat": [10.0, 20.0, 30.0]})
START = {"rate": 1.0, "amp": 1.0}
NOISE = 0.01

pytestmark = pytest.mark.usefixtures("x64_module")


def decay(p, t):
    return p["amp"] * jnp.exp(-p["rate"] * t)


def scipy_decay(t, v, **options):
    return scipy.optimize.curve_fit(
        lambda t, amp, rate: amp * np.exp(-rate * t), t, v, [1.0, 1.0], xtol=1e-14, ftol=1e-14, **options
    )


def cube():
    exact = 2 * np.exp(-RATE * xarray.DataArray(TIME, coords={"time": TIME}))
    found = exact + NOISE * xarray.DataArray(RNG.standard_normal(exact.shape), dims=exact.dims)
    found = found.assign_coords(site=("lat", ["a", "b", "c"])).assign_attrs(units="V")
    found[0, 0], found[1, 2, 3:9] = np.nan, np.nan
    return found


CUBE = cube()


@pytest.fixture(scope="module")
def fitted():
    return fit_cube(CUBE, decay, "time", p0=START)


# ---- cubes ----


def test_each_point_of_a_cube_has_the_parameters_and_errors_of_a_fit_of_its_own(fitted):
    for lat, lon in np.ndindex(3, 4):
        there = np.isfinite(CUBE.values[lat, lon])
        if not there.any():
            continue
        popt, pcov = scipy_decay(TIME[there], CUBE.values[lat, lon, there])
        one = fitted.isel(lat=lat, lon=lon)
        np.testing.assert_allclose([one.amp, one.rate], popt, rtol=1e-6)  # SciPy's own tolerance
        np.testing.assert_allclose(one.covariance, pcov, rtol=1e-5)
        np.testing.assert_allclose([one.amp_stderr, one.rate_stderr], np.sqrt(np.diag(pcov)), rtol=1e-5)
        assert int(one.dof) == there.sum() - 2


def test_names_coordinates_and_attributes_are_kept(fitted):
    assert fitted.rate.dims == ("lat", "lon")
    assert fitted.attrs == {"units": "V"}
    assert set(fitted.coords) == {"lat", "site", "param", "param_2"}
    assert list(fitted.param.values) == ["amp", "rate"]
    assert fitted.status.attrs["flag_meanings"].split()[int(Status.INVALID_INPUT)] == "INVALID_INPUT"


def test_a_point_without_data_is_nan_with_its_status_beside(fitted):
    empty = fitted.isel(lat=0, lon=0)
    assert int(empty.status) == Status.INVALID_INPUT
    assert np.isnan([empty.rate, empty.amp, empty.rate_stderr, *empty.covariance.values.ravel()]).all()
    assert (fitted.status.values.ravel()[1:] == Status.OK).all()


def test_missing_points_may_be_said_to_be_none():
    found = fit_cube(CUBE, decay, "time", p0=START, skipna=False)
    assert int(found.status[1, 2]) == Status.NONFINITE
    assert int(found.status[2, 2]) == Status.OK


def test_the_order_of_dimensions_does_not_matter(fitted):
    turned = fit_cube(CUBE.transpose("time", "lon", "lat"), decay, "time", p0=START)
    assert turned.rate.dims == ("lon", "lat")
    xarray.testing.assert_equal(turned.rate.transpose("lat", "lon"), fitted.rate)


def test_one_curve_is_a_cube_without_other_dimensions(fitted):
    one = fit_cube(CUBE[2, 3], decay, "time", p0=START)
    assert one.rate.dims == ()
    assert float(one.rate) == float(fitted.rate[2, 3])


def test_dask_stays_lazy_and_gives_the_same_numbers(fitted):
    lazy = fit_cube(CUBE.chunk({"lat": 2, "lon": 3}), decay, "time", p0=START)
    assert lazy.chunksizes["lat"] == (2, 1)
    assert dask.is_dask_collection(lazy)
    with jax.enable_x64(False):  # what counts is the precision of the call
        xarray.testing.assert_equal(lazy.compute(), fitted)
    assert {name: one.dtype for name, one in lazy.items()} == {name: one.dtype for name, one in fitted.items()}


def test_a_function_of_any_kind_goes_to_the_processes_of_dask(fitted):
    lazy = fit_cube(CUBE.chunk(), lambda p, t: decay(p, t), "time", p0=START)
    graph = cloudpickle.loads(cloudpickle.dumps(lazy.rate))
    np.testing.assert_array_equal(graph.compute(scheduler="synchronous"), fitted.rate)


def test_chunks_along_the_fitted_dimension_are_put_together_and_that_is_said(fitted):
    with pytest.warns(UserWarning, match="along 'time', which has several chunks"):
        lazy = fit_cube(CUBE.chunk({"time": 5}), decay, "time", p0=START)
    xarray.testing.assert_equal(lazy.compute(), fitted)


def test_from_zarr_to_zarr(tmp_path, fitted):
    kept, opened = ({"zarr_format": 3, "consolidated": False}, partial(xarray.open_zarr, consolidated=False))
    CUBE.drop_vars("site").rename("v").to_dataset().to_zarr(tmp_path / "in", **kept)
    fit_cube(opened(tmp_path / "in").v.chunk({"lat": 1}), decay, "time", p0=START).to_zarr(tmp_path / "out", **kept)
    xarray.testing.assert_equal(opened(tmp_path / "out").compute(), fitted.drop_vars("site"))


@pytest.mark.parametrize("chunks", [None, {"lat": 2}])
def test_starts_bounds_and_sigmas_may_differ_from_point_to_point(chunks):
    limit = xarray.DataArray([1.0, 5.0, 5.0], dims="lat")
    sigma = abs(CUBE).fillna(1.0) + 0.1
    data = CUBE if chunks is None else CUBE.chunk(chunks)
    found = fit_cube(
        data, decay, "time", p0={"rate": RATE / 2, "amp": 1.0}, sigma=sigma, bounds={"rate": (0.0, limit)}
    ).compute()
    assert float(found.rate.max()) <= 5.0
    np.testing.assert_array_equal(found.rate[0].dropna("lon") <= 1, True)
    for lat, lon in ((0, 2), (2, 1)):
        bounds = [-np.inf, 0.0], [np.inf, float(limit[lat])]
        popt, _ = scipy_decay(TIME, CUBE.values[lat, lon], sigma=sigma.values[lat, lon], bounds=bounds)
        np.testing.assert_allclose([found.amp[lat, lon], found.rate[lat, lon]], popt, rtol=1e-5)  # SciPy's tolerance


def test_sigma_of_the_fitted_dimension_alone_is_shared(fitted):
    sigma = xarray.DataArray(np.full(24, NOISE), dims="time")
    found = fit_cube(CUBE, decay, "time", p0=START, sigma=sigma, absolute_sigma=True)
    np.testing.assert_allclose(found.rate, fitted.rate, rtol=1e-8)
    scale = np.sqrt(fitted.chi2 / fitted.dof) / NOISE
    np.testing.assert_allclose(found.rate_stderr * scale, fitted.rate_stderr, rtol=1e-6)


def test_several_coordinates_are_columns_of_x():
    x, y = np.arange(4.0), np.arange(5.0)
    plane = xarray.DataArray(1 + 2 * x[:, None] + 3 * y, coords={"x": x, "y": y})
    stack = xarray.concat([plane, 2 * plane], "run")
    found = fit_cube(stack, models.expression("c + a*x + b*y", independent=("x", "y")), ["x", "y"])
    assert found.a.dims == ("run",)
    np.testing.assert_allclose([found.c, found.a, found.b], [[1, 2], [2, 4], [3, 6]], rtol=1e-12)


def test_a_coordinate_over_two_dimensions_is_fitted_over_both():
    radius = xarray.DataArray(np.hypot(*np.mgrid[1:4, 1:4]).astype(float), dims=("i", "j"))
    image = (2 * radius).assign_coords(radius=radius)
    found = fit_cube(image, models.ohm(), "radius")
    np.testing.assert_allclose(found.resistance, 2, rtol=1e-12)


def test_integers_and_complex_numbers_are_taken():
    counts = xarray.DataArray(np.array([[2, 4, 6], [3, 6, 9]], np.uint16), dims=("run", "x"), coords={"x": [1, 2, 3]})
    np.testing.assert_allclose(fit_cube(counts, models.ohm(), "x").resistance, [2, 3], rtol=1e-12)
    turning = xarray.DataArray(np.exp(1j * np.outer([0.5, 0.7], TIME)), dims=("run", "time"), coords={"time": TIME})
    found = fit_cube(turning, lambda p, t: jnp.exp(1j * p["w"] * t), "time", p0={"w": 0.6})
    np.testing.assert_allclose(found.w, [0.5, 0.7], rtol=1e-10)


def test_an_array_of_parameters_has_a_dimension_of_its_own():
    x = np.arange(5.0)
    line = xarray.DataArray(np.stack([1 + 2 * x, 3 - x]), dims=("run", "x"), coords={"x": x})
    found = fit_cube(line, lambda p, x: p["w"][0] + p["w"][1] * x, "x", p0={"w": jnp.zeros(2)})
    assert found.w.dims == ("run", "w_0")
    np.testing.assert_allclose(found.w, [[1, 2], [3, -1]], rtol=1e-10)
    assert list(found.param.values) == ["w[0]", "w[1]"]


def test_plain_arrays_become_a_dataset():
    fits = jaxreg.fit_many(decay, TIME, CUBE.values[2], START)
    table = fits.to_xarray()
    np.testing.assert_array_equal(table.rate, fits.params["rate"])
    assert table.covariance.dims == ("fit", "param", "param_2")


UNKNOWN = CUBE.chunk().data
BAD_CUBES = {
    "no such coordinate": ((CUBE, "wavelength"), {}, "coords must name coordinates of da, 'lat', 'lon', 'time'"),
    "no dimension": ((CUBE.assign_coords(run=1), "run"), {}, "coords must have a dimension to fit along"),
    "empty": ((CUBE[:0], "time"), {}, "da must have at least one point"),
    "no coordinate": ((CUBE, []), {}, "coords must be one name or several, got none"),
    "a coordinate called as a result": (
        (CUBE.assign_coords(chi2=("lat", [1, 2, 3])), "time"), {}, "a dimension or coordinate 'chi2'",
    ),
    "a dimension called as a result": ((CUBE.rename(lat="param"), "time"), {}, "a dimension or coordinate 'param'"),
    "chunks of unknown size": (
        (xarray.DataArray(UNKNOWN[UNKNOWN[:, 0, 0] > 0], dims=CUBE.dims), "lat"), {}, "known sizes",
    ),
    "one point": ((CUBE[:, :, :1], "time"), {}, "at least as many points as there are parameters, 2, got 1"),
    "words": ((CUBE, "site"), {}, "'site' must hold real numbers|'site' must be"),
    "instants": (
        (CUBE.assign_coords(time=pandas.date_range("2020", periods=24)), "time"), {},
        r"da.assign_coords\(time=\(da\['time'\] - da\['time'\]\[0\]\) / numpy.timedelta64\(1, 's'\)\)",
    ),
    "durations": (
        (CUBE.assign_coords(time=pandas.to_timedelta(np.arange(24), "s")), "time"), {}, r"time=da\['time'\] / numpy",
    ),
    "nan in a coordinate": ((CUBE.assign_coords(time=np.where(TIME > 1, np.nan, TIME)), "time"), {}, "must be finite"),
    "objects": ((CUBE.astype(str), "time"), {}, "da must"),
    "a dataset": ((CUBE.to_dataset(name="v"), "time"), {}, r"ds\['name'\]"),
    "an array": ((CUBE.values, "time"), {}, "fit_many takes plain arrays"),
    "a start that lacks one": ((CUBE, "time"), {"p0": {"rate": 1.0}}, "params must have 'amp', which the model reads"),
    "a start along time": (
        (CUBE, "time"), {"p0": {"rate": CUBE, "amp": 1.0}}, r"p0\['rate'\] must lack the fitted dimensions",
    ),
    "a start elsewhere": (
        (CUBE, "time"), {"p0": {"rate": RATE.assign_coords(lat=[1.0, 2.0, 3.0]), "amp": 1.0}}, "must lie at the coord",
    ),
    "a sigma of another dimension": (
        (CUBE, "time"), {"sigma": xarray.DataArray([1.0], dims="z")}, "sigma must have dimensions of da",
    ),
    "bounds of an unknown one": ((CUBE, "time"), {"bounds": {"q": (0, RATE)}}, "bounds must be numbers or shaped"),
    "half a bound": ((CUBE, "time"), {"bounds": {"rate": 3}}, r"a pair \(lower, upper\) for 'rate', got 3"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_CUBES)
def test_what_is_wrong_with_a_cube_is_said(bad):
    (da, coords), options, message = BAD_CUBES[bad]
    with pytest.raises(ValueError, match=message):
        fit_cube(da, decay, coords, **({"p0": START} | options))


@pytest.mark.parametrize("name", ["lat", "site", "chi2", "param", "status"])
def test_a_parameter_named_like_something_else_is_refused(name):
    with pytest.raises(ValueError, match=f"the parameter '{name}' cannot stand in a table"):
        fit_cube(CUBE, lambda p, t: p[name] * t, "time", p0={name: 1.0})


def test_a_lazy_cube_is_checked_at_the_call():
    with pytest.raises(ValueError, match="params must have 'amp'"):
        fit_cube(CUBE.chunk(), decay, "time", p0={"rate": 1.0})
    with pytest.raises(ValueError, match="covariance must be"):
        fit_cube(CUBE.chunk(), decay, "time", p0=START, covariance="HC9")


def test_single_precision_is_said_once():
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = fit_cube(CUBE[2:, :2], decay, "time", p0=START)
    assert [re.search("fitted in float32", str(one.message)) is not None for one in said] == [True]
    assert said[0].filename == __file__
    assert found.rate.dtype == np.float32


def test_integers_are_no_doubles_to_be_warned_of():
    with jax.enable_x64(False):
        assert fit_cube((100 * CUBE[2:, :2]).fillna(0).astype("i2"), decay, "time", p0=START).rate.dtype == np.float32


# ---- tables ----


def wells(lengths, seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for place, length in enumerate(lengths):
        t = np.sort(rng.uniform(0.0, 2.0, length))
        v = 3 * np.exp(-(0.5 + place % 5) * t) + NOISE * rng.standard_normal(length)
        frames.append(pandas.DataFrame({"well": f"W{place:03d}", "t": t, "v": v, "s": 0.1 + t}))
    return pandas.concat(frames).sample(frac=1, random_state=0, ignore_index=True)


WELLS = wells([10, 25, 1, 7])


def check_groups(found, df, **options):
    for well, rows in df.groupby("well"):
        if len(rows) > 2:
            popt, pcov = scipy_decay(rows.t.to_numpy(), rows.v.to_numpy(), **options)
            np.testing.assert_allclose(found.loc[well, ["amp", "rate"]].astype(float), popt, rtol=1e-6)  # SciPy's own
            np.testing.assert_allclose(found.rate_stderr[well], np.sqrt(pcov[1, 1]), rtol=1e-5)
            assert (found.status[well], found.dof[well]) == ("OK", len(rows) - 2)


@pytest.fixture(scope="module")
def of_wells():
    return fit_table(WELLS, decay, x="t", y="v", by="well", p0=START)


def test_each_group_has_the_fit_of_its_own_rows(of_wells):
    assert list(of_wells.index) == ["W000", "W001", "W002", "W003"]
    check_groups(of_wells, WELLS)


def test_a_group_of_too_few_rows_is_nan_with_its_status(of_wells):
    assert of_wells.status["W002"] == "INVALID_INPUT"
    assert of_wells.loc["W002", ["amp", "rate", "rate_stderr"]].isna().all()


def test_empty_cells_are_left_out_and_rows_without_a_group_too(of_wells):
    extra = pandas.DataFrame({"well": ["W000", "W003", None], "t": [1.0, None, 1.0], "v": [None, 1.0, 1.0], "s": 1.0})
    with pytest.warns(UserWarning, match="1 of 46 rows have an empty cell in well: left out"):
        found = fit_table(pandas.concat([WELLS, extra]).convert_dtypes(), decay, "t", "v", "well", p0=START)
    pandas.testing.assert_frame_equal(found, of_wells, check_index_type=False)


def test_groups_of_very_unequal_lengths_are_fitted_in_classes():
    """500 groups of 4 rows and one of 10,000: padded to the longest they would be 5 million numbers."""
    df = pandas.concat([wells([4] * 500), wells([10_000]).assign(well="long")])
    found = fit_table(df, decay, x="t", y="v", by="well", p0=START)
    assert len(found) == 501
    check_groups(found.loc[["W000", "long"]], df[df.well.isin(["W000", "long"])])


@pytest.mark.parametrize("keys", [[False, True], [0.5, 0.25], ["b", "a"]])
def test_keys_may_be_anything_and_columns_have_any_name(keys):
    df = pandas.DataFrame({7: np.repeat(keys, 4), ("t", "s"): np.tile(np.arange(4.0), 2)})
    df[0] = np.repeat([2.0, 3.0], 4) * df["t", "s"].array
    found = fit_table(df, models.ohm(), ("t", "s"), 0, 7)
    assert found.index.tolist() == sorted(keys)
    np.testing.assert_allclose(found.resistance, [2, 3] if keys == sorted(keys) else [3, 2], rtol=1e-9)


def test_several_keys_columns_and_a_sigma():
    df = pandas.DataFrame({"run": np.repeat([1, 2], 8), "side": list("lr") * 8, "u": np.arange(16.0) ** 2})
    df["w"] = np.sin(np.arange(16.0))
    df["v"], df["s"] = df.run + 2 * df.u - 3 * df.w, 0.5
    model = models.expression("c + a*u + b*w", independent=("u", "w"))
    found = fit_table(df, model, x=["u", "w"], y="v", by=["run", "side"], sigma="s", absolute_sigma=True)
    assert found.index.names == ["run", "side"]
    np.testing.assert_allclose(found[["a", "b", "c"]], [[2, -3, 1], [2, -3, 1], [2, -3, 2], [2, -3, 2]], rtol=1e-9)
    rows = df[(df.run == 1) & (df.side == "l")]
    design = np.stack([rows.u, rows.w, np.ones(4)], axis=1) / 0.5
    expected = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(found.loc[(1, "l"), ["a_stderr", "b_stderr", "c_stderr"]], expected, rtol=1e-9)


BAD_TABLES = {
    "no such column": ({"x": "q"}, "df has no column 'q', only 'well', 't', 'v', 's'"),
    "no group": ({"by": []}, "by must be one name or several, got none"),
    "a sigma of as many rows as the largest group": (
        {"sigma": np.full(WELLS.well.value_counts().max(), 0.1)},
        "sigma must be a number or the name of a column",
    ),
    "complex numbers": ({"df": WELLS.assign(v=WELLS.v + 0j)}, "the column 'v' must be of real numbers, got complex128"),
    "two groups of one name": ({"df": pandas.concat([WELLS, WELLS.well], axis=1)}, "df has several columns 'well'"),
    "no such group": ({"by": "q"}, "df has no column 'q'"),
    "words": ({"y": "well"}, r"the column 'well' must hold numbers, .*pandas.to_numeric"),
    "instants": (
        {"df": WELLS.assign(t=pandas.Timestamp("2020"))},
        r"\(df\['t'\] - df\['t'\].min\(\)\).dt.total_seconds",
    ),
    "two of one name": ({"df": pandas.concat([WELLS, WELLS.t], axis=1)}, "df has several columns 't'"),
    "no rows": ({"df": WELLS[:0]}, "at least one group"),
    "a parameter called by": ({"by": "rate", "df": WELLS.rename(columns={"well": "rate"})}, "the parameter 'rate'"),
    "a list": ({"df": [1]}, "df must be a pandas.DataFrame, got list"),
}


@pytest.mark.parametrize("bad", BAD_TABLES)
def test_what_is_wrong_with_a_table_is_said(bad):
    options, message = BAD_TABLES[bad]
    given = {"df": WELLS, "x": "t", "y": "v", "by": "well", "p0": START} | options
    with pytest.raises(ValueError, match=message):
        fit_table(given.pop("df"), decay, **given)


@pytest.mark.parametrize(
    "fit", [partial(fit_cube, CUBE, decay, "time"), partial(fit_table, WELLS, decay, "t", "v", "well")]
)
def test_without_a_start_and_a_guess_it_is_asked_for(fit):
    with pytest.raises(ValueError, match="p0 must be given where the model has no guess"):
        fit()
