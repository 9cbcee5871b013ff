"""Global fits of a plate of wells, beside SciPy on the stacked problem with the exact Jacobian."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import jaxreg

ROWS, SIGMA = 800, 0.02
X = np.linspace(0.0, 10.0, ROWS)
SHARED = {
    "background": np.array([0.05, -0.004]), "distance": 1.5, "rates": np.array([4.0, 1.0, 0.2]), "stretch": 0.7,
    "widths": np.array([0.4, 0.7]),
}  # fmt: skip
OWN = ("amplitudes", "offset", "position")
_NUM_SHARED, _NUM_OWN = 9, 7


def _curve(p: Any, x: Any, np: Any) -> Any:
    """Two decays, a stretched one, two peaks that keep their distance, and a background."""
    one, two, three = (p["rates"][place] * x for place in range(3))
    first = (x - p["position"]) / p["widths"][0]
    second = (x - p["position"] - p["distance"]) / p["widths"][1]
    peaks = np.exp(-0.5 * first**2), np.exp(-0.5 * second**2)
    shapes = np.exp(-one), np.exp(-two), np.exp(-(three ** p["stretch"])), *peaks
    total = sum(p["amplitudes"][place] * shape for place, shape in enumerate(shapes))
    return total + p["offset"] + p["background"][0] * x + p["background"][1] * x**2


def model(params: Any, x: Any) -> Any:
    """The curve for JAX; at x = 0 the derivative of a power would not be finite."""
    return _curve(params, jnp.maximum(x, 1e-6), jnp)


@functools.cache
def drawn(num_sets: int) -> tuple[np.ndarray, dict[str, Any]]:
    """y (m, n), and the true parameters, own ones with a leading axis."""
    rng = np.random.default_rng(0)
    true: dict[str, Any] = SHARED | {
        "amplitudes": rng.uniform(0.5, 1.5, (num_sets, 5)),
        "offset": rng.uniform(-0.2, 0.2, num_sets),
        "position": rng.uniform(2.0, 4.0, num_sets),
    }
    x, y = np.maximum(X, 1e-6), np.empty((num_sets, ROWS))
    for place in range(num_sets):
        one = true | {name: true[name][place] for name in OWN}
        y[place] = _curve(one, x, np) + SIGMA * rng.normal(size=ROWS)
    return y, true


def start(num_sets: int) -> dict[str, Any]:
    """20 to 50 % beside the truth."""
    rng, (_, true) = np.random.default_rng(2), drawn(num_sets)

    def beside(value: Any) -> Any:
        return value * (1 + rng.uniform(0.2, 0.5, np.shape(value)) * rng.choice([-1, 1], np.shape(value)))

    begin = {name: beside(value) for name, value in true.items()}
    # A peak that begins beside the data's, or on the other one's place, finds another minimum.
    begin["position"] = true["position"] + rng.uniform(-0.15, 0.15, num_sets)
    return begin


class Wells(NamedTuple):
    """A program that fits a plate."""

    num_sets: int
    run: Callable[[], Any]
    cost: Callable[[Any], float]  # χ², with sigma


def ours(num_sets: int) -> Wells:
    """``fit_many`` with ``shared``."""
    (y, _), begin = drawn(num_sets), start(num_sets)

    def run() -> jaxreg.GlobalFit:
        return jaxreg.fit_many(
            model, X, y, begin, p0_each=True, shared=list(SHARED), sigma=SIGMA, absolute_sigma=True, residuals=False,
            progress=False,
        )  # fmt: skip

    def cost(fit: jaxreg.GlobalFit) -> float:
        jaxreg.raise_if_failed(fit)
        return float(fit.chi2)

    return Wells(num_sets, run, cost)


def scipy(num_sets: int, method: str, *, sparse: bool = False, most: int | None = None) -> Wells:
    """``scipy.optimize.least_squares`` of all parameters in one vector, with tolerances of 1e-10."""
    optimize, matrices = (importlib.import_module(f"scipy.{name}") for name in ("optimize", "sparse"))
    (y, _), begin = drawn(num_sets), start(num_sets)
    first = np.concatenate(
        [
            *(np.ravel(begin[name]) for name in SHARED),
            np.hstack([begin[name].reshape(num_sets, -1) for name in OWN]).ravel(),
        ]
    )

    def residual(params: np.ndarray) -> np.ndarray:
        curves = [_curve(_named(*_split(params, place)), np.maximum(X, 1e-6), np) for place in range(num_sets)]
        return (np.concatenate(curves) - y.ravel()) / SIGMA

    def jacobian(params: np.ndarray) -> Any:
        slopes = [_slopes(*_split(params, place)) / SIGMA for place in range(num_sets)]
        if sparse:
            own = matrices.block_diag([one[:, _NUM_SHARED:] for one in slopes])
            return matrices.hstack(
                [matrices.csr_matrix(np.concatenate([one[:, :_NUM_SHARED] for one in slopes])), own], "csr"
            )
        dense = np.zeros((num_sets * ROWS, params.size))
        for place, one in enumerate(slopes):
            rows, own = slice(place * ROWS, (place + 1) * ROWS), _NUM_SHARED + place * _NUM_OWN
            dense[rows, :_NUM_SHARED], dense[rows, own : own + _NUM_OWN] = one[:, :_NUM_SHARED], one[:, _NUM_SHARED:]
        return dense

    def run() -> Any:
        solver = {"tr_solver": "lsmr"} if sparse else {}
        tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-10)
        return optimize.least_squares(residual, first, jacobian, method=method, max_nfev=most, **tolerances, **solver)

    return Wells(num_sets, run, lambda found: 2 * float(found.cost))


def _split(params: np.ndarray, place: int) -> tuple[np.ndarray, np.ndarray]:
    own = _NUM_SHARED + place * _NUM_OWN
    return params[:_NUM_SHARED], params[own : own + _NUM_OWN]


def _named(shared: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """The parameters of one well."""
    return {
        "background": shared[:2], "distance": shared[2], "rates": shared[3:6], "stretch": shared[6],
        "widths": shared[7:], "amplitudes": own[:5], "offset": own[5], "position": own[6],
    }  # fmt: skip


def _slopes(shared: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The derivatives of one well's curve by the shared parameters and by its own, for NumPy."""
    _, _, distance, *rates, stretch, one, two = shared
    *amplitudes, _, position = own
    x = np.maximum(X, 1e-6)
    away, beyond = (x - position) / one, (x - position - distance) / two
    power = (rates[2] * x) ** stretch
    decays = [np.exp(-rates[0] * x), np.exp(-rates[1] * x), np.exp(-power)]
    shapes = np.stack([*decays, np.exp(-0.5 * away**2), np.exp(-0.5 * beyond**2)])
    a, b, c, d, e = np.array(amplitudes)[:, None] * shapes
    by_distance = e * beyond / two
    columns = [
        x, x**2, by_distance, -x * a, -x * b, -c * power * stretch / rates[2], -c * power * np.log(rates[2] * x),
        d * away**2 / one, e * beyond**2 / two, *shapes, np.ones_like(x), d * away / one + by_distance,
    ]  # fmt: skip
    return np.stack(columns, axis=1)
