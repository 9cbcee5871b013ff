"""Formulas as text, such as "a*exp(-b*x) + c", as functions that JAX can trace. Nothing is ever evaluated as code.

The text is parsed to Python's syntax tree, of which only arithmetic on names and numbers and calls of the functions
listed here are taken; everything else is refused with its position.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
import jax.scipy.special
import numpy as np
from jax import Array

CONSTANTS = {"pi": math.pi, "e": math.e}

_ALIASES = {
    "ln": "log",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "min": "minimum",
    "max": "maximum",
}
_NUMPY = [
    "exp",
    "log",
    "log10",
    "log2",
    "log1p",
    "expm1",
    "sqrt",
    "cbrt",
    "abs",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "arctan2",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "minimum",
    "maximum",
]


class _Function(NamedTuple):
    arity: int
    traced: Callable[..., Any]
    plain: Callable[..., Any]  # of Python floats


FUNCTIONS: dict[str, _Function] = {
    name: _Function(getattr(np, name).nin, getattr(jnp, name), getattr(np, name)) for name in _NUMPY
}
FUNCTIONS |= {alias: FUNCTIONS[name] for alias, name in _ALIASES.items()}
FUNCTIONS |= {
    "erf": _Function(1, jax.scipy.special.erf, math.erf),
    "erfc": _Function(1, jax.scipy.special.erfc, math.erfc),
}

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}

# What no formula needs, and what could exhaust the parser or the tracer.
_MOST_CHARACTERS = 10_000
_MOST_BRACKETS = 60
_MOST_LEVELS = 200
_MOST_INTEGER_POWER = 64  # beyond it a whole power is a floating one, which costs the same for every exponent


class Formula(NamedTuple):
    """A parsed formula.

    Attributes:
        parameters: the names that are neither independent variables nor constants, in their order in the text.
        evaluate: names -> values, by arithmetic; takes both independent variables and parameters.
        linear: whether the text says that the formula is Σ parameter · (something free of parameters).
    """

    parameters: tuple[str, ...]
    evaluate: Callable[[Mapping[str, Any]], Array]
    linear: bool


def parse(
    text: str,
    *,
    independent: Sequence[str] = ("x",),
    parameters: Sequence[str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Formula:
    """Parse a formula; every name that is not independent, a constant or a function is a parameter.

    Square brackets count as parentheses, and lines as one. ``parameters`` says the only names allowed. Raises
    ValueError with the position of what is refused.

    >>> parse("b1*(1-exp[-b2*x])").parameters
    ('b1', 'b2')
    """
    for name in (*independent, *(parameters or ()), *(constants or {})):
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"names in an expression must be identifiers, got {name!r}")
    given = {**CONSTANTS, **(constants or {})}
    known = {name: given[name] for name in given.keys() - {*independent, *(parameters or ())}}
    reader = _Reader(text, tuple(independent), None if parameters is None else tuple(parameters), known)
    term = reader.term(reader.tree)
    missing = [name for name in independent if name not in reader.seen]
    if missing:
        raise ValueError(
            f"expression must depend on {', '.join(missing)}, got {_shown(text)}, "
            f"which depends on {', '.join(reader.seen) or 'nothing'}: independent= names the variable"
        )
    found = tuple(name for name in reader.seen if name not in independent)
    return Formula(found, term.evaluate, term.degree == 1)


def names(text: str) -> tuple[str, ...]:
    """All names of a formula except functions, in their order; constants too.

    >>> names("a*exp(-t/tau) + pi")
    ('a', 't', 'tau', 'pi')
    """
    reader = _Reader(text, (), None, {})
    reader.term(reader.tree)
    return tuple(reader.seen)


class _Term(NamedTuple):
    evaluate: Callable[[Mapping[str, Any]], Any]
    degree: int  # in the parameters together: 0 free of them, 1 linear and homogeneous, 2 anything else
    number: float | None = None  # the value where it is known


class _Reader:
    """One reading of one text: ``seen`` collects its names."""

    def __init__(
        self, text: str, independent: tuple[str, ...], parameters: tuple[str, ...] | None, known: Mapping[str, float]
    ):
        if not isinstance(text, str):
            raise ValueError(f"expression must be text, got {type(text).__name__}")
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"expression must have at most {_MOST_CHARACTERS} characters, got {len(text)}")
        self.text, self.independent, self.parameters, self.known = text, independent, parameters, known
        self.seen: dict[str, None] = {}
        _check_brackets(text)
        # One character for one, so that positions stay.
        self.line = text.translate(str.maketrans("[]\n\r\t\f", "()    "))
        self.indent = len(self.line) - len(self.line.lstrip())
        self.tree = self._tree()

    def _tree(self) -> ast.expr:
        if not self.line.strip():
            raise ValueError("expression must be arithmetic such as a*exp(-b*x), got nothing")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tree = ast.parse(self.line.strip(), mode="eval").body
        except SyntaxError as error:
            place = f" at position {self.indent + error.offset}" if error.offset else ""
            raise ValueError(
                f"expression must be arithmetic such as a*exp(-b*x), got {_shown(self.text)}: {error.msg}{place}"
            ) from None
        except (RecursionError, MemoryError, ValueError):
            raise ValueError(
                f"expression must be simpler than what the parser refuses, got {_shown(self.text)}"
            ) from None
        levels, layer = 0, [tree]
        while layer:
            levels += 1
            layer = [child for node in layer for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if levels > _MOST_LEVELS:
            raise ValueError(f"expression must be nested at most {_MOST_LEVELS} deep, got {levels}")
        return tree

    def term(self, node: ast.expr) -> _Term:
        match node:
            case ast.Constant(value=bool() | complex() | str() | bytes() | None):
                return self.refuse(node, "numbers must be whole or decimal", ast.unparse(node))
            case ast.Constant(value=int() | float() as value):
                return self.number(node, lambda: float(value))
            case ast.Name(id=name):
                return self.name(node, name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                term = self.term(operand)
                if term.number is not None:
                    return self.number(node, lambda: -term.number)  # type: ignore[operator]
                return _Term(lambda values: -term.evaluate(values), term.degree)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.term(operand)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
                return self.operation(node, type(op), self.term(left), self.term(right))
            case ast.BinOp(op=ast.BitXor()):
                return self.refuse(node, "operators must be + - * / and ** (for a power)", "^")
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(node, name, arguments)
        return self.refuse(node, "parts must be arithmetic on names and numbers", _shown(ast.unparse(node)))

    def number(self, node: ast.expr, compute: Callable[[], Any]) -> _Term:
        """A value known now, so that absurd numbers are refused before anything is traced."""
        try:
            with np.errstate(all="ignore"):
                value = float(compute())
        except (ArithmeticError, ValueError):
            value = math.nan
        except TypeError:  # a power of a negative number is complex
            value = math.nan
        if not math.isfinite(value):
            self.refuse(node, "numbers must be finite", _shown(ast.unparse(node)))
        return _Term(lambda _: value, 0, value)

    def name(self, node: ast.expr, name: str) -> _Term:
        if name in self.known:
            value = float(self.known[name])
            return _Term(lambda _: value, 0, value)
        variable = name in self.independent
        if name in FUNCTIONS and not variable and name not in (self.parameters or ()):
            self.refuse(node, f"functions must be called, as in {name}(x)", name)
        if not variable and self.parameters is not None and name not in self.parameters:
            self.refuse(node, f"names must be {', '.join((*self.independent, *self.parameters))}", name)
        self.seen[name] = None
        return _Term(operator.itemgetter(name), 0 if variable else 1)

    def operation(self, node: ast.expr, op: type, left: _Term, right: _Term) -> _Term:
        apply = _OPERATORS[op]
        if left.number is not None and right.number is not None:
            return self.number(node, lambda: apply(left.number, right.number))
        if op in (ast.Add, ast.Sub):
            degree = left.degree if left.degree == right.degree else 2
        elif op is ast.Mult:
            degree = max(left.degree, right.degree) if 0 in (left.degree, right.degree) else 2
        elif op is ast.Div:
            degree = left.degree if right.degree == 0 else 2
        else:
            degree = 0 if left.degree == right.degree == 0 else 2
        power = right.number
        if op is ast.Pow and power is not None and power.is_integer() and abs(power) <= _MOST_INTEGER_POWER:
            whole = int(power)  # repeated multiplication, whose derivatives exist at zero and below
            return _Term(lambda values: left.evaluate(values) ** whole, degree)
        return _Term(lambda values: apply(left.evaluate(values), right.evaluate(values)), degree)

    def call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> _Term:
        function = FUNCTIONS.get(name) or FUNCTIONS.get(name.lower())
        if function is None:
            self.refuse(
                node, f"functions must be {', '.join(name for name in FUNCTIONS if name not in _ALIASES)}", name
            )
        if len(arguments) != function.arity:
            wanted = f"{name} must have {function.arity} argument{'s' * (function.arity > 1)}"
            self.refuse(node, wanted, str(len(arguments)))
        terms = [self.term(argument) for argument in arguments]
        if all(term.number is not None for term in terms):
            return self.number(node, lambda: function.plain(*(term.number for term in terms)))
        degree = 0 if all(term.degree == 0 for term in terms) else 2
        return _Term(lambda values: function.traced(*(term.evaluate(values) for term in terms)), degree)

    def refuse(self, node: ast.expr, wanted: str, got: str) -> NoReturn:
        # The tree counts bytes.
        before = self.line.strip().encode()[: node.col_offset].decode(errors="ignore")
        position = self.indent + len(before) + 1
        raise ValueError(f"the expression's {wanted}, got {got} at position {position} of {_shown(self.text)}")


def _check_brackets(text: str) -> None:
    closing = {")": "(", "]": "["}
    opened: list[tuple[str, int]] = []
    for position, character in enumerate(text, start=1):
        if character in "([":
            opened.append((character, position))
            if len(opened) > _MOST_BRACKETS:
                raise ValueError(f"expression must have at most {_MOST_BRACKETS} brackets in each other, got more")
        elif character in closing and (not opened or opened.pop()[0] != closing[character]):
            raise ValueError(f"expression must have matching brackets, got {character} at position {position}")
    if opened:
        raise ValueError(
            f"expression must have matching brackets, got {opened[-1][0]} open at position {opened[-1][1]}"
        )


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:57] + "…")
