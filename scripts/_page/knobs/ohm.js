knobs.ohm = (figure, data) => {
  const {
    truth,
    published,
    after,
    rate,
    steps,
    within,
    edges,
    bars,
    mean,
    held,
    replicates,
    estimate,
    stderr,
    lines,
    points,
  } = data;
  const [least, ...descent] = bars,
    most = Math.max(...bars.flat());
  const holds = (index) => Math.abs(estimate[index] - truth) <= within * stderr[index];
  const widest = 1.05 * Math.max(...estimate.map((one, index) => Math.abs(one - truth) + within * stderr[index]));
  const numbers = estimate.map((_, index) => index);
  // Each interval is a line of its own, as a gap in the numbers ends a line.
  const intervals = (chosen, style) =>
    mark.line(
      chosen.flatMap((index) => [index + 1, index + 1, NaN]),
      chosen.flatMap((index) => [
        estimate[index] - within * stderr[index],
        estimate[index] + within * stderr[index],
        NaN,
      ]),
      style,
    );
  return ({ epochs: epoch, set }) => {
    const count = `${epoch + 1} ${epoch ? "epochs" : "epoch"}`,
      resistance = estimate[set],
      error = within * stderr[set];
    const predicted = truth * (1 - (1 - rate) ** (steps * (epoch + 1)));
    const ends = [-3, 3],
      descended = ends.map((one) => lines.value(set, epoch, 0) * one + lines.value(set, epoch, 1));
    figure.show("epochs", String(epoch + 1));
    figure.show("set", String(set + 1));
    draw(figure.charts[0], {
      describe: `Resistances of ${replicates} data sets by gradient descent after ${count} and by least squares`,
      x: { label: "resistance / Ω", from: Math.min(4.2, mean[epoch] - 0.4), to: edges.at(-1) },
      y: { label: "data sets", from: 0, to: 1.05 * most },
      marks: [
        mark.bars(edges, least, { color: "three", label: "least squares" }),
        mark.bars(edges, descent[epoch], { color: "one", label: `gradient descent, ${count}` }),
        mark.vertical(truth, { color: "ink", width: 1.5, label: "truth" }),
        mark.vertical(predicted, { color: "one", dash: "2 4", label: "predicted mean" }),
        mark.vertical(published, { color: "two", dash: "8 4", label: `published, ${after} epochs` }),
      ],
    });
    draw(figure.charts[1], {
      describe: `Voltage against current of data set ${set + 1}, with its fit by least squares and by gradient descent`,
      x: { label: "current / A", from: -3, to: 3 },
      y: { label: "voltage / V", from: -18, to: 18 },
      marks: [
        mark.points(points.row(set, 0), points.row(set, 1), {
          color: "muted",
          radius: 2,
          opacity: 0.6,
          label: `${points.shape[2]} of the 1000 points`,
        }),
        mark.band(
          [-3, 0, 3],
          [-3, 0, 3].map((one) => resistance * one - error * Math.abs(one)),
          [-3, 0, 3].map((one) => resistance * one + error * Math.abs(one)),
          { color: "three", opacity: 0.4 },
        ),
        mark.line(
          ends,
          ends.map((one) => resistance * one),
          { color: "three", label: "least squares, 95 % band" },
        ),
        mark.line(ends, descended, { color: "one", dash: "8 4", label: `gradient descent, ${count}` }),
      ],
    });
    draw(figure.charts[2], {
      describe: `95 % intervals of the resistance for ${numbers.length} data sets`,
      height: 240,
      x: { label: "data set", from: 0, to: numbers.length + 1 },
      y: { label: "resistance / Ω", from: truth - widest, to: truth + widest },
      marks: [
        mark.horizontal(truth, { color: "ink", width: 1.5, label: "truth" }),
        intervals(numbers.filter(holds), { color: "three", width: 1.5, label: "95 % interval that holds the truth" }),
        intervals(
          numbers.filter((index) => !holds(index)),
          { color: "two", label: "that misses it" },
        ),
        intervals([set], { color: holds(set) ? "three" : "two", width: 6 }),
        mark.points([set + 1], [resistance], { color: "ink", radius: 4, label: `data set ${set + 1}` }),
      ],
    });
    figure.say(
      `After ${count} gradient descent is at <b>${number(mean[epoch], 4)} Ω</b> on average; ${number(predicted, 4)} was predicted. ` +
        `Data set ${set + 1} by least squares: <b>${number(resistance, 4)} ± ${number(stderr[set], 2)} Ω</b>. Its 95 % interval, ` +
        `${number(resistance - error, 4)} to ${number(resistance + error, 4)} Ω, <b>${holds(set) ? "holds" : "misses"}</b> the truth; ` +
        `${held} of all ${replicates} hold it.`,
    );
  };
};
