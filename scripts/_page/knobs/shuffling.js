knobs.shuffling = (figure, data) => {
  const { rare, each, held, epochs, minimum, hessian, start, maps, radius, loss, reshuffled, diverged, steps } = data;
  const [low, middle, high] = [0, 1, 2];
  const orders = maps.shape[1],
    last = loss.shape[2];
  const packed = Array.from({ length: rare + 1 }, (_, index) => index);
  const after = Array.from({ length: last + 1 }, (_, index) => index);
  const edges = Array.from({ length: held[0].length + 1 }, (_, index) => index + 0.5);
  const radii = (place) => packed.map((count) => radius.value(place, count));
  const breaks = packed.find((count) => radius.value(middle, count) > 1) - 0.5;

  // The loss after 0, 1, … epochs in one order: its map, again and again, on the distance from the optimum.
  const times = (matrix, vector) =>
    vector.map((_, row) => vector.reduce((sum, one, column) => sum + matrix[row * vector.length + column] * one, 0));
  const curve = (map) => {
    const found = [];
    for (let distance = start; found.length <= last; distance = times(map, distance)) {
      const slope = times(hessian.flat(), distance);
      found.push(minimum + distance.reduce((sum, one, index) => sum + one * slope[index], 0) / 2);
    }
    return found;
  };
  const median = (values) => values.sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
  const predicted = packed.map((count) => {
    const curves = Array.from({ length: orders }, (_, order) => curve(maps.row(count, order)));
    return after.map((epoch) => median(curves.map((one) => one[epoch])));
  });

  return ({ packed: count }) => {
    const growth = radius.value(middle, count),
      steepest = each * Math.max(...held[count]);
    const theory = predicted[count],
      fromStart = (losses) => [theory[0], ...losses];
    figure.show("packed", count ? `${count} of ${rare}` : "none, as shuffled");
    draw(figure.charts[0], {
      describe: `Rare rows in each minibatch, ${count} of them moved into the first`,
      x: { label: "minibatch of the epoch", from: 0.5, to: edges.at(-1) },
      y: { label: "rare rows in it", from: 0, to: 1.1 * rare },
      marks: [
        mark.bars(edges, held[count], { color: "one", gap: 1, label: "rare rows" }),
        mark.horizontal(2 / each, { color: "two", dash: "8 4", label: "learning rate × curvature is 2" }),
      ],
    });
    draw(figure.charts[1], {
      describe: `Loss over the epochs with ${count} rare rows moved into the first minibatch`,
      x: { label: "epochs", from: 0, to: last },
      y: { label: "loss over all rows", from: 1e-5, to: 1e12, log: true },
      marks: [
        mark.band(after, fromStart(loss.row(low, count)), fromStart(loss.row(high, count)), { color: "one" }),
        mark.line(after, fromStart(loss.row(middle, count)), {
          color: "one",
          label: `same order each epoch, ${orders} runs`,
        }),
        mark.line(after.slice(0, epochs + 1), fromStart(reshuffled.values), {
          color: "three",
          label: "reshuffled for each epoch",
        }),
        mark.line(after, theory, { color: "ink", dash: "2 4", label: "predicted before the run" }),
      ],
    });
    draw(figure.charts[2], {
      describe: "Growth of the error in an epoch against the number of rare rows moved into the first minibatch",
      height: 240,
      x: { label: "rare rows moved into the first minibatch", from: -0.5, to: rare + 0.5 },
      y: { label: "growth in an epoch", from: 0.03, to: 4, log: true },
      marks: [
        mark.zone(breaks, rare + 0.5, { color: "two", label: "diverges" }),
        mark.band(packed, radii(low), radii(high), { color: "one" }),
        mark.line(packed, radii(middle), { color: "one", label: `spectral radius, ${orders} orders` }),
        mark.horizontal(1, { color: "two", dash: "8 4", label: "1" }),
        mark.points([count], [growth], { color: "one", radius: 6 }),
      ],
    });
    const where = count
      ? `With <b>${count}</b> of the ${rare} rare rows moved into the first minibatch`
      : "With the rows shuffled";
    // Where most runs do: the steps are the median run's.
    const ended =
      diverged[count] > 0.5 ? ` After ${number(steps[count], 4)} steps the numbers leave the range of float32.` : "";
    figure.say(
      `${where}, learning rate × curvature reaches <b>${number(steepest)}</b>. One epoch multiplies the error by ` +
        `<b>${number(growth, 4)}</b>: it ${growth < 1 ? "converges" : "diverges"}. After ${epochs} epochs the loss is ` +
        `${number(loss.value(middle, count, epochs - 1))}; ${number(theory[epochs])} was predicted.${ended}`,
    );
  };
};
