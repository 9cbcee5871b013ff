"""What was saved comes back bit for bit, with its problem; what cannot be kept is asked for, and checked."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import losses, models, uncertainty

X = np.linspace(0.0, 2.0, 30)
Y = 2 * np.exp(-1.5 * X) + 0.01 * np.random.default_rng(0).normal(size=(4, 30))
START = {"rate": 1.0, "amp": 1.0}
TEXT = models.expression("amp*exp(-rate*x)")


def decay(p, x):
    return p["amp"] * jnp.exp(-p["rate"] * x)


def data(model, y=Y[0], **options):
    return jaxreg.problem(model, X, y, START, sigma=0.01, absolute_sigma=True, **options)


def halves(free):
    return free | {"amp": 2 * free["rate"]}


def own_loss(prediction, target):
    return (prediction - target) ** 2 / 2 + 0.1 * (prediction - target) ** 4


SAVED = {
    "one of a text": lambda: jaxreg.fit(data(TEXT)),
    "one without its problem": lambda: jaxreg.fit(data(TEXT)).without_data(),
    "bounds, mask and a robust loss": lambda: jaxreg.fit(
        data(TEXT, loss=partial(losses.huber, delta=2.0), bounds=({"rate": 0.0}, 5.0), mask=X < 1.9)
    ),
    "a fixed parameter, and a scale": lambda: jaxreg.fit(data(TEXT, loss="soft_l1", scale="mad", fixed={"amp": True})),
    "counts": lambda: jaxreg.curve_fit(TEXT, X, np.round(100 * Y[0].clip(0)), START, loss="poisson"),
    "a sum, renamed, with a prior": lambda: jaxreg.fit(
        data(TEXT) + data(TEXT, Y[1]).rename({"amp": "second"}) + jaxreg.prior({"rate": (1.5, 0.1)})
    ),
    "a guess": lambda: jaxreg.curve_fit(models.exponential(offset=True), X, Y[0]),
    "a covariance": lambda: jaxreg.curve_fit(models.ohm(), X, 2 * X, sigma=np.diag(np.arange(1.0, 31.0))),
    "complex, in a dict": lambda: jaxreg.curve_fit(
        lambda p, x: jnp.exp(1j * p["w"] * x["t"]), {"t": X}, np.exp(0.5j * X), {"w": 0.4}
    ).replace(problem=None),
    "many": lambda: jaxreg.fit_many(TEXT, X, Y, START, sigma=0.01),
    "many, each with its own": lambda: jaxreg.fit_many(data(TEXT), each={"y": Y, "sigma": np.full((4, 30), 0.02)}),
    "a grid": lambda: jax.tree.map(lambda leaf: np.reshape(leaf, (2, 2, *leaf.shape[1:])), fits()),
}


def fits():
    return jaxreg.fit_many(TEXT, X, Y, START, sigma=0.01)


def same(one, other):
    assert type(one) is type(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(left).dtype == np.asarray(right).dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("kind", SAVED)
def test_a_fit_comes_back_bit_for_bit_with_its_problem(tmp_path, kind):
    with jax.enable_x64(True):
        fit = SAVED[kind]()
        jaxreg.save(fit, tmp_path / "fit")
        same(jaxreg.load(tmp_path / "fit"), fit)
    with jax.enable_x64(False):
        same(jaxreg.load(tmp_path / "fit"), fit)


def test_what_many_share_is_kept_once(tmp_path):
    def size(folder):
        return sum(file.stat().st_size for file in (tmp_path / folder).rglob("*") if file.is_file())

    x = np.linspace(0.0, 2.0, 20_000)
    with jax.enable_x64(True):
        many = jaxreg.fit_many(models.ohm(), x, np.outer([1.0, 2.0, 3.0], x), residuals=False)
    jaxreg.save(many, tmp_path / "many")
    assert size("many") < 5 * x.nbytes  # x once, y for each
    again = jaxreg.load(tmp_path / "many")
    assert again.problem.x.shape == (3, 20_000)
    assert again.problem.x.strides[0] == 0
    same(again[2], many[2])


def test_a_function_is_asked_for_and_checked_by_what_it_gives(tmp_path):
    with jax.enable_x64(True):
        fit = jaxreg.fit(data(decay))
        jaxreg.save(fit, tmp_path / "fit")
        alone = jaxreg.load(tmp_path / "fit")
        assert float(uncertainty.intervals(alone).upper["rate"]) == float(uncertainty.intervals(fit).upper["rate"])
        with pytest.raises(ValueError, match=r"decay was left out .* load\(path, model=…\)"):
            uncertainty.band(alone, X)
        again = jaxreg.load(tmp_path / "fit", model=decay)
        same(uncertainty.band(again, X), uncertainty.band(fit, X))
        with pytest.raises(ValueError, match="with this problem: it was made of another"):
            jaxreg.load(tmp_path / "fit", model=lambda p, x: decay(p, x) + 0.1)


def test_the_functions_of_a_sum_are_given_in_order(tmp_path):
    with jax.enable_x64(True):
        fit = jaxreg.fit(data(decay) + data(TEXT, Y[1]) + data(lambda p, x: decay(p, x), Y[2]))
        jaxreg.save(fit, tmp_path / "fit")
        again = jaxreg.load(tmp_path / "fit", model=[decay, decay])
        assert [form.model for form in again.problem.form.terms] == [decay, TEXT, decay]
        with pytest.raises(ValueError, match="one function for each that the file lacks, if any, got 1 more"):
            jaxreg.load(tmp_path / "fit", model=[decay] * 3)


@pytest.mark.parametrize(
    "problem",
    [lambda: data(TEXT).tie(halves), lambda: data(TEXT, loss=losses.elementwise(own_loss)),
     lambda: data(TEXT) + jaxreg.prior(lambda p: p["rate"], 1.5, 0.1)],
    ids=["tie", "loss", "prior"],
)  # fmt: skip
def test_other_functions_come_back_with_the_problem(tmp_path, problem):
    with jax.enable_x64(True):
        one = problem()
        fit = jaxreg.fit(one)
        jaxreg.save(fit, tmp_path / "fit")
        same(jaxreg.load(tmp_path / "fit").with_problem(one), fit)


def test_a_model_that_was_changed_is_not_taken_for_the_built_in_one(tmp_path):
    changed = models.ohm()._replace(rowwise=False)
    fit = jaxreg.curve_fit(changed, jnp.arange(3.0), jnp.arange(3.0))
    jaxreg.save(fit, tmp_path / "fit")
    assert jaxreg.load(tmp_path / "fit").problem.model != models.ohm()
    assert jaxreg.load(tmp_path / "fit", model=changed).problem.model == changed


def test_the_store_of_many_fits_can_be_saved_and_is_loaded_as_a_store(tmp_path):
    with jax.enable_x64(True):
        stored = jaxreg.fit_many(TEXT, X, Y, START, store=tmp_path / "store")
        jaxreg.save(stored, tmp_path / "fits")
        again = jaxreg.load(tmp_path / "fits")
        np.testing.assert_array_equal(again.params["rate"], stored.params["rate"][...])
        assert isinstance(jaxreg.load(tmp_path / "store"), jaxreg.Sweep)
        with pytest.raises(ValueError, match="of a store use"):
            jaxreg.load(tmp_path / "store", model=decay)
        with pytest.raises(ValueError, match="give another path"):
            jaxreg.save(again, tmp_path / "store", overwrite=True)


@pytest.fixture(scope="module")
def ohm():
    return jaxreg.curve_fit(models.ohm(), jnp.arange(3.0), jnp.arange(3.0))


def test_nothing_is_replaced_unasked_and_then_as_a_whole(tmp_path, ohm):
    jaxreg.save(ohm, tmp_path / "fit")
    with pytest.raises(ValueError, match=r"there is something at .* already: overwrite=True replaces it"):
        jaxreg.save(ohm, tmp_path / "fit")
    jaxreg.save(ohm.replace(chi2=jnp.float32(7.0)), tmp_path / "fit", overwrite=True)
    assert jaxreg.load(tmp_path / "fit").chi2 == 7
    assert [file.name for file in tmp_path.iterdir()] == ["fit"]


def test_the_home_folder_may_be_meant(tmp_path, ohm, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    jaxreg.save(ohm, "~/fit")
    assert (tmp_path / "fit").is_dir()
    same(jaxreg.load("~/fit").without_data(), jaxreg.load(tmp_path / "fit").without_data())


def test_what_is_wrong_with_a_path_or_a_file_is_said(tmp_path, ohm):
    with pytest.raises(ValueError, match="there is no fit at"):
        jaxreg.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="fit must be what fit, curve_fit or fit_many returned, got dict"):
        jaxreg.save({}, tmp_path / "fit")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="neither a store of jaxreg nor empty"):
        jaxreg.save(ohm, tmp_path / "file")
    with pytest.raises(ValueError, match="cannot be written"):
        jaxreg.save(ohm, "/proc/fit")


def edit(path: Path, change):
    described = json.loads(path.read_text())
    change(described["attributes"]["jaxreg"])
    path.write_text(json.dumps(described))


def test_a_file_of_a_newer_version_or_a_damaged_one_is_refused(tmp_path, ohm):
    jaxreg.save(ohm, tmp_path / "newer")
    edit(tmp_path / "newer" / "zarr.json", lambda kept: kept.update(format=99))
    with pytest.raises(ValueError, match="has format 99, this version of jaxreg has 1"):
        jaxreg.load(tmp_path / "newer")
    jaxreg.save(ohm, tmp_path / "damaged")
    folder = tmp_path / "damaged" / "results.residuals"
    chunk = next(file for file in folder.rglob("*") if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="is damaged"):
        jaxreg.load(tmp_path / "damaged")


def test_a_name_in_a_file_chooses_among_the_models_of_this_package_alone(tmp_path, ohm):
    jaxreg.save(ohm, tmp_path / "fit")
    edit(tmp_path / "fit" / "zarr.json", lambda kept: kept["fit"]["form"]["terms"][0]["model"].update(model="rowwise"))
    with pytest.raises(ValueError, match="rowwise was left out"):
        uncertainty.band(jaxreg.load(tmp_path / "fit"), jnp.arange(3.0))
