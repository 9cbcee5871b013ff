knobs.reshape = (figure, data) => {
  const runs = { guarded: knobs.reshape.descent(data, "guarded"), unguarded: knobs.reshape.descent(data, "unguarded") };
  const colors = { guarded: "one", unguarded: "two" };
  const { x, y, table_rows: size, products } = data;
  const targets = Array.from(y.values);
  const span = { from: Math.min(...targets) - 1, to: Math.max(...targets) + 1 };
  const predicted = ([first, second, offset], row) => first * x.value(row, 0) + second * x.value(row, 1) + offset;
  const inOrder = [...Array(size).keys()].sort((one, other) => targets[one] - targets[other]);
  const rounded = (value) => (Math.abs(value) < 1e-6 ? "0" : number(value, 4));
  return ({ epoch, run }) => {
    const { params, rows, pairs } = runs[run][epoch];
    const epochs = `${epoch} ${epoch === 1 ? "epoch" : "epochs"}`;
    figure.show("epoch", String(epoch));
    draw(figure.charts[0], {
      describe: `Differences of ${size} predictions of the ${run} run from ${size} targets, after ${epochs}`,
      x: { label: `targets of ${size} rows, in order`, from: 0, to: size },
      y: { label: "predictions of the same rows", from: 0, to: size },
      marks: [
        mark.image(
          inOrder.flatMap((row) => inOrder.map((column) => Math.abs(predicted(params, row) - targets[column]))),
          [size, size],
          [0, 10],
        ),
        mark.line([0, size], [0, size], { color: colors[run], label: "a prediction and its own target" }),
      ],
    });
    draw(figure.charts[1], {
      describe: `Predictions of both runs against targets, after ${epochs}`,
      x: { label: "target", ...span },
      y: { label: "prediction", ...span },
      marks: [
        mark.line(Object.values(span), Object.values(span), {
          color: "ink",
          dash: "2 4",
          width: 1,
          label: "prediction = target",
        }),
        mark.horizontal(products[2][3], { color: "ink", dash: "8 4", width: 1, label: "mean of the targets" }),
        ...Object.keys(runs).map((name) => {
          const predictions = targets.map((_, row) => predicted(runs[name][epoch].params, row));
          return mark.points(targets, predictions, { color: colors[name], radius: 2.5, opacity: 0.7, label: name });
        }),
      ],
    });
    const [first, second, offset] = params.map(rounded);
    const parts = {
      guarded: ["diagonal", rows, "whole table", pairs],
      unguarded: ["whole table", pairs, "diagonal", rows],
    };
    const [lowered, value, other, otherValue] = parts[run];
    figure.say(
      `After ${epochs} the ${run} run has w&nbsp;=&nbsp;(${first},&nbsp;${second}) and b&nbsp;=&nbsp;<b>${offset}</b>. It lowers ` +
        `the mean over the ${lowered}, now <b>${number(value)}</b>; the mean over the ${other} is <b>${number(otherValue)}</b>.`,
    );
  };
};

// Gradient descent on either loss, from the mean products of [x₀, x₁, 1, y]: parameters and both losses of each epoch.
knobs.reshape.descent = ({ products, start, rate, loss }, run) => {
  const places = [0, 1, 2];
  const dot = (one, other) => places.reduce((sum, place) => sum + one[place] * other[place], 0);
  const bent = (params) => places.map((place) => dot(products[place], params));
  const pulls = {
    guarded: places.map((place) => products[place][3]),
    unguarded: places.map((place) => products[place][2] * products[2][3]), // of the mean row to the mean target
  };
  const lossOf = (name, params) => (dot(params, bent(params)) - 2 * dot(params, pulls[name]) + products[3][3]) / 2;
  const epochs = [];
  let params = start;
  for (let epoch = 0; epoch <= loss[run].length; epoch++) {
    epochs.push({ params, rows: lossOf("guarded", params), pairs: lossOf("unguarded", params) });
    const slope = bent(params).map((value, place) => value - pulls[run][place]);
    params = params.map((value, place) => value - rate * slope[place]);
  }
  return epochs;
};
