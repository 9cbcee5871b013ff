"""Configuration of the documentation: ``sphinx-build -W docs build/docs``.

Neither the build nor the pages need a network.
"""

import ast
import dataclasses
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import jaxreg

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "scripts"))
import _lesson  # noqa: E402
from _page import parts  # noqa: E402

project = "jaxreg"
version = release = jaxreg.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["exercises/measured"]
nitpicky = True
# What other projects define: there is no inventory of theirs to look it up in.
nitpick_ignore_regex = [("py:.*", r"(?!jaxreg).*")]

html_theme = "furo"
html_title = "jaxreg"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 3
highlight_language = "python"

autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def as_written(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Signatures as they stand in the source: "ArrayLike", not the union that it stands for."""
    if inspect.isclass(thing) and dataclasses.is_dataclass(thing):
        own = dataclasses.fields(thing)
        fields = (one.name if one.default is dataclasses.MISSING else f"{one.name}={one.default!r}" for one in own)
        return f"({', '.join(fields)})", None
    if hasattr(thing, "_fields"):
        fields = (f"{field}=None" if field in thing._field_defaults else field for field in thing._fields)
        return f"({', '.join(fields)})", None
    if not inspect.isfunction(thing):
        return signature, result
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    assert isinstance(node, ast.FunctionDef)
    returned = ast.unparse(node.returns).strip("'") if node.returns else None
    return f"({ast.unparse(node.args)})", returned


def skip_fields(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool:
    """Not the fields of a named tuple, which its docstring describes: "Alias for field number 0"."""
    return skip or type(thing).__name__ == "_tuplegetter"


def exercise(app: Sphinx, docname: str, source: list[str]) -> None:
    """The exercises' pages from the text and the parts of which ``scripts/reproduce.py`` makes its page."""
    folder, _, name = docname.partition("/")
    if folder != "exercises":
        return
    measured = HERE / "exercises" / "measured"
    for file in (*measured.iterdir(), *parts.HERE.rglob("*.*s")):  # numbers and figures, styles and scripts
        app.env.note_dependency(file)
    results, page = parts.kept(measured)
    style = f"<style>{parts.style()}</style>"
    if name == "index":
        source[0] = source[0].replace("{verdict}", raw(style + parts.verdict(results, "{}.html")))
    else:
        slots = parts.slots(measured, name, results, page)
        text = _lesson.markdown(parts.words(results, name), lambda slot: raw(slots(slot)))
        source[0] = f"{text}\n\n{raw(f'{style}<script>{parts.script(name)}</script>')}\n"


def raw(html: str) -> str:
    """HTML inside Markdown."""
    return f"```{{raw}} html\n{html}\n```"


def visit_math(translator: Any, node: nodes.Node) -> None:
    """Formulas as MathML, made at build time: every browser draws it, without a script."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("source-read", exercise)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", skip_fields)
