knobs.losses = (figure, data) => {
  const { x, y, row, truth, values, thresholds, losses, corruptions, status, fits } = data;
  const colors = ["one", "two", "three", "four", "five"];
  const across = { label: "x", from: -2.4, to: 2.4 };
  const up = { label: "y", from: -6, to: 24 };
  const ends = [across.from, across.to];
  const inside = (value, { from, to }) => Math.min(to - 0.03 * (to - from), Math.max(from, value));
  const good = x.map((_, index) => index).filter((index) => index !== row);
  const at = (slope, offset, shift = 0) => ends.map((end) => slope * end + offset + shift);
  const hasThreshold = (loss) => losses.indexOf(loss) > 1;
  const slider = figure.charts[0].closest(".knob").querySelector("[name$=-threshold]");
  // What a loss found for each size of the bad row.
  const foundBy = (loss, threshold, corruption) => {
    const number = losses.indexOf(loss);
    const place = number < 2 ? number : 2 + (number - 2) * thresholds.length + threshold;
    return values.map((_, size) => {
      const [slope, offset, ended] = fits.row(place, corruptions.indexOf(corruption), size);
      const errors = [Math.abs(slope / truth[0] - 1), Math.abs(offset / truth[1] - 1)];
      return { slope, offset, ended, error: Math.max(...errors), worse: errors[0] > errors[1] ? "slope" : "offset" };
    });
  };
  return ({ value: size, threshold, loss, row: corruption }) => {
    const value = values[size];
    const delta = thresholds[threshold];
    const found = foundBy(loss, threshold, corruption);
    const { slope, offset, error, ended, worse } = found[size];
    const color = colors[losses.indexOf(loss)];
    const name = hasThreshold(loss) ? `${loss}'s loss (δ = ${number(delta, 2)})` : `the ${loss} loss`;
    const bad = [corruption === "target" ? x[row] : (x[row] * value) / y[row], value];
    const seen = [inside(bad[0], across), inside(bad[1], up)];
    const off = seen.some((place, axis) => place !== bad[axis]);
    figure.show("value", number(value));
    figure.show("threshold", hasThreshold(loss) ? number(delta, 2) : "none");
    slider.disabled = !hasThreshold(loss);
    draw(figure.charts[0], {
      describe: `${x.length} rows, one of them bad, and the line that ${name} finds`,
      x: across,
      y: up,
      marks: [
        mark.band(ends, at(slope, offset, -delta), at(slope, offset, delta), { color, label: "up to δ from the line" }),
        mark.line(ends, at(...truth), { color: "ink", dash: "2 4", label: "true line" }),
        mark.line(ends, at(slope, offset), { color, width: 2.5, label: "fitted line" }),
        mark.points(
          good.map((index) => x[index]),
          good.map((index) => y[index]),
          { color: "muted" },
        ),
        mark.points([seen[0]], [seen[1]], {
          color: "ink",
          radius: 6,
          hollow: off,
          label: off ? "bad row, far off the chart" : "bad row",
        }),
      ].slice(hasThreshold(loss) ? 0 : 1),
    });
    draw(figure.charts[1], {
      describe: `Error of the line against the target of the bad row, for ${name} and for the other losses`,
      x: { label: "target of the bad row", from: values[0], to: values.at(-1), log: true },
      y: { label: "relative error of the line", from: 1e-3, to: 100, log: true },
      marks: [
        ...losses.map((other, index) =>
          mark.line(
            values,
            foundBy(other, threshold, corruption).map((one) => one.error),
            { color: colors[index], width: other === loss ? 3 : 1, label: other },
          ),
        ),
        mark.points(
          values,
          found.map((one) => (one.ended ? one.error : NaN)),
          { color: "ink", hollow: true, label: found.some((one) => one.ended) ? "the fit did not end" : "" },
        ),
        mark.points([value], [error], { color, radius: 6 }),
      ],
    });
    figure.say(
      `With ${name} the line is ${number(slope)}&nbsp;x&nbsp;+&nbsp;${number(offset)} in place of ` +
        `${truth[0]}&nbsp;x&nbsp;+&nbsp;${truth[1]}: its ${worse} is <b>${number(100 * error)}&nbsp;%</b> off.` +
        (ended ? ` This fit did not end: ${status[ended]}.` : ""),
    );
  };
};
