knobs.learning_rates = (figure, data) => {
  const { rates, edge, loss, low, high, train, expected, diverged, seeds } = data;
  const epochs = Array.from({ length: loss.shape[1] }, (_, index) => index + 1);
  const after = (table, epoch) => rates.map((_, index) => table.value(index, epoch));
  const span = { from: 3e-5, to: 1e3, log: true };
  return ({ rate: place, epochs: epoch }) => {
    const rate = rates[place],
      found = loss.value(place, epoch),
      failed = diverged[place];
    figure.show("rate", number(rate));
    figure.show("epochs", String(epoch + 1));
    draw(figure.charts[0], {
      describe: `Loss after ${epoch + 1} epochs against the learning rate`,
      x: { label: "learning rate", from: rates[0], to: rates.at(-1), log: true },
      y: { label: `loss after ${epoch + 1} ${epoch ? "epochs" : "epoch"}`, ...span },
      marks: [
        mark.zone(edge, rates.at(-1), { color: "two" }),
        mark.band(rates, after(low, epoch), after(high, epoch), { color: "one" }),
        mark.line(rates, after(loss, epoch), { color: "one", label: `median of ${seeds} runs; band: 90 % of them` }),
        mark.line(rates, after(expected, epoch), { color: "ink", dash: "2 4", label: "predicted before the run" }),
        mark.vertical(edge, { color: "two", dash: "8 4", label: "2/λmax" }),
        mark.points([rate], [found], { color: "one", radius: 6 }),
      ],
    });
    draw(figure.charts[1], {
      describe: `Loss over the epochs at learning rate ${number(rate)}`,
      x: { label: "epoch", from: 1, to: epochs.length },
      y: { label: `loss at learning rate ${number(rate)}`, ...span },
      marks: [
        mark.band(epochs, low.row(place), high.row(place), { color: "one" }),
        mark.line(epochs, loss.row(place), { color: "one", label: "validation rows" }),
        mark.line(epochs, train.row(place), { color: "three", width: 1.5, label: "minibatches of the epoch" }),
        mark.line(epochs, expected.row(place), { color: "ink", dash: "2 4", label: "predicted before the run" }),
        mark.points([epoch + 1], [found], { color: "one", radius: 6 }),
      ],
    });
    const ended = failed
      ? ` By epoch ${epochs.length} <b>${number(100 * failed)} %</b> of the runs have left the range of numbers.`
      : "";
    figure.say(
      `At a learning rate of <b>${number(rate)}</b> the loss after ${epoch + 1} ${epoch ? "epochs" : "epoch"} is <b>${number(found)}</b>; ` +
        `${number(expected.value(place, epoch))} was predicted. ` +
        (rate < edge
          ? `The edge is at ${number(edge / rate)} times this rate.`
          : `That is ${number(rate / edge)} times the edge.`) +
        ended,
    );
  };
};
