"""The shapes in annotations are checked while the tests run, and cost users nothing."""

import runpy
import subprocess
import sys

import jax.numpy as jnp
import jaxtyping
import pytest
from conftest import JAXLIB, PACKAGE, SHAPED
from jax import Array

from jaxreg import _linear_algebra

checked = pytest.mark.skipif(JAXLIB != "0.10", reason="shapes are checked on one JAX alone")


@checked
def test_a_wrong_shape_is_caught(variant):
    with pytest.raises(jaxtyping.TypeCheckError, match="'columns'"):
        variant(_linear_algebra.qr_root)(jnp.ones(3))
    with pytest.raises(jaxtyping.TypeCheckError, match="'values'"):
        variant(_linear_algebra.solve_upper)(jnp.eye(2), jnp.ones(3))


@checked
def test_a_wrong_result_is_caught(monkeypatch):
    monkeypatch.setattr(_linear_algebra, "_qr_root_looped", jnp.ravel)
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        _linear_algebra.qr_root(jnp.ones((10, 10)))


@checked
def test_every_module_that_says_shapes_is_checked():
    assert {"jaxreg._linear_algebra", "jaxreg.covariance._estimate", "jaxreg.least_squares._levenberg_marquardt"} <= {
        *SHAPED
    }
    for name in SHAPED:
        assert hasattr(sys.modules[name], "jaxtyping")  # which the import hook has written into it


def test_users_need_no_jaxtyping():
    names = runpy.run_path(str(PACKAGE / "_shapes.py"))
    for name in names["__all__"]:
        assert names[name][Array, "p n"].__origin__ is Array
        assert hasattr(jaxtyping, name)
    code = "import sys, jaxreg; assert not {'jaxtyping', 'beartype'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
