{
  const median = (values) => {
    const sorted = Float64Array.from(values).sort();
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  };

  // Of each seed and each eigenvector of the Hessian: how much the loss is above its minimum at the start, and the
  // logarithm of what a step leaves of that.
  const modes = ({ modes: { shape, value }, learning_rate: rate }, scale) =>
    Array.from({ length: shape[0] }, (_, seed) =>
      Array.from({ length: shape[1] }, (_, mode) => {
        const [curvature, optimum, unit] = [0, 1, 2].map((part) => value(seed, mode, part));
        return { start: (curvature * (optimum - scale * unit) ** 2) / 2, decay: 2 * Math.log1p(-rate * curvature) };
      }),
    );
  const excess = (seed, step) => seed.reduce((sum, { start, decay }) => sum + start * Math.exp(decay * step), 0);

  // The predicted loss after these epochs, median of the seeds.
  const decay = (data, scale, epochs) => {
    const seeds = modes(data, scale);
    return epochs.map((epoch) =>
      median(seeds.map((one, seed) => data.minimum.value(seed) + excess(one, data.steps * epoch))),
    );
  };

  // The epochs after which the loss stays within the tolerance of its minimum, median of the seeds.
  const epochsNeeded = (data, scale) =>
    median(
      modes(data, scale).map((one) => {
        let [low, high] = [-1, 4096]; // steps: too few, enough
        while (high - low > 1) {
          const middle = (low + high) >> 1;
          if (excess(one, middle) <= data.tolerance) high = middle;
          else low = middle;
        }
        return high / data.steps;
      }),
    );

  knobs.initialisation = (figure, data) => {
    const { scales, loss, needed, seeds, tolerance, minimum } = data;
    const epochs = Array.from({ length: loss.shape[2] + 1 }, (_, index) => index); // the runs' begin with 1
    const places = scales.map((scale) => scale || 0.006); // a logarithmic axis has no place for zero but its left edge
    const expected = scales.map((scale) => epochsNeeded(data, scale));
    const fromZero = decay(data, 0, epochs);
    const level = tolerance + median(minimum.values);
    return ({ scale: place }) => {
      const scale = scales[place];
      const named = scale ? number(scale) : "0";
      const found = needed.value(1, place);
      const predicted = decay(data, scale, epochs);
      figure.show("scale", named);
      draw(figure.charts[0], {
        describe: `Loss over the epochs from a start of standard deviation ${named}, measured and predicted`,
        x: { label: "epoch", from: 0, to: epochs.at(-1) },
        y: { label: "loss", from: 1e-5, to: 1e9, log: true },
        marks: [
          mark.line(epochs, fromZero, { color: "muted", width: 1, label: "predicted from zero" }),
          mark.horizontal(level, { color: "two", dash: "8 4", label: "down" }),
          mark.band(epochs.slice(1), loss.row(0, place), loss.row(2, place), { color: "one" }),
          mark.line(epochs.slice(1), loss.row(1, place), {
            color: "one",
            label: `median of ${seeds} runs, 90 % of them`,
          }),
          mark.line(epochs, predicted, { color: "ink", dash: "2 4", label: "predicted before the run" }),
          mark.points([found], [level], { color: "one", radius: 6 }),
        ],
      });
      draw(figure.charts[1], {
        describe: "Epochs needed against the standard deviation of the start, measured and predicted",
        x: { label: "standard deviation of the start", from: 0.005, to: 2 * scales.at(-1), log: true },
        y: { label: "epochs until the loss is down", from: 0, to: epochs.at(-1) },
        marks: [
          mark.band(places, needed.row(0), needed.row(2), { color: "one" }),
          mark.line(places, needed.row(1), { color: "one", label: `median of ${seeds} runs, 90 % of them` }),
          mark.line(places, expected, { color: "ink", dash: "2 4", label: "predicted before the run" }),
          mark.points([places[place]], [found], { color: "one", radius: 6 }),
        ],
      });
      const fromZeroOn = `; from zero it begins at ${number(fromZero[0])} and takes ${number(needed.value(1, 0))} epochs`;
      figure.say(
        `A start of standard deviation <b>${named}</b> takes <b>${number(found)}</b> epochs until the loss is down; ` +
          `${number(expected[place])} were predicted. The loss begins at ${number(predicted[0])}${scale ? fromZeroOn : ""}.`,
      );
    };
  };
  Object.assign(knobs.initialisation, { decay, epochsNeeded });
}
