"""Formulas as text against NumPy's own evaluation, closed-form derivatives, and everything that must be refused."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import models

X = np.linspace(0.5, 3.0, 7)
VALUES = {f"b{index}": 0.3 + 0.1 * index for index in range(1, 10)} | {"a": 2.0, "b": 1.3, "c": -0.4}

# The model lines of NIST's 27 nonlinear reference data sets, without y = and + e.
NIST = {
    "Misra1a, BoxBOD": "b1*(1-exp[-b2*x])",
    "Misra1b": "b1 * (1-(1+b2*x/2)**(-2))",
    "Misra1c": "b1 * (1-(1+2*b2*x)**(-.5))",
    "Misra1d": "b1*b2*x*((1+b2*x)**(-1))",
    "Chwirut1, 2": "exp[-b1*x]/(b2+b3*x)",
    "Lanczos1-3": "b1*exp(-b2*x) + b3*exp(-b4*x) + b5*exp(-b6*x)",
    "Gauss1-3": "b1*exp( -b2*x ) + b3*exp( -(x-b4)**2 / b5**2 )\n + b6*exp( -(x-b7)**2 / b8**2 )",
    "DanWood": "b1*x**b2",
    "Kirby2": "(b1 + b2*x + b3*x**2) /\n(1 + b4*x + b5*x**2)",
    "Hahn1, Thurber": "(b1+b2*x+b3*x**2+b4*x**3) /\n   (1+b5*x+b6*x**2+b7*x**3)",
    "MGH09": "b1*(x**2+x*b2) / (x**2+x*b3+b4)",
    "MGH10": "b1 * exp[b2/(x+b3)]",
    "MGH17": "b1 + b2*exp[-x*b4] + b3*exp[-x*b5]",
    "Rat42": "b1 / (1+exp[b2-b3*x])",
    "Rat43": "b1 / ((1+exp[b2-b3*x])**(1/b4))",
    "Eckerle4": "(b1/b2) * exp[-0.5*((x-b3)/b2)**2]",
    "Bennett5": "b1 * (b2+x)**(-1/b3)",
    "Roszman1": "b1 - b2*x - arctan[b3/(x-b4)]/pi",
    "ENSO": "b1 + b2*cos( 2*pi*x/12 ) + b3*sin( 2*pi*x/12 )\n + b5*cos( 2*pi*x/b4 ) + b6*sin( 2*pi*x/b4 )\n"
    " + b8*cos( 2*pi*x/b7 ) + b9*sin( 2*pi*x/b7 )",
}
OTHERS = {
    "powers bind to the right and before the sign": "a - x**2**b + -x**2",
    "constants are folded": "a*x + 2**10/4 - exp(1)",
    "numbers of all forms": "a*x + 1e-3 + .5 + 3. + 1_000",
    "two arguments": "arctan2(a*x, b) + minimum(a, x) + max(b, x)",
    "aliases and capitals": "a*ln(x) + asin(x/4) + EXP(-x)",
    "plus signs": "+a*x + +b",
}


@pytest.mark.parametrize("text", [*NIST.values(), *OTHERS.values()], ids=[*NIST, *OTHERS])
@pytest.mark.usefixtures("x64")
def test_values_equal_those_of_numpy(text: str) -> None:
    model = models.expression(text)
    params = {name: VALUES[name] for name in model.init(jax.random.key(0))}
    names = {name: getattr(np, name) for name in ("exp", "cos", "sin", "arctan", "arctan2", "minimum", "pi")}
    names |= {"ln": np.log, "asin": np.arcsin, "EXP": np.exp, "max": np.maximum}
    python = text.translate(str.maketrans("[]\n", "() "))
    expected = eval(python, {"__builtins__": {}}, {**names, **params, "x": X})
    np.testing.assert_allclose(model.apply(params, X), expected, rtol=1e-14)


def test_jit_vmap_and_derivatives_go_through(variant: Any) -> None:
    apply = models.expression("a*exp(-b*x) + c").apply
    x, params = jnp.array([0.5, 1.0, 2.0]), {"a": jnp.array(2.0), "b": jnp.array(1.0), "c": jnp.array(3.0)}
    slope = variant(lambda params, x: jax.jacfwd(apply)(params, x))(params, x)
    decay = np.exp(-np.asarray(x))
    np.testing.assert_allclose(slope["a"], decay, rtol=1e-6)
    np.testing.assert_allclose(slope["b"], -2 * x * decay, rtol=1e-6)
    np.testing.assert_allclose(slope["c"], np.ones(3))


@pytest.mark.parametrize(("power", "third"), [(2, 0.0), (3, 6.0)])
def test_whole_powers_have_all_derivatives_at_zero(power: int, third: float) -> None:
    apply = models.expression(f"(a+x)**{power}").apply
    derivative = jax.grad(jax.grad(jax.grad(lambda a: apply({"a": a}, jnp.zeros(1))[0])))
    assert derivative(0.0) == third


def test_variables_parameters_and_constants() -> None:
    model = models.expression("b1 - b2*x1 * exp[-k*x2]", independent=("x1", "x2"), constants={"k": 0.5})
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    expected = 1 - 2 * np.array([1, 3]) * np.exp([-1.0, -2.0])
    np.testing.assert_allclose(model.apply({"b1": 1.0, "b2": 2.0}, x), expected, rtol=1e-6)
    assert models.expression("e*x", parameters=("e",)).init(jax.random.key(0)) == {
        "e": 1.0
    }  # a name given is no constant
    assert models.expression_names("a*exp(-t/tau) + pi") == ("a", "t", "tau", "pi")


def test_the_same_text_is_the_same_model() -> None:
    assert models.expression("a*x") is models.expression("a*x")
    assert models.expression("a*x") is not models.expression("a*x", constants={"k": 1.0})


@pytest.mark.parametrize(
    ("text", "linear"),
    [
        ("a + b*x + c*x**2", True),
        ("-a*sin(x)/2 - (b - c)*x", True),
        ("a*exp(-b*x)", False),
        ("a*x + 1", False),  # the 1 has no parameter
        ("a*b*x", False),
        ("a/b*x", False),
        ("a**2*x", False),
    ],
)
def test_linearity_is_read_from_the_text(text: str, linear: bool) -> None:
    assert (models.expression(text).features is not None) is linear


@pytest.mark.usefixtures("x64")
def test_features_and_guess_of_a_linear_formula() -> None:
    model = models.expression("b0 + b1*x + b2*x**2")
    x = jnp.asarray(X)
    np.testing.assert_allclose(model.features(x), np.vander(X, 3, increasing=True), rtol=1e-15)
    y = 1 + 2 * x - 0.5 * x**2
    guess = jax.jit(model.guess)(x, y)
    np.testing.assert_allclose([guess[f"b{index}"] for index in range(3)], [1, 2, -0.5], rtol=1e-12)


REFUSED = {
    "": "such as .*, got nothing",
    "a*foo(x)": r"functions must be exp, .*, got foo at position 3",
    "a*x + exp": r"functions must be called, as in exp\(x\), got exp at position 7",
    "a*z": r"must depend on x, got 'a\*z', which depends on a, z",
    "log(a, x)": "log must have 1 argument, got 2 at position 1",
    "a*x^2": r"operators must be .*, got \^",
    "a*x + 'q'": "numbers must be whole or decimal, got 'q' at position 7",
    "a*x + 1j": "numbers must be whole or decimal, got 1j",
    "a*x + True": "numbers must be whole or decimal, got True",
    "2x": "invalid decimal literal",
    "a*x)": r"matching brackets, got \) at position 4",
    "(a*x]": r"matching brackets, got \] at position 5",
    "(a*x": r"matching brackets, got \( open at position 1",
    "a*x + 1/0": "numbers must be finite, got '1 / 0' at position 7",
    "9**9**9**9*a*x": "numbers must be finite",
    "(-8)**0.5*a*x": "numbers must be finite",
    "__import__('os').system('true')*x": "parts must be arithmetic on names and numbers",
    "(lambda: a)()*x": "parts must be arithmetic",
    "[a for a in x]": "parts must be arithmetic",
    "x.__class__": r"parts must be arithmetic on names and numbers, got 'x.__class__' at position 1",
    "a*log(x=3)": "parts must be arithmetic",
    "a if x else b": "parts must be arithmetic",
    "a*x; b": "invalid syntax",
    "a < x": "parts must be arithmetic",
    "a*x\0": "simpler|null",
    "x": "number of parameters in the expression must be at least 1",
    "-" * 9000 + "a*x": "simpler|deep",
    "(" * 100 + "a*x" + ")" * 100: "at most 60 brackets",
    "+".join(["a*x"] * 1000): "at most 200 deep",
    "1" * 5000 + "*a*x": "limit|simpler",
    "a*x" + " " * 10_000: "at most 10000 characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_what_is_refused_says_why_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[text]) as refused:
        models.expression(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="expression must be text, got int"):
        models.expression(3)  # type: ignore[arg-type]


def test_unknown_names_where_the_parameters_are_said() -> None:
    with pytest.raises(ValueError, match=r"names must be x, a, b, got q at position 13 of 'a\*exp\(-b\*x\)\+q'"):
        models.expression("a*exp(-b*x)+q", parameters=("a", "b"))


def test_positions_count_characters_of_the_text_as_given() -> None:
    with pytest.raises(ValueError, match="got q at position 9"):
        models.expression("  é*x\n+ q(x)")
    with pytest.raises(ValueError, match=r"got 'a\.b'"):
        models.expression("a*x", constants={"a.b": 1.0})


def test_params_and_x_of_the_wrong_shape() -> None:
    apply = models.expression("a*x").apply
    with pytest.raises(ValueError, match="params must be a dict of a, got b"):
        apply({"b": 1.0}, jnp.ones(3))
    with pytest.raises(ValueError, match=r"x must have shape \(n,\), got \(3, 1\)"):
        apply({"a": 1.0}, jnp.ones((3, 1)))
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\), got \(3,\)"):
        models.expression("a*u + v", independent=("u", "v")).apply({"a": 1.0}, jnp.ones(3))


def test_a_large_whole_power_is_a_floating_one() -> None:
    value = models.expression("a*x**1000000").apply({"a": 1.0}, jnp.array([0.5, 1.0]))
    np.testing.assert_array_equal(value, [0.0, 1.0])
    assert math.isinf(models.expression("a*x**999").apply({"a": 1.0}, jnp.array([3.0]))[0])
