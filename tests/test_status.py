import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Status, raise_if_failed
from jaxreg.status import Part
from jaxreg.training import Training


def test_success_is_zero_and_codes_never_change():
    assert [(status.name, int(status)) for status in Status] == [
        ("OK", 0),
        ("MAX_STEPS", 1),
        ("DIVERGED", 2),
        ("NONFINITE", 3),
        ("SINGULAR", 4),
        ("INVALID_INPUT", 5),
        ("KINK", 6),
        ("NOT_OPTIMUM", 7),
        ("TIMEOUT", 8),
    ]


def test_success_passes():
    raise_if_failed(jnp.zeros((3, 4), jnp.int32))
    raise_if_failed(jnp.int32(0))


def test_a_single_failure_is_named():
    with pytest.raises(RuntimeError, match=r"^the fit failed: SINGULAR$"):
        raise_if_failed(jnp.int32(4))


def test_each_failed_member_is_named_by_its_index():
    with pytest.raises(RuntimeError, match=r"^2 of 6 fits failed: \[0, 2\] DIVERGED, \[1, 0\] MAX_STEPS$"):
        raise_if_failed(np.array([[0, 0, 2], [1, 0, 0]]))


def test_a_result_is_read_by_its_status():
    with pytest.raises(RuntimeError, match="NONFINITE"):
        raise_if_failed(Training({}, jnp.zeros(0), None, jnp.int32(3), jnp.int32(0)))


def test_a_long_list_is_cut_and_counted():
    with pytest.raises(
        RuntimeError, match=r"^1000 of 1000 fits failed: \[0\] DIVERGED, .*\[19\] DIVERGED, and 980 more$"
    ):
        raise_if_failed(np.full(1000, 2))


def test_an_unknown_code_is_said():
    with pytest.raises(RuntimeError, match="unknown status 77"):
        raise_if_failed(np.int32(77))


def test_of_many_fits_each_is_told_of_its_own_parameters():
    fits = types.SimpleNamespace(
        status=np.array([[Status.SINGULAR, Status.NONFINITE]]),
        params={"a": np.zeros((1, 2)), "w": np.zeros((1, 2, 2))},
        undetermined=np.array([[[0, 0.6, -0.8], [0, 0, 0]]]),
        culprit=np.array([[[Part.NOTHING, 0, 0], [Part.DERIVATIVE, 5, 2]]]),
        chi2=np.zeros((1, 2)),
    )
    singular = r"\[0, 0\] SINGULAR, not determined: 0\.6 w\[0\] - 0\.8 w\[1\]"
    with pytest.raises(RuntimeError, match=singular + r", \[0, 1\] NONFINITE, .* derivative by w\[1\] .* at row 5"):
        raise_if_failed(fits)
