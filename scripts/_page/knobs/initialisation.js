{
  const median = (values) => {
    const sorted = values.slice().sort();
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  };

  // What is predicted from each seed's Hessian alone, for a start of any scale; medians of the seeds.
  const predictor = ({ modes, minimum, learning_rate: rate, tolerance, steps }) => {
    const [seeds, count] = modes.shape;
    const part = (index) => Float64Array.from({ length: seeds * count }, (_, mode) => modes.values[3 * mode + index]);
    const [curvature, optimum, unit] = [0, 1, 2].map(part);
    const decay = curvature.map((value) => 2 * Math.log1p(-rate * value)); // of the loss in a step, as a logarithm
    const start = (scale) => curvature.map((value, mode) => (value * (optimum[mode] - scale * unit[mode]) ** 2) / 2);
    const excess = (from, seed, step) => {
      let sum = 0;
      for (let mode = seed * count; mode < (seed + 1) * count; mode++) sum += from[mode] * Math.exp(decay[mode] * step);
      return sum;
    };
    const needed = (from, seed) => {
      let [few, enough] = [-1, 1024];
      while (enough - few > 1) {
        const middle = (few + enough) >> 1;
        if (excess(from, seed, middle) <= tolerance) enough = middle;
        else few = middle;
      }
      return enough / steps;
    };
    const overSeeds = (scale, found) => {
      const from = start(scale);
      return median(Float64Array.from({ length: seeds }, (_, seed) => found(from, seed)));
    };
    return {
      loss: (scale, epoch) =>
        overSeeds(scale, (from, seed) => minimum.values[seed] + excess(from, seed, steps * epoch)),
      epochs: (scale) => overSeeds(scale, needed), // until the loss stays within the tolerance of its minimum
    };
  };

  knobs.initialisation = (figure, data) => {
    const { scales, loss, needed, seeds, tolerance, minimum } = data;
    const epochs = Array.from({ length: loss.shape[2] + 1 }, (_, index) => index); // the runs' begin with 1
    const places = scales.map((scale) => scale || 0.006); // a logarithmic axis has no place for zero but its left edge
    const prediction = predictor(data);
    const expected = scales.map(prediction.epochs);
    const decay = (scale) => epochs.map((epoch) => prediction.loss(scale, epoch));
    const fromZero = decay(0);
    const level = tolerance + median(minimum.values);
    return ({ scale: place }) => {
      const scale = scales[place];
      const named = String(Number(scale.toPrecision(3)));
      const found = needed.value(1, place);
      const predicted = decay(scale);
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
            label: `median of ${seeds} runs; band: 90 % of them`,
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
          mark.line(places, needed.row(1), { color: "one", label: `median of ${seeds} runs; band: 90 % of them` }),
          mark.line(places, expected, { color: "ink", dash: "2 4", label: "predicted before the run" }),
          mark.points([places[place]], [found], { color: "one", radius: 6 }),
        ],
      });
      const begins = number(Number(predicted[0].toPrecision(3)));
      const zero = `; from zero it begins at ${number(fromZero[0])} and takes ${number(needed.value(1, 0))} epochs`;
      figure.say(
        `A start of standard deviation <b>${named}</b> takes <b>${number(found)}</b> epochs until the loss is down; ` +
          `${number(expected[place])} were predicted. ` +
          `The loss begins at ${begins}${predicted[0] > 1.5 * fromZero[0] ? zero : ""}.`,
      );
    };
  };
  knobs.initialisation.predictor = predictor;
}
