"use strict";
// Charts as SVG: draw(element, {x, y, marks, describe}) replaces what is in the element. Axes are {label, from, to, log}.

const mark = {
  line: (x, y, style = {}) => ({ kind: "line", x, y, ...style }),
  band: (x, low, high, style = {}) => ({ kind: "band", x, low, high, ...style }),
  points: (x, y, style = {}) => ({ kind: "points", x, y, ...style }),
  bars: (edges, heights, style = {}) => ({ kind: "bars", edges, heights, ...style }),
  vertical: (at, style = {}) => ({ kind: "vertical", at, ...style }),
  horizontal: (at, style = {}) => ({ kind: "horizontal", at, ...style }),
  zone: (from, to, style = {}) => ({ kind: "zone", from, to, ...style }), // between two x
  image: (values, shape, range, style = {}) => ({ kind: "image", values, shape, range, ...style }), // rows from below
};

const text = (value) =>
  String(value).replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[one]);

// A number as a reader writes it: 0.0477, 12,300, 4.8·10⁻⁵.
const number = (value, digits = 3) => {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))));
  if (size >= -3 && size < 6)
    return value
      .toLocaleString("en", { minimumSignificantDigits: digits, maximumSignificantDigits: Math.max(digits, size + 1) })
      .replace("-", "−");
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${mantissa}·10${raised(Number(exponent))}`.replace(/^-/, "−");
};
const raised = (power) => String(power).replace(/[-0-9]/g, (one) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(one)]);
const tickText = (value) =>
  value === 0
    ? "0"
    : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5
      ? String(Number(value.toPrecision(6))).replace("-", "−")
      : number(value, 1).replace("1·", "");

const ticks = ({ from, to, log }, most) => {
  if (log) {
    const first = Math.ceil(Math.log10(from) - 1e-9),
      last = Math.floor(Math.log10(to) + 1e-9);
    if (last - first < 1) return ticks({ from, to }, most).filter((value) => value > 0);
    const every = Math.ceil((last - first + 1) / most);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index)
      .filter((power) => power % every === 0)
      .map((power) => 10 ** power);
  }
  const rough = (to - from) / most,
    unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * unit).find((size) => size >= rough);
  const found = [];
  for (let index = Math.ceil(from / step - 1e-9); index * step <= to + 1e-9 * step; index++) found.push(index * step);
  return found;
};

const draw = (element, { x, y, marks, describe = "", height = 300 }) => {
  const width = Math.max(240, element.clientWidth),
    left = 62,
    right = 24, // half of the last number on the axis
    top = 10,
    bottom = 46;
  const scale = ({ from, to, log }, low, high) => {
    const [first, last] = log ? [Math.log(from), Math.log(to)] : [from, to];
    return (value) => {
      const place = log ? (value > 0 ? Math.log(value) : -Infinity) : value;
      return Math.min(1e4, Math.max(-1e4, low + ((place - first) / (last - first)) * (high - low)));
    };
  };
  const px = scale(x, left, width - right),
    py = scale(y, height - bottom, top);
  const at = (value) => value.toFixed(1);
  const path = (xs, ys) => {
    let pen = "M",
      made = "";
    for (let index = 0; index < xs.length; index++) {
      if (!Number.isFinite(xs[index]) || Number.isNaN(ys[index])) {
        pen = "M";
        continue;
      }
      made += `${pen}${at(px(xs[index]))} ${at(py(ys[index]))}`;
      pen = "L";
    }
    return made;
  };
  const color = (one) => `var(--${one.color ?? "ink"})`;
  const stroke = (one) =>
    `stroke="${color(one)}" stroke-width="${one.width ?? 2}" fill="none"${one.dash ? ` stroke-dasharray="${one.dash}"` : ""}`;
  const shape = {
    line: (one) => `<path d="${path(one.x, one.y)}" ${stroke(one)}/>`,
    band: (one) => {
      const back = Array.from(one.x).map((_, index) => one.x.length - 1 - index);
      const outline =
        path(one.x, one.high) +
        path(
          back.map((index) => one.x[index]),
          back.map((index) => one.low[index]),
        ).replace("M", "L");
      return `<path d="${outline}Z" fill="${color(one)}" fill-opacity="${opacity(one)}"/>`;
    },
    points: (one) =>
      Array.from(one.x, (value, index) =>
        Number.isFinite(one.y[index])
          ? `<circle cx="${at(px(value))}" cy="${at(py(one.y[index]))}" r="${one.radius ?? 3}" fill="${one.hollow ? "none" : color(one)}" stroke="${color(one)}" fill-opacity="${one.opacity ?? 1}" stroke-opacity="${one.opacity ?? 1}"/>`
          : "",
      ).join(""),
    bars: (one) =>
      Array.from(one.heights, (value, index) => {
        const from = px(one.edges[index]),
          to = px(one.edges[index + 1]),
          floor = py(y.log ? y.from : Math.max(0, y.from));
        return `<rect x="${at(from)}" y="${at(Math.min(py(value), floor))}" width="${at(Math.max(0.5, to - from - (one.gap ?? 0)))}" height="${at(Math.abs(floor - py(value)))}" fill="${color(one)}" fill-opacity="${opacity(one)}"/>`;
      }).join(""),
    vertical: (one) => `<path d="M${at(px(one.at))} ${top}V${height - bottom}" ${stroke(one)}/>`,
    horizontal: (one) => `<path d="M${left} ${at(py(one.at))}H${width - right}" ${stroke(one)}/>`,
    zone: (one) =>
      `<rect x="${at(px(one.from))}" y="${top}" width="${at(Math.max(0, px(one.to) - px(one.from)))}" height="${height - top - bottom}" fill="${color(one)}" fill-opacity="${opacity(one)}"/>`,
    image: (one) =>
      `<image href="${picture(one)}" x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}" opacity="${one.opacity ?? 1}" preserveAspectRatio="none" style="image-rendering:${one.smooth ? "auto" : "pixelated"}"/>`,
  };
  const across = ticks(x, Math.max(3, Math.floor(width / 90))),
    up = ticks(y, 6);
  const clip = `clip-${element.id || (element.id = `chart-${(draw.count = (draw.count ?? 0) + 1)}`)}`;
  element.innerHTML = `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${text(describe)}">
<clipPath id="${clip}"><rect x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}"/></clipPath>
${across.map((value) => `<path d="M${at(px(value))} ${top}V${height - bottom}" class="grid"/><text x="${at(px(value))}" y="${height - bottom + 18}" text-anchor="middle">${tickText(value)}</text>`).join("")}
${up.map((value) => `<path d="M${left} ${at(py(value))}H${width - right}" class="grid"/><text x="${left - 7}" y="${at(py(value) + 4)}" text-anchor="end">${tickText(value)}</text>`).join("")}
<g clip-path="url(#${clip})">${marks.map((one) => shape[one.kind](one)).join("")}</g>
<path d="M${left} ${top}V${height - bottom}H${width - right}" class="axis"/>
<text x="${(left + width - right) / 2}" y="${height - 6}" text-anchor="middle">${text(x.label)}</text>
<text transform="translate(14 ${(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">${text(y.label)}</text>
</svg><div class="legend">${marks
    .filter((one) => one.label)
    .map(
      (one) =>
        `<span><svg width="26" height="12" aria-hidden="true">${swatch(one, color, stroke)}</svg>${text(one.label)}</span>`,
    )
    .join("")}</div>`;
};

const opacity = (one) => one.opacity ?? { band: 0.2, bars: 0.6, zone: 0.12 }[one.kind] ?? 1;

const swatch = (one, color, stroke) =>
  ({
    points: () => `<circle cx="13" cy="6" r="4" fill="${one.hollow ? "none" : color(one)}" stroke="${color(one)}"/>`,
    vertical: () => `<path d="M13 0V12" ${stroke(one)}/>`,
  })[one.kind]?.() ??
  (["band", "zone", "bars"].includes(one.kind)
    ? `<rect width="26" height="12" fill="${color(one)}" fill-opacity="${opacity(one)}"/>`
    : `<path d="M0 6H26" ${stroke(one)}/>`);

// Values between 0 and 1 of a range as shades: light is low. Shades from white to a dark blue, also right in print.
const picture = ({ values, shape: [rows, columns], range: [low, high] }) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d"),
    pixels = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const share = Math.min(1, Math.max(0, (values[row * columns + column] - low) / (high - low)));
      const place = 4 * ((rows - 1 - row) * columns + column);
      pixels.data.set([250 - 235 * share, 250 - 180 * share, 250 - 110 * share, 255], place);
    }
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
};
