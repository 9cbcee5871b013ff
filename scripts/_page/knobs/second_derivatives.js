knobs.second_derivatives = (figure, data) => {
  const { positions, dampings } = data,
    rate = 0.5;
  const wide = Array.from({ length: 401 }, (_, index) => -6 + (12 * index) / 400);
  const heights = { squared: [-1, 6], absolute: [-1, 4], Huber: [-1, 4], Cauchy: [-0.5, 2.5], sine: [-2, 2] };
  const seen = (x) => Number.isFinite(x) && Math.abs(x) <= wide.at(-1);
  return ({ function: name, position: place, damping: level }) => {
    const x = positions[place],
      damping = dampings[level],
      value = knobs.second_derivatives.functions[name];
    const [here, slope, second] = [0, 1, 2].map((which) => data[name].value(which, place));
    const curvature = second + damping,
      landing = x - slope / curvature,
      gradient = x - rate * slope;
    figure.show("position", number(x));
    figure.show("damping", damping.toFixed(2));
    draw(figure.charts[0], {
      describe: `${name} with the parabola at ${number(x)} and where the steps lead`,
      x: { label: name === "sine" ? "x" : "residual", from: wide[0], to: wide.at(-1) },
      y: { label: name === "sine" ? "sin x" : "loss", from: heights[name][0], to: heights[name][1] },
      marks: [
        mark.line(wide, wide.map(value), { color: "ink", label: name === "sine" ? "sine" : `${name} loss` }),
        mark.line(
          wide,
          wide.map((at) => here + slope * (at - x) + (curvature * (at - x) ** 2) / 2),
          { color: "one", dash: "6 4", label: damping ? "damped parabola" : "its parabola where you are" },
        ),
        mark.points([gradient], [value(gradient)], {
          color: "three",
          radius: 6,
          hollow: true,
          label: `a gradient step, rate ${rate}`,
        }),
        ...(seen(landing)
          ? [
              mark.points([landing], [value(landing)], {
                color: "two",
                radius: 6,
                label: damping ? "damped step" : "Newton's step",
              }),
            ]
          : []),
        mark.points([x], [here], { color: "one", radius: 7, label: "you" }),
      ],
    });
    draw(figure.charts[1], {
      describe: `First and second derivative of ${name}; at ${number(x)} they are ${number(slope)} and ${number(second)}`,
      x: { label: name === "sine" ? "x" : "residual", from: positions[0], to: positions.at(-1) },
      y: { label: "derivatives", from: name === "squared" ? -3.2 : -2.1, to: name === "squared" ? 3.2 : 1.6 },
      marks: [
        mark.line(positions, data[name].row(1), { color: "three", dash: "7 4", label: "first derivative" }),
        mark.line(positions, data[name].row(2), { color: "two", label: "second derivative" }),
        mark.horizontal(-damping, {
          color: "muted",
          width: 1.5,
          dash: "2 4",
          label: "−μ: a second derivative below it leads uphill",
        }),
        mark.points([x, x], [slope, second], { color: "one", radius: 6 }),
      ],
    });
    figure.say(
      `${knobs.second_derivatives.facts(x, slope, second, damping)} ${knobs.second_derivatives.verdict(value, x, slope, curvature, damping)}`,
    );
  };
};

knobs.second_derivatives.functions = {
  squared: (x) => x ** 2 / 2,
  absolute: Math.abs,
  Huber: (x) => (Math.abs(x) <= 1 ? x ** 2 / 2 : Math.abs(x) - 0.5),
  Cauchy: (x) => Math.log1p(x ** 2) / 2,
  sine: Math.sin,
};

knobs.second_derivatives.facts = (x, slope, second, damping) =>
  `At ${number(x)} the slope is <b>${number(slope)}</b> and the second derivative <b>${number(second)}</b>${damping ? ` (${number(second + damping)} with the damping)` : ""}.`;

// What Newton's step does, in words.
knobs.second_derivatives.verdict = (value, x, slope, curvature, damping) => {
  const landing = x - slope / curvature,
    before = value(x),
    after = value(landing);
  const step = damping ? "The damped step" : "Newton's step";
  const where = `<b>${number(Math.abs(landing) < 1e-6 ? 0 : landing)}</b>${Math.abs(landing) > 6 ? " (outside the chart)" : ""}`,
    change = `from ${number(before)} to ${number(after)}`;
  if (slope === 0) return "The ground is level, so no step leads away from here.";
  if (Math.abs(curvature) < 1e-6)
    return "Without curvature the parabola is a straight line, and <b>there is no step</b>. Damping gives one.";
  if (curvature < 0 && after <= before)
    return `The curve bends downwards here, so the step sets out uphill, for the top of its parabola, but it jumps so far, to ${where}, that it ends lower: ${change}.`;
  if (curvature < 0)
    return `The curve bends downwards here, so the step makes for the top of its parabola, at ${where}: <b>uphill</b>, ${change}. More damping than ${number(damping - curvature)} turns it round.`;
  if (after > before)
    return `${step} goes too far, to ${where}: <b>the function rises</b> ${change}. ${damping ? "More damping" : "Damping"} shortens the step.`;
  if (after < (value === Math.sin ? -1 : 0) + 1e-6) return `${step} lands in the <b>minimum</b> at once, at ${where}.`;
  return `${step} goes <b>downhill</b> to ${where}, ${change}.`;
};
