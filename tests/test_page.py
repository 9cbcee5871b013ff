"""The page in a real browser: its knobs turned by keyboard, by pointer and by touch, and read as they are shown.

The page is made of what the documentation keeps. ``--report FOLDER`` takes what ``reproduce.py`` has written instead.
"""

import contextlib
import html
import itertools
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import jaxreg
from jaxreg import models

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install '.[browser]'")

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import _page  # noqa: E402
from _page import parts  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
WIDE = {"width": 1280, "height": 900}
MISSING = re.compile(r".{,40}(?:NaN|undefined|null|Infinity|\[object|<b>–|aria-label=\"\").{,40}")


class Readout(NamedTuple):
    """A number in the sentence below a knob, and what it must be."""

    exercise: str
    words: str  # N where the number stands
    wanted: Callable[[dict[str, Any]], float]  # of the exercise's numbers in results.json
    at: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # positions, by the knob's data; else the start


# At least one of each exercise at the start.
READOUTS = [
    Readout("initialisation", "takes N epochs", lambda found: found["starts"]["sd 1000"]["epochs_measured"]),
    Readout("initialisation", "loss is down; N were", lambda found: found["starts"]["sd 1000"]["epochs_predicted"]),
    Readout("ohm", "gradient descent is at N", lambda found: found["gradient_descent"]["mean"]),
    Readout("ohm", "Its 95 % interval, N to", lambda found: found["interval"][0]),
    Readout("reshape", "and b\u00a0=\u00a0N", lambda found: found["unguarded"]["b"]),
    Readout("reshape", "table, now N", lambda found: found["unguarded"]["final_loss"]),
    Readout("losses", "is N\u00a0% off", lambda found: 100 * found["one_feature"]["error"]["target"]["squared"]),
    Readout("last_batch", "dropping the rest makes it N times", lambda found: found["median_ratio"]),
    Readout("last_batch", "the loss is N", lambda found: found["median_loss_kept"]),
    Readout("shuffling", "multiplies the error by N", lambda found: found["predicted_spectral_radius"]),
    Readout("shuffling", "After N steps", lambda found: found["malicious_steps_to_divergence"]),
    Readout("learning_rates", "loss after 3 epochs is N", lambda found: found["validation_loss"]["0.03"]["3"]),
    Readout("learning_rates", "edge is at N times", lambda found: found["edge"]["median_predicted"] / 0.03),
    Readout(
        "learning_rates",
        "loss after 20 epochs is N",
        lambda found: found["validation_loss"]["0.3"]["20"],
        lambda data: {"rate": nearest(data["rates"], 0.3), "epochs": 19},
    ),
    Readout("planck", "steps, to N", lambda found: found["temperature"]),
    Readout("planck", "the least is N, for", lambda found: found["chi2"]),
    Readout("second_derivatives", "at once, at N", lambda found: found["steps_of_one_number"]["squared"]["newton"]),
    Readout(
        "second_derivatives",
        "its parabola, at N: uphill",
        lambda found: found["steps_of_one_number"]["Cauchy"]["newton"],
        lambda _: {"function": "Cauchy"},
    ),
    Readout(
        "second_derivatives",
        "goes downhill to N, from",
        lambda found: found["steps_of_one_number"]["Cauchy"]["damped"],
        lambda data: {"function": "Cauchy", "damping": nearest(data["dampings"], 1)},
    ),
]


def pytest_generate_tests(metafunc):
    """A test of an ``exercise`` or a ``readout`` runs for each, of a ``slider`` or a ``choice`` for each of a knob."""
    page = json.loads((Path(metafunc.config.getoption("report")) / "page.json").read_bytes())
    readouts = [one for one in READOUTS if one.exercise in page]
    controls = [(name, one) for name in page for one in page[name]["knob"]["controls"]]
    if "readout" in metafunc.fixturenames:
        metafunc.parametrize("readout", readouts, ids=[f"{one.exercise}-{one.words}" for one in readouts])
    for kind, has in {"slider": "num", "choice": "options"}.items():
        if kind in metafunc.fixturenames:
            found = [(name, one) for name, one in controls if has in one]
            metafunc.parametrize(("exercise", kind), found, ids=[f"{name}-{one['name']}" for name, one in found])
            return
    if "exercise" in metafunc.fixturenames:
        metafunc.parametrize("exercise", list(page))


@pytest.fixture(scope="module")
def kept(report):
    """results.json and page.json."""
    return tuple(json.loads((report / f"{name}.json").read_bytes()) for name in ("results", "page"))


@pytest.fixture(scope="module")
def file(report, tmp_path_factory):
    """The page itself."""
    if (report / "index.html").exists():
        return (report / "index.html").resolve()
    made = tmp_path_factory.mktemp("page") / "index.html"
    made.write_text(_page.html(report), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-frame-rate-limit"])
        yield browser
        browser.close()


class Opened(NamedTuple):
    page: Any
    noise: list[str]  # what it said to the console, what went wrong
    requests: list[str]


@contextlib.contextmanager
def opened(browser, file, **options: Any) -> Iterator[Opened]:
    """The page in a window of its own."""
    with contextlib.closing(browser.new_context(**{"viewport": WIDE, **options})) as context:
        context.set_default_timeout(20_000)  # others use this machine too
        one = Opened(context.new_page(), [], [])
        one.page.on("console", lambda message: one.noise.append(message.text))
        one.page.on("pageerror", lambda error: one.noise.append(str(error)))
        one.page.on("request", lambda request: one.requests.append(request.url))
        one.page.goto(file.as_uri())
        yield one


def heard(one: Opened) -> list[str]:
    """What it has said since it was asked before."""
    noise, one.noise[:] = one.noise[:], []
    return noise


@pytest.fixture(scope="module")
def window(browser, file):
    with opened(browser, file) as one:
        yield one


@pytest.fixture(scope="module")
def phone_window(browser, file):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with opened(browser, file, **phone) as one:
        yield one


@pytest.fixture
def page(window):
    """The page in a wide window. No test may have it complain."""
    window.page.set_viewport_size(WIDE)
    yield window.page
    assert not heard(window)


@pytest.fixture
def phone(phone_window):
    """The page on a narrow screen that is touched."""
    yield phone_window.page
    assert not heard(phone_window)


class Drawn(NamedTuple):
    charts: str
    words: str
    stands: dict[str, list[str]]  # slider -> what is read at it, and what is read aloud


def turned(page, exercise, at=None) -> Drawn:
    """A knob at these positions, all others at their start; what it then shows."""
    turn = """(figure, at) => {
      for (const input of figure.querySelectorAll("input")) {
        const name = input.name.split("-").at(-1);
        if (input.type === "range") input.value = at[name] ?? input.defaultValue;
        else input.checked = name in at ? input.value === at[name] : input.defaultChecked;
        input.dispatchEvent(new Event("input"));
      }
    }"""
    page.locator(f"#knob-{exercise}").evaluate(turn, at or {})
    return drawn(page, exercise)


def drawn(page, exercise) -> Drawn:
    """What a knob shows, if nothing is missing in it."""
    look = """async (figure) => {
      await new Promise(requestAnimationFrame);
      const sliders = [...figure.querySelectorAll("[type=range]")];
      const read = (input) => [input.closest("label").querySelector(".stands").textContent, input.ariaValueText];
      return [
        [...figure.querySelectorAll(".chart")].map((chart) => chart.innerHTML).join("\\n"),
        figure.querySelector(".readout").innerHTML,
        Object.fromEntries(sliders.map((input) => [input.name.split("-").at(-1), read(input)])),
      ];
    }"""
    found = Drawn(*page.locator(f"#knob-{exercise}").evaluate(look))
    charts = re.sub(r'href="data:[^"]*"', "", found.charts)
    assert re.search(r"<g clip-path[^>]*><(path|circle|rect|image)", charts)
    assert re.sub(r"<[^>]*>", "", found.words).strip()
    assert MISSING.findall(f"{charts}\n{found.words}") == []
    for shown, aloud in found.stands.values():
        assert shown
        assert shown == aloud
    return found


def nearest(values, value):
    """The position of a number in a list."""
    return int(np.argmin(np.abs(np.subtract(values, value))))


def control(page, exercise, role, name):
    """A control by what a screen reader calls it."""
    return page.locator(f"#knob-{exercise}").get_by_role(role, name=name, exact=True)


def choices_of(kept, exercise):
    """Each combination of what can be chosen at a knob."""
    options = {one["name"]: list(one["options"]) for one in kept[1][exercise]["knob"]["controls"] if "options" in one}
    return [dict(zip(options, some, strict=True)) for some in itertools.product(*options.values())]


def able(page, kept, exercise, slider):
    """A slider, with the first choice that has a use for it, and what is then shown."""
    handle = control(page, exercise, "slider", slider["label"])
    for at in choices_of(kept, exercise):
        shown = turned(page, exercise, at)
        if handle.is_enabled():
            return handle, shown
    raise AssertionError(f"no choice has a use for {slider['label']}")


def test_a_slider_turns_by_keyboard(page, kept, exercise, slider):
    handle, last = able(page, kept, exercise, slider)[0], slider["num"] - 1
    values, seen = [], []
    for key in ("Home", "ArrowRight", "End", "ArrowLeft"):
        handle.press(key)
        values.append(int(handle.input_value()))
        seen.append(drawn(page, exercise).stands[slider["name"]])
    assert values == [0, 1, last, last - 1]
    assert seen[0] != seen[2]


def test_a_slider_turns_the_drawing(page, kept, exercise, slider):
    """To the first position, the last and some between: all are drawn, each otherwise, at least with one choice."""
    positions = sorted({round(share * (slider["num"] - 1)) for share in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)})
    moved = []
    for at in choices_of(kept, exercise):
        seen = [turned(page, exercise, {**at, slider["name"]: position}) for position in positions]
        if control(page, exercise, "slider", slider["label"]).is_enabled():
            assert len({one.stands[slider["name"]][0] for one in seen}) == len(positions)
            moved.append((len({one.charts for one in seen}), len({one.words for one in seen})))
    assert (len(positions), len(positions)) in moved


def test_a_choice_turns_the_drawing(page, exercise, choice):
    turned(page, exercise)
    group, seen = control(page, exercise, "group", choice["label"]), []
    for value, label in choice["options"].items():
        radio = group.get_by_role("radio", name=label, exact=True)
        radio.check()
        assert radio.input_value() == value
        seen.append(drawn(page, exercise))
    assert len({one.charts for one in seen}) == len(choice["options"])
    assert len({one.words for one in seen}) > 1
    group.get_by_role("radio").first.press("ArrowDown")
    assert group.get_by_role("radio").nth(1).is_checked()


def test_a_slider_turns_by_touch(phone, kept, exercise, slider):
    handle, shown = able(phone, kept, exercise, slider)
    before, last = shown.stands[slider["name"]], slider["num"] - 1
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box["height"] >= 24  # what a finger hits
    share = 0.8 if slider["start"] < last / 2 else 0.2
    phone.touchscreen.tap(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    assert abs(int(handle.input_value()) - share * last) <= 0.1 * last + 0.5
    sync_api.expect(handle.locator("xpath=..").locator(".stands")).not_to_have_text(before[0])


def test_a_choice_turns_by_touch(phone, exercise, choice):
    turned(phone, exercise)
    *_, last = choice["options"].values()
    label = control(phone, exercise, "group", choice["label"]).locator("label").filter(has_text=last).last
    assert label.bounding_box()["height"] >= 24
    label.tap()
    assert label.get_by_role("radio").is_checked()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_or_scrolls_sideways(page, width):
    page.set_viewport_size({**WIDE, "width": width})
    beyond = """async () => {
      document.querySelectorAll("details").forEach((one) => { one.open = true; });
      for (const _ of "12") await new Promise(requestAnimationFrame);
      const inside = (one, other) => {
        const [a, b] = [one, other].map((element) => element.getBoundingClientRect());
        return a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
      };
      const cut = (outer, inner) => [...document.querySelectorAll(outer)].flatMap((element) =>
        [...element.querySelectorAll(inner)].filter((one) => !inside(one, element)).map((one) => one.outerHTML));
      const root = document.documentElement, parts = ".controls *, .chart, .legend *, .readout *";
      return [root.scrollWidth - root.clientWidth, cut(".knob", parts), cut(".chart > svg", "text")];
    }"""
    assert page.evaluate(beyond) == [0, [], []]


def test_dark_and_light_are_drawn_in_colours_that_are_seen(page, exercise):
    """The contrast that WCAG asks for: 4.5 for letters, 3 for lines."""
    colours = """(figure) => {
      const all = (query, name) => [...figure.querySelectorAll(query)].map((one) => getComputedStyle(one)[name]);
      return {
        letters: [...all(".chart text", "fill"), ...all(".legend span, .readout, label, legend", "color")],
        lines: all('.chart > svg g :is(path, circle)[stroke]:not([stroke="var(--faint)"])', "stroke"),
        paper: getComputedStyle(document.body).backgroundColor,
      };
    }"""
    turned(page, exercise)
    seen = {}
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        seen[scheme] = page.locator(f"#knob-{exercise}").evaluate(colours)
        paper = luminance(seen[scheme]["paper"])
        for kind, least in {"letters": 4.5, "lines": 3}.items():
            for colour in set(seen[scheme][kind]):
                low, high = sorted([paper, luminance(colour)])
                assert (high + 0.05) / (low + 0.05) >= least, (scheme, kind, colour)
    for kind in ("letters", "lines"):
        assert not set(seen["dark"][kind]) & set(seen["light"][kind])
    assert luminance(seen["dark"]["paper"]) < 0.05 < 0.9 < luminance(seen["light"]["paper"])


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)", as WCAG defines it."""
    share = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    return float([0.2126, 0.7152, 0.0722] @ np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4))


def test_the_page_is_one_small_file_that_is_painted_at_once(browser, file):
    assert file.stat().st_size < 3e6
    painted = []
    for _ in range(3):  # and the quickest counts
        with opened(browser, file) as one:
            one.page.wait_for_function('performance.getEntriesByName("first-contentful-paint").length')
            painted.append(one.page.evaluate('performance.getEntriesByName("first-contentful-paint")[0].startTime'))
            assert one.requests == [file.as_uri()]
            assert not one.noise
    assert min(painted) < 1000


def test_without_scripts_there_are_figures(browser, file, kept):
    with opened(browser, file, java_script_enabled=False) as one:
        for exercise in kept[1]:
            knob = one.page.locator(f"#knob-{exercise}")
            sync_api.expect(knob.get_by_role("img")).to_be_visible()
            assert knob.get_by_role("img").bounding_box()["height"] > 100
            sync_api.expect(knob.locator(".controls")).to_be_hidden()


def test_a_published_number_leads_to_its_exercise(page, file, kept):
    dots = page.locator("#published ~ .strips a.dot")
    assert dots.count() == len(kept[0]["published"])
    rows = sorted(kept[0]["published"], key=lambda row: list(parts.RUNS).index(row["id"]))
    for dot, row in zip(dots.all(), rows, strict=True):
        assert dot.get_attribute("aria-label").startswith(f"{row['parameter']}: ")
        assert ("outside" in dot.get_attribute("class")) is not row["inside"]
        dot.press("Enter")
        arrived(page, file, parts.EXERCISE[row["id"]])
    for strip in page.locator("#published ~ .strips .strip").filter(has=page.locator("a.dot")).all():
        exercise = strip.locator("a.name").get_attribute("href")[1:]
        page.goto(file.as_uri() + "#published")
        strip.locator("a.dot").last.click()  # that lies over the others
        arrived(page, file, exercise)


def arrived(page, file, exercise):
    sync_api.expect(page).to_have_url(f"{file.as_uri()}#{exercise}")
    sync_api.expect(page.locator(f"#{exercise}").get_by_role("heading", level=2)).to_be_in_viewport()


def test_the_page_can_be_read_aloud(page, kept):
    headings = page.evaluate('[...document.querySelectorAll("h1, h2, h3, h4, h5")].map((one) => +one.tagName[1])')
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert headings.count(2) == 1 + len(kept[1])
    assert max(np.diff(headings)) == 1
    num = sum(len(one.get("options", "1")) for knob in kept[1].values() for one in knob["knob"]["controls"])
    assert page.locator("input").count() == num  # each of which is found by its name
    unnamed = """[...document.querySelectorAll("a, img, [role=img], input")].filter((one) =>
      !(one.ariaLabel || one.alt || one.textContent || one.labels?.length)).map((one) => one.outerHTML)"""
    assert page.evaluate(unnamed) == []
    assert page.locator(".readout:not([aria-live=polite])").count() == 0


# A number as plot.js writes it: its digits, the power of ten, and whether it is a percentage.
NUMBER = r"(−?\d[\d,.]*(?<![,.]))(?:·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?( %)?"


def shown_number(digits: str, power: str | None, percent: str | None) -> tuple[float, float]:
    """A number, and one of its last digit."""
    plain = digits.replace("−", "-").replace(",", "")
    scale = 10.0 ** int((power or "⁰").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    scale *= 0.01 if percent else 1
    return float(plain) * scale, scale * 10.0 ** -len(plain.partition(".")[2])


def test_every_knob_shows_a_number_that_was_measured(kept):
    """One that is named above, at the start."""
    assert set(kept[1]) <= {one.exercise for one in READOUTS if not one.at}


def test_a_knob_shows_what_was_measured(page, kept, readout):
    results, shown = kept
    at = readout.at(shown[readout.exercise]["knob"]["data"]) if readout.at else {}
    words = html.unescape(re.sub(r"<[^>]*>", "", turned(page, readout.exercise, at).words))
    found = re.search(NUMBER.join(map(re.escape, readout.words.split("N"))), words)
    assert found, words
    value, digit = shown_number(*found.groups())
    # Half of the last digit that is shown, and what single precision has added.
    assert value == pytest.approx(readout.wanted(results["exercises"][readout.exercise]), abs=0.505 * digit)


@pytest.fixture(scope="module")
def library(window, kept):
    """Evaluate an expression of what the page's scripts define, ``data`` being an exercise's."""
    files = [parts.HERE / "plot.js", parts.HERE / "knob.js", *(parts.HERE / "knobs" / f"{name}.js" for name in kept[1])]
    for one in files:
        window.page.add_script_tag(content=one.read_text(encoding="utf-8"))

    def evaluate(expression: str, exercise: str | None = None) -> Any:
        data = exercise and kept[1][exercise]["knob"]["data"]
        return window.page.evaluate(f"(plain) => {{ const data = revived(plain); return {expression}; }}", data)

    return evaluate


@pytest.mark.parametrize(
    ("number", "shown"),
    [("0.04768", "0.0477"), ("12345", "12,345"), ("4.8e-5, 2", "4.8·10⁻⁵"), ("-0.5", "−0.500"), ("0.9996", "1.00"),
     ("-1.25e9", "−1.25·10⁹"), ("0", "0"), ("NaN", "–"), ("-Infinity", "−∞"), ("999999", "1.00·10⁶")],
)  # fmt: skip
def test_a_number_is_written_as_it_is_read(library, number, shown):
    assert library(f"number({number})") == shown


@pytest.mark.parametrize(
    ("axis", "marked"),
    [("from: 0, to: 10", [0, 2, 4, 6, 8, 10]), ("from: -0.3, to: 0.3", [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]),
     ("from: 0.001, to: 500, log: true", [1e-3, 1e-2, 0.1, 1, 10, 100]),
     ("from: 20, to: 60, log: true", [20, 30, 40, 50, 60])],
)  # fmt: skip
def test_an_axis_is_marked_at_round_numbers(library, axis, marked):
    np.testing.assert_allclose(library(f"ticks({{ {axis} }}, 6)"), marked, rtol=1e-12, atol=1e-15)


def test_packed_arrays_are_read_as_they_were(library):
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    packed = json.dumps(parts.turned.packed(array))
    np.testing.assert_array_equal(library(f"[...unpacked({packed}).row(1, 2)]"), array[1, 2])
    assert library(f"unpacked({packed}).value(2, 3, 4)") == array[2, 3, 4]


def test_a_spectrum_has_the_law_the_misfit_and_the_steps_of_the_library(library, kept):
    data = kept[1]["planck"]["knob"]["data"]
    problem, start = "knobs.planck.problem(data)", {"temperature": 3000.0, "gain": 1.0}
    with jax.enable_x64(True):
        x, y = np.array(data["wavelengths"]), np.array(data["radiances"])
        model = models.planck(gain=True)
        sigma = data["noise"] * model.apply(data["weights"], x)
        steps = []
        fit = jaxreg.fit(jaxreg.problem(model, x, y, start, sigma=sigma), callback=steps.append)
        law = model.apply({"temperature": 5020.0, "gain": 1.02}, x)
    np.testing.assert_allclose(library(f"{problem}.curve(5020, 1.02)", "planck"), law, rtol=1e-13)
    least = "data.fit.temperature, data.fit.gain"
    assert library(f"{problem}.chi2({least})", "planck") == pytest.approx(kept[0]["exercises"]["planck"]["chi2"], 1e-12)
    of_all = library(f"{problem}.chi2OfAllGains(4000, [0.8, 1.6])", "planck")
    np.testing.assert_allclose(
        of_all, library(f"[0.8, 1.6].map((gain) => {problem}.chi2(4000, gain))", "planck"), 1e-10
    )

    # The steps that were accepted; the library's last ones gain nothing that could be seen.
    path = library(f"{problem}.path([3000, 1])", "planck")
    accepted = [before.params for before, after in itertools.pairwise(steps) if before.params != after.params]
    for got, wanted in zip(path, accepted, strict=False):
        assert got == {
            **{name: pytest.approx(float(value), 1e-9) for name, value in wanted.items()},
            "chi2": got["chi2"],
        }
    assert len(accepted) - 1 <= len(path) <= len(accepted) + 1
    assert path[-1]["temperature"] == pytest.approx(float(fit.params["temperature"]), 1e-9)


def test_the_functions_of_one_number_are_the_librarys(library, kept):
    for name in kept[1]["second_derivatives"]["knob"]["controls"][0]["options"]:
        values, embedded = library(
            f"[data.positions.map(knobs.second_derivatives.functions.{name}), [...data.{name}.row(0)]]",
            "second_derivatives",
        )
        np.testing.assert_allclose(values, embedded, rtol=1e-6, atol=1e-6)


def test_descent_on_the_means_is_the_librarys(library, kept):
    """The loss of each epoch: float32's rounding is relative to the loss, and beyond the optimum to its least value."""
    for run in ("guarded", "unguarded"):
        loss = kept[1]["reshape"]["knob"]["data"]["loss"][run]
        lowered = {"guarded": "rows", "unguarded": "pairs"}[run]
        got = library(f"knobs.reshape.descent(data, '{run}').map((epoch) => epoch.{lowered})", "reshape")
        np.testing.assert_allclose(got[: len(loss)], loss, rtol=2e-3)
        np.testing.assert_allclose(got[: len(loss) // 3], loss[: len(loss) // 3], rtol=1e-4)


def test_the_decay_from_a_hessian_is_the_predicted_one(library, kept):
    """``predict_training`` has it in float32: near the bottom rounding leaves some 1e-6 of a far start."""
    scales = {"zero": 0.0, "sd 0.01": 0.01, "variance 1000": 1000.0**0.5, "sd 1000": 1000.0}
    for name, found in kept[0]["exercises"]["initialisation"]["starts"].items():
        predictor, wanted = "knobs.initialisation.predictor(data)", found["predicted_loss"]
        losses = f"[...Array({len(wanted)}).keys()].map((epoch) => {predictor}.loss({scales[name]}, epoch))"
        np.testing.assert_allclose(library(losses, "initialisation"), wanted, rtol=1e-5, atol=2e-6)
        epochs = library(f"{predictor}.epochs({scales[name]})", "initialisation")
        assert epochs == pytest.approx(found["epochs_predicted"], abs=1 / 32)
