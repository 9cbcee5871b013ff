knobs.last_batch = (figure, data) => {
  const { sizes, rows, epochs, seeds, loss, ratio, learning_rate: rate } = data;
  const fewer = (1 - rate) ** (-2 * epochs); // what a step less in each epoch does to a loss of curvature 1
  const count = (many, one, more = `${one}s`) => `${many} ${many === 1 ? one : more}`;
  const x = { label: "batch size", from: 7, to: 1200, log: true };
  const names = ["kept", "dropped"];
  const colors = ["one", "two"];
  return ({ size: at, remainder }) => {
    const size = sizes[at];
    const full = Math.floor(rows / size);
    const rest = rows % size;
    const dropped = remainder === "drop" ? 1 : 0; // also its place in what was measured
    const left = `${count(rest, "row")} left over${dropped ? ", dropped" : ""}`;
    const edges = Array.from({ length: full + 1 }, (_, index) => index + 0.5);
    figure.show("size", String(size));
    draw(figure.charts[0], {
      describe: `The batches of one epoch: ${full} of ${size} rows${rest ? `, ${left}` : ""}`,
      height: 250,
      x: { label: "batch of the epoch", from: 0.5, to: Math.max(full + (rest ? 1 : 0), 6) + 0.5 },
      y: { label: "rows", from: 0, to: 1.15 * size },
      marks: [
        mark.bars(edges, Array(full).fill(size), {
          color: "one",
          gap: 1,
          label: count(full, "full batch", "full batches"),
        }),
        ...(rest
          ? [
              mark.bars([full + 0.5, full + 1.5], [rest], { color: "two", gap: 1, opacity: dropped ? 0.2 : 0.6 }),
              mark.points([full + 1], [rest], { color: "two", hollow: dropped, label: left }),
            ]
          : []),
      ],
    });
    const other = 1 - dropped;
    draw(figure.charts[1], {
      describe: `Loss after ${epochs} epochs against the batch size, the last batch kept and dropped`,
      x,
      height: 250,
      y: { label: `loss after ${epochs} epochs`, from: 1e-5, to: 100, log: true },
      marks: [
        mark.line(sizes, loss.row(1, other), { color: colors[other], dash: "6 3", width: 1.5, label: names[other] }),
        mark.band(sizes, loss.row(0, dropped), loss.row(2, dropped), { color: colors[dropped] }),
        mark.line(sizes, loss.row(1, dropped), {
          color: colors[dropped],
          label: `${names[dropped]}: median of ${seeds} runs; band: 90 % of them`,
        }),
        mark.points([size], [loss.value(1, dropped, at)], { color: colors[dropped], radius: 6 }),
      ],
    });
    draw(figure.charts[2], {
      describe: "Loss with the last batch dropped over the loss with it kept, against the batch size",
      x,
      height: 250,
      y: { label: "loss, dropped / kept", from: 0.9, to: 1.7 },
      marks: [
        mark.horizontal(fewer, { color: "ink", dash: "2 4", label: `predicted for ${epochs} steps fewer` }),
        ...sizes.map((one, index) =>
          mark.line([one, one], [ratio.value(0, index), ratio.value(2, index)], { color: "two", width: 3 }),
        ),
        mark.points(sizes, ratio.row(1), { color: "two", label: "median of the runs; band: 90 % of them" }),
        mark.points([size], [ratio.value(1, at)], { color: "two", radius: 6 }),
      ],
    });
    const steps = count(full + (rest && !dropped ? 1 : 0), "step");
    figure.say(
      `${count(full, "batch", "batches")} of <b>${size}</b>, ${rest ? `<b>${left}</b>` : "nothing left over"}: ${steps} an epoch. ` +
        `After ${epochs} epochs the loss is <b>${number(loss.value(1, dropped, at))}</b>` +
        (rest
          ? dropped
            ? `, <b>${number(ratio.value(1, at))}</b> times what it is with the rest kept.`
            : `; dropping the rest makes it <b>${number(ratio.value(1, at))}</b> times as large.`
          : "."),
    );
  };
};
