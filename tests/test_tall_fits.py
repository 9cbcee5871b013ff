"""Fits of data that are read in chunks: those in memory, whatever the chunks, threads and devices."""

import operator
import subprocess
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import Status, models, uncertainty

N, SIZE = 20_000, 4096  # four full chunks and a part of one
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(0.0, 5.0, N)
NOISE = RANDOM.normal(size=N)
Y = 2 * np.exp(-1.3 * X) + 0.5 + 0.1 * NOISE
START = {"rate": 1.0, "amp": 1.0, "offset": 0.0}
SIGMA = np.where(X < 2, 0.1, 0.2)

pytestmark = pytest.mark.usefixtures("x64_module")


@models.rowwise
def decay(p, x):
    return p["amp"] * jnp.exp(-p["rate"] * x) + p["offset"]


def chunks(*arrays, size=SIZE):
    return [tuple(one[first : first + size] for one in arrays) for first in range(0, len(arrays[0]), size)]


def assert_same(tall, whole, errors=1e-7):
    """The optimum is known to 1e-10 of the residuals' length, 1e-10·√n errors."""
    assert int(tall.status) == int(whole.status)
    assert int(tall.dof) == int(whole.dof)
    for name, value in whole.params.items():
        error = np.nan_to_num(whole.stderr[name])
        np.testing.assert_allclose(tall.params[name], value, rtol=1e-12, atol=errors * error)
    np.testing.assert_allclose(tall.covariance, whole.covariance, rtol=max(1e-8, errors / 10))
    np.testing.assert_allclose(tall.chi2, whole.chi2, rtol=max(1e-12, errors / 100))


@pytest.fixture(scope="module")
def whole():
    return jaxreg.curve_fit(decay, X, Y, START, sigma=0.1)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    found = []
    for name, values in {"x": X, "y": Y}.items():
        np.save(folder / f"{name}.npy", values)
        found.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    return found


@pytest.fixture(scope="module")
def tall(maps):
    return jaxreg.curve_fit(decay, *maps, START, sigma=0.1, chunk_size=SIZE)


def test_it_is_the_fit_in_memory(tall, whole):
    assert_same(tall, whole)
    assert tall.residuals is None


def test_with_all_that_a_fit_takes():
    keywords = {"sigma": SIGMA / 2, "loss": "huber", "mask": X > 0.1, "bounds": {"offset": (0.0, 0.4)}}
    whole = jaxreg.curve_fit(decay, X, Y, START, **keywords)
    tall = jaxreg.curve_fit(decay, X, Y, START, chunk_size=SIZE, **keywords)
    assert_same(tall, whole, errors=1e-6)
    assert bool(tall.at_bound["offset"])


def test_counts():
    y = np.random.default_rng(1).poisson(5 * np.exp(-X) + 1)
    keywords = {"loss": "poisson", "bounds": {"offset": (0.0, np.inf)}}
    start = {"rate": 0.5, "amp": 3.0, "offset": 2.0}
    assert_same(
        jaxreg.curve_fit(decay, X, y, start, chunk_size=SIZE, **keywords),
        jaxreg.curve_fit(decay, X, y, start, **keywords),
    )


def test_chunks_of_any_size_in_single_precision():
    """Each its own sigma, an empty one among them, one larger than is read at once, and the model's own start."""
    whole = jaxreg.curve_fit(models.exponential(), X, Y, sigma=SIGMA)
    parts = [slice(3000), slice(0), slice(3000, None)]
    small, empty, large = ([one[part].astype(np.float32) for one in (X, Y, SIGMA)] for part in parts)
    with jax.enable_x64(False):
        fit = jaxreg.curve_fit(models.exponential(), [*chunks(*small, size=900), tuple(empty), tuple(large)])
    for name, value in whole.params.items():
        assert fit.params[name].dtype == np.float32
        assert abs(float(fit.params[name]) - float(value)) < 0.02 * float(whole.stderr[name])
        np.testing.assert_allclose(fit.stderr[name], whole.stderr[name], rtol=1e-4)


def exact_polynomial(degree, x, y):
    """Coefficients and roots of the diagonal of the inverse, by Gauss-Jordan elimination without any rounding."""
    points = [Fraction(value) for value in x]
    powers = [[point**power for point in points] for power in range(2 * degree + 1)]
    sums = [sum(one) for one in powers]
    right = [sum(map(operator.mul, one, map(Fraction, y))) for one in powers[: degree + 1]]
    rows = [
        [*sums[row : row + degree + 1], right[row], *(Fraction(row == column) for column in range(degree + 1))]
        for row in range(degree + 1)
    ]
    for pivot in range(degree + 1):
        rows[pivot] = [value / rows[pivot][pivot] for value in rows[pivot]]
        for row in set(range(degree + 1)) - {pivot}:
            factor = rows[row][pivot]
            rows[row] = [value - factor * above for value, above in zip(rows[row], rows[pivot], strict=True)]
    solved = np.array([float(row[degree + 1]) for row in rows])
    return solved, np.array([float(rows[place][degree + 2 + place]) ** 0.5 for place in range(degree + 1)])


def test_an_ill_conditioned_polynomial():
    """Against normal equations in fractions, in units of the standard errors: a condition of 1e7."""
    degree, x = 9, np.linspace(0.0, 1.0, 2000)
    y = np.sin(3 * x) + 0.01 * NOISE[:2000]

    def polynomial(p, x):
        return jnp.polyval(p[::-1], x)

    fit = jaxreg.curve_fit(models.rowwise(polynomial), x, y, np.zeros(degree + 1), chunk_size=512)
    exact, errors = exact_polynomial(degree, x, y)
    scale = np.sqrt(float(fit.chi2) / int(fit.dof))
    assert np.max(np.abs(np.asarray(fit.params) - exact) / (scale * errors)) < 1e-7
    np.testing.assert_allclose(fit.stderr, scale * errors, rtol=1e-8)


def test_the_same_bits_on_any_threads_and_devices():
    code = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sys.argv[1]}"
import jax, numpy as np, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
import jaxreg
x = np.linspace(0.0, 5.0, 20000)
y = 2 * np.exp(-1.3 * x) + np.sin(1000 * x)
model = jaxreg.models.rowwise(lambda p, x: p[0] * jnp.exp(-p[1] * x))
fit = jaxreg.curve_fit(model, x, y, np.ones(2), chunk_size=4096)
print(len(jax.devices()), [value.hex() for value in map(float, [*fit.params, *fit.covariance.ravel(), fit.chi2])])
"""
    given = [("1", "1"), ("4", "2")]
    runs = [subprocess.Popen([sys.executable, "-c", code, *one], stdout=subprocess.PIPE, text=True) for one in given]
    (one, bits), (four, others) = (run.communicate()[0].split(" ", 1) for run in runs)
    assert (one, four) == ("1", "4")
    assert bits == others


def test_what_follows_reads_no_row(tall, whole):
    assert isinstance(tall.problem.y, np.ndarray)
    assert not tall.problem.y.flags.writeable  # the map itself
    at = jnp.linspace(0.0, 5.0, 7)
    for fit in (tall, jaxreg.curve_fit(decay, chunks(X, Y), p0=START, sigma=0.1)):
        low, high = uncertainty.intervals(fit)
        expected = uncertainty.intervals(whole)
        np.testing.assert_allclose([low["rate"], high["rate"]], [expected.lower["rate"], expected.upper["rate"]])
        np.testing.assert_allclose(uncertainty.band(fit, at).stderr, uncertainty.band(whole, at).stderr, rtol=1e-8)
        half_life = uncertainty.derived(fit, lambda p: jnp.log(2) / p["rate"])
        assert half_life.stderr > 0
        assert jaxreg.report.summary(fit).split("\n", 1)[1] == jaxreg.report.summary(whole).split("\n", 1)[1]
    assert jaxreg.comparison.goodness(tall).chi2 == pytest.approx(float(whole.chi2))
    for follow in (uncertainty.profile_intervals, jaxreg.comparison.goodness):
        with pytest.raises(ValueError, match="whose rows are not kept"):
            follow(fit)


def test_a_watched_fit_and_a_time_limit(capsys):
    steps = []
    fit = jaxreg.curve_fit(decay, X, Y, START, chunk_size=SIZE, callback=steps.append, verbose=True)
    assert [step.num_steps for step in steps] == list(range(int(fit.num_steps) + 1))
    assert len(capsys.readouterr().out.splitlines()) == len(steps) + 1
    late = jaxreg.curve_fit(decay, X, Y, START, chunk_size=SIZE, timeout=1e-9)
    assert int(late.status) == Status.TIMEOUT
    few = jaxreg.curve_fit(decay, X, Y, START, chunk_size=SIZE, max_steps=2)
    assert int(few.status) == Status.MAX_STEPS


def test_what_is_not_finite_is_named():
    y = Y.copy()
    y[17_000] = np.nan
    x = X.copy()
    x[18_000] = np.inf
    fit = jaxreg.curve_fit(decay, x, y, START, chunk_size=SIZE)
    assert jaxreg.status.culprit_of(fit) == "x is not finite at row 18000"
    fit = jaxreg.curve_fit(decay, X, y, START, chunk_size=SIZE)
    assert jaxreg.status.culprit_of(fit) == "y is not finite at row 17000 (mask= leaves rows out)"
    assert int(fit.status) == Status.NONFINITE
    with pytest.raises(ValueError, match=r"sigma must be positive and finite, got 0\.0"):
        jaxreg.curve_fit(decay, X, Y, START, chunk_size=SIZE, sigma=np.where(X > 4.9, 0.0, 1.0))


REFUSED = {
    "sigma_x": ({"sigma_x": 0.1}, "sigma_x must be None where data are read in chunks"),
    "scale": ({"scale": "mad", "loss": "huber"}, "scale must be None"),
    "covariance": ({"covariance": "HC0"}, "covariance must be 'classic'"),
    "loss": ({"loss": "absolute"}, "loss must be none that is absolute"),
    "sigma": ({"sigma": np.eye(50)}, "sigma, where data are read in chunks, must have shape"),
    "mask": ({"mask": np.ones(49, bool)}, "mask, where data are read in chunks, must have shape"),
    "chunk_size": ({"chunk_size": 0}, "chunk_size must be at least 1"),
}


@pytest.mark.parametrize(("keywords", "message"), REFUSED.values(), ids=REFUSED)
def test_what_needs_all_rows_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        jaxreg.curve_fit(decay, X[:50], Y[:50], START, **{"chunk_size": 16, **keywords})


@pytest.mark.parametrize(
    "couple",
    [
        lambda p, x: p["rate"] * (x - x.mean()),
        lambda p, x: p["rate"] * x / x.max(),
        lambda p, x: p["rate"] * jnp.cumsum(x),
        lambda p, x: p["rate"] * jnp.arange(len(x)),
    ],
    ids=["mean", "max", "cumsum", "place"],
)
def test_a_model_that_couples_rows_is_refused(couple):
    with pytest.raises(ValueError, match="model must take each row of x for itself"):
        jaxreg.curve_fit(couple, X, Y, {"rate": 0.0}, chunk_size=SIZE)  # which hides x


class Changing:
    def __init__(self, change):
        self.times, self.change = 0, change

    def __iter__(self):
        self.times += 1
        return iter(self.change(chunks(X, Y)) if self.times > 6 else chunks(X, Y))


class Once:
    def __init__(self):
        self.chunks = iter(chunks(X, Y))

    def __iter__(self):
        return self.chunks


CHANGES = (
    lambda given: given[1:],
    lambda given: given[:-1],
    lambda given: given[:0],
    lambda given: [(x + 1e-9, y) for x, y in given],
    lambda given: [(x, RANDOM.permutation(y)) for x, y in given],
)


def test_chunks_that_cannot_be_read_again_are_refused():
    for once in ((chunk for chunk in chunks(X, Y)), Once()):
        with pytest.raises(ValueError, match="which can be read once only"):
            jaxreg.curve_fit(decay, once, p0=START)
    for change in CHANGES:
        with pytest.raises(ValueError, match="chunks must be the same whenever they are read"):
            jaxreg.curve_fit(decay, Changing(change), p0=START)
    with pytest.raises(ValueError, match=r"chunks must be \(x, y\) or \(x, y, sigma\), got 1 entries as number 0"):
        jaxreg.curve_fit(decay, [(X,)], p0=START)
    for chunk in ((X, Y[:-1]), (X, Y, np.ones(3)), (X[:-1], Y)):
        with pytest.raises(ValueError, match=r"(x must have as many rows as y|sigma,) in chunk 1"):
            jaxreg.curve_fit(decay, [(X, Y), chunk], p0=START)
    with pytest.raises(ValueError, match=r"p0 goes by name, curve_fit\(model, chunks, p0=p0\)"):
        jaxreg.curve_fit(decay, chunks(X, Y), START)
    with pytest.raises(ValueError, match="y must have at least one point"):
        jaxreg.curve_fit(decay, [], p0=START)


def test_under_a_trace_it_is_refused():
    with pytest.raises(ValueError, match="chunk_size is for the top level"):
        jax.jit(lambda y: jaxreg.curve_fit(decay, X, y, START, chunk_size=SIZE).params)(Y)


def test_too_many_points_for_memory_name_the_chunks():
    y = np.broadcast_to(0.0, 10**13)  # of no memory of its own
    with pytest.raises(ValueError, match=r"fit into memory.*chunk_size=2\*\*18"):
        jaxreg.curve_fit(decay, y, y, START)
