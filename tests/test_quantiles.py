"""Quantiles against SciPy's."""

import numpy as np
import pytest
import scipy.stats

from jaxreg import uncertainty
from jaxreg.uncertainty._quantiles import chi2_quantile, f_quantile, t_quantile

DOF = np.array([1, 2, 3, 4, 7, 28, 100, 1000, 1e4, 1e8])[:, None]
PROBABILITY = np.array([1e-10, 0.001, 0.025, 0.1587, 0.49, 0.5, 0.75, 0.995])[None]


@pytest.mark.usefixtures("x64")
def test_t_in_double_precision() -> None:
    expected = scipy.stats.t.ppf(PROBABILITY, DOF)
    # 1e-12: JAX's incomplete beta function is right to about 1e-14, and its inverse loses up to √dof of that.
    np.testing.assert_allclose(
        t_quantile(PROBABILITY + 0 * DOF, DOF + 0 * PROBABILITY), expected, rtol=1e-12, atol=1e-15
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("distribution", ["t", "normal"])
def test_the_quantile_of_one_fit(distribution: str) -> None:
    for dof in (1, 2, 3, 4, 7, 28, 101, 2000, 2001, 10**8):
        for level in (0.01, 0.5, 0.683, 0.95, 0.999):
            frozen = scipy.stats.norm() if distribution == "normal" else scipy.stats.t(dof)
            found = uncertainty.quantile(dof, level, distribution)
            # A level of 0.999 is rounded by 1e-13 of what is left of 1.
            np.testing.assert_allclose(found, frozen.ppf(0.5 + level / 2), rtol=2e-12)


def test_t_in_single_precision() -> None:
    expected = scipy.stats.t.ppf([0.9, 0.975], [[1], [4], [30], [1e6]])
    found = t_quantile(np.float32([[0.9, 0.975]] * 4), np.float32([[1] * 2, [4] * 2, [30] * 2, [1e6] * 2]))
    np.testing.assert_allclose(found, expected, rtol=3e-5)  # the incomplete beta function in float32


@pytest.mark.usefixtures("x64")
def test_f_in_double_precision() -> None:
    probability, numerator, denominator = np.meshgrid([0.5, 0.683, 0.95, 0.999], [1, 2, 5, 9], [1, 4, 42, 1000])
    expected = scipy.stats.f.ppf(probability, numerator, denominator)
    np.testing.assert_allclose(f_quantile(probability, 1.0 * numerator, 1.0 * denominator), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_chi2_in_double_precision() -> None:
    probability, dof = np.meshgrid([1e-6, 0.05, 0.5, 0.683, 0.95, 1 - 1e-6], [1.0, 2, 5, 40])
    np.testing.assert_allclose(chi2_quantile(probability, dof), scipy.stats.chi2.ppf(probability, dof), rtol=1e-9)


def test_without_degrees_of_freedom_there_is_no_quantile() -> None:
    assert np.isnan(uncertainty.quantile(np.array([0, -1]))).all()
    np.testing.assert_allclose(uncertainty.quantile(np.array([3, 5]), 0.6827, "normal"), 1.0, rtol=1e-4)
    with pytest.raises(ValueError, match="distribution must be one of 't', 'normal', got 'z'"):
        uncertainty.quantile(3, distribution="z")
