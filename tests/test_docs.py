"""The README and the pages of docs/: each Python block runs, in order, and prints the text block after it."""

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from blocks import blocks_of  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A folder of its own for what a page writes, and JAX as it was before the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    cache = "compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes"
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in ("enable_x64", *cache)}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    plt.close("all")


def command(text):
    """The output of shell commands that find this interpreter as python, the package, and its command."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    text = f'jaxreg() {{ python -m jaxreg "$@"; }}\n{text}'
    return subprocess.run(["bash", "-ec", text], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
@pytest.mark.usefixtures("settings")
def test_a_page_prints_what_it_says(page):
    namespace: dict[str, object] = {"__name__": "page"}
    for language, text, output in blocks_of(page):
        if named := re.match(r"# (\w+\.py)\n", text):
            Path(named[1]).write_text(text)
        elif language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(text, namespace)
            assert printed.getvalue() == (output or "")
        elif output is not None:
            assert language == "sh"
            assert command(text) == output


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_names_what_exists(page):
    """Files, and in commands whose output is not shown the options of a script and the extras of an installation."""
    for named in re.findall(r"(?<![\w/])(?:scripts|docs|tests)/\w+\.\w+", page.read_text()):
        assert (ROOT / named).is_file(), named
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for script, options in re.findall(r"python (scripts/\w+\.py)([^`\n]*)", page.read_text()):
        source = (ROOT / script).read_text()
        imported = re.findall(r"^(?:import|from) (_\w+)", source, re.MULTILINE)
        shared = [file for name in imported for file in (ROOT / "scripts").glob(f"{name}/*.py")]
        shared += [ROOT / "scripts" / f"{name}.py" for name in imported]
        source += "".join(file.read_text() for file in shared if file.exists())
        for option in set(re.findall(r" (--[\w-]+)", options)) - {"--help"}:
            assert f'"{option}"' in source, f"{script} has no {option}"
    command = "".join(file.read_text() for file in (ROOT / "jaxreg" / "_command").glob("*.py"))
    for options in re.findall(r"(?:^|`)jaxreg (?:fit|sweep) ([^`\n]*)", page.read_text(), re.MULTILINE):
        for option in set(re.findall(r"(?:^| )(--[\w-]+)", options)) - {"--help"}:
            assert f'"{option}"' in command, f"jaxreg has no {option}"
    for named in re.findall(r"pip install [^`\n]*\[([\w,]+)\]", page.read_text()):
        assert set(named.split(",")) <= extras.keys()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_are_run_or_shown_and_fit_on_a_page(page):
    for language, text, _ in blocks_of(page):
        assert language in {"", "python", "sh", "text"} or language.startswith("{")
        if language == "python" and page.name != "README.md":
            assert max(map(len, text.splitlines())) <= 92


def test_every_public_module_has_its_page():
    """Either with all its members, or with each named."""
    for file in sorted((ROOT / "jaxreg").glob("[a-z]*")):
        if file.name == "py.typed":
            continue
        module = importlib.import_module(f"jaxreg.{file.stem}")
        page = (ROOT / "docs" / "api" / f"{file.stem}.md").read_text()
        assert f"automodule:: {module.__name__}\n" in page
        if ":no-members:" in page:
            mine = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
            for name in getattr(module, "__all__", mine):
                if not name.startswith("_") and callable(getattr(module, name)):
                    assert re.search(rf"auto\w+:: jaxreg\S*\b{name}\n", page), name
