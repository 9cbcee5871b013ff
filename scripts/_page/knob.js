"use strict";
// A figure that is turned: knobs.NAME(figure, data) returns a function that draws it for the positions of its inputs.

const knobs = {};

// Arrays come as float32 in base64: of(packed).row(i, j) is a row of it, .value(i, j, k) a number.
const unpacked = ({ float32, shape }) => {
  const bytes = Uint8Array.from(atob(float32), (letter) => letter.charCodeAt(0));
  const values = new Float32Array(bytes.buffer);
  const offset = (indices) =>
    indices.reduce((sum, index, axis) => sum + index * shape.slice(axis + 1).reduce((a, b) => a * b, 1), 0);
  return {
    shape,
    values,
    row: (...indices) =>
      values.subarray(offset(indices), offset(indices) + shape.slice(indices.length).reduce((a, b) => a * b, 1)),
    value: (...indices) => values[offset(indices)],
  };
};
const revived = (value) =>
  value === null || typeof value !== "object"
    ? ["nan", "inf", "-inf"].includes(value)
      ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[value]
      : value
    : Array.isArray(value)
      ? value.map(revived)
      : "float32" in value
        ? unpacked(value)
        : Object.fromEntries(Object.entries(value).map(([name, part]) => [name, revived(part)]));

const turn = (element) => {
  const inputs = [...element.querySelectorAll("input")];
  const charts = [...element.querySelectorAll(".chart")],
    readout = element.querySelector(".readout");
  const figure = {
    charts,
    say: (words) => {
      if (readout.said !== words) readout.innerHTML = readout.said = words; // said again it would be read aloud again
    },
    // What an input stands for at its position: for the eye and for a screen reader.
    show: (name, words) => {
      const input = inputs.find((one) => one.name.endsWith(`-${name}`));
      input.setAttribute("aria-valuetext", words);
      input.closest("label").querySelector(".stands").textContent = words;
    },
  };
  const redraw = knobs[element.dataset.knob](figure, revived(JSON.parse(element.querySelector("script").textContent)));
  const positions = () =>
    Object.fromEntries(
      inputs
        .filter((one) => one.type === "range" || one.checked)
        .map((one) => [one.name.split("-").at(-1), one.type === "range" ? Number(one.value) : one.value]),
    );
  let waiting = false;
  const update = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      redraw(positions());
    });
  };
  element.classList.add("alive");
  for (const input of inputs) input.addEventListener("input", update);
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth !== width) {
      width = element.clientWidth;
      update();
    }
  }).observe(element);
};
