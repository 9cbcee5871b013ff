knobs.planck = (figure, data) => {
  const { kelvins, gains, fit, stderr, epochs } = data;
  const { curve, chi2, chi2OfAllGains, path } = knobs.planck.problem(data);
  const nanometres = data.wavelengths.map((wavelength) => 1e9 * wavelength);
  const drawn = (values) => values.map((value) => 1e-12 * value); // W/(m² sr m) in kW/(m² sr nm)
  const thinned = (values) => values.filter((_, index) => index % 10 === 0);
  const halved = (grid) => grid.filter((_, index) => index % 2 === 0); // as fine as a picture needs
  const columns = halved(kelvins).map((kelvin) => chi2OfAllGains(kelvin, halved(gains)));
  const valley = halved(gains).flatMap((_, row) => columns.map((column) => Math.log(column[row])));
  const around = ([first, second, ...rest]) => ({
    from: first - (second - first) / 2,
    to: rest.at(-1) + (second - first) / 2,
  }); // pixels have a width
  const way = (x, y, label, style) => [mark.line(x, y, style), mark.points(x, y, { ...style, radius: 3.5, label })];
  return ({ temperature: column, gain: row }) => {
    const kelvin = kelvins[column],
      gain = gains[row],
      here = chi2(kelvin, gain),
      steps = path([kelvin, gain]);
    figure.show("temperature", `${kelvin} K`);
    figure.show("gain", gain.toFixed(3));
    draw(figure.charts[0], {
      describe: `The spectrum and Planck's law at ${kelvin} K times ${gain.toFixed(3)}`,
      x: { label: "wavelength / nm", from: nanometres[0], to: nanometres.at(-1) },
      y: { label: "radiance / (kW/(m² sr nm))", from: 0, to: 1.5e-12 * Math.max(...data.radiances) },
      marks: [
        mark.points(thinned(nanometres), thinned(drawn(data.radiances)), {
          color: "ink",
          radius: 2,
          opacity: 0.6,
          label: "spectrum",
        }),
        mark.line(nanometres, drawn(curve(kelvin, gain)), {
          color: "one",
          width: 3,
          label: "Planck's law where you are",
        }),
      ],
    });
    draw(figure.charts[1], {
      describe: `Valley of χ² over temperature and gain, with the ways of both methods; you are at ${kelvin} K and ${gain.toFixed(3)}`,
      x: { label: "temperature / K", ...around(halved(kelvins)) },
      y: { label: "gain", ...around(halved(gains)) },
      marks: [
        mark.image(valley, [columns[0].length, columns.length], [Math.log(fit.chi2), Math.log(3e7)], {
          smooth: true,
          opacity: 0.65,
        }),
        mark.points([kelvin], [gain], { color: "one", radius: 7, label: "you" }),
        ...way(
          epochs,
          epochs.map(() => 1),
          "published, epoch by epoch",
          { color: "two", dash: "4 3" },
        ),
        ...way(
          steps.map((step) => step.temperature),
          steps.map((step) => step.gain),
          "fit of both from where you are",
          { color: "ink" },
        ),
        mark.points([fit.temperature], [fit.gain], { color: "ink", radius: 9, hollow: true, label: "least χ²" }),
      ],
    });
    const within = (value, error, digits, unit = "") =>
      `<b>${value.toFixed(digits)}\u00a0±\u00a0${error.toFixed(digits)}${unit}</b>`;
    figure.say(
      `At ${kelvin} K and a gain of ${gain.toFixed(3)} χ² is <b>${number(here, 5)}</b>; the least is ${number(fit.chi2, 5)}, for ${fit.dof} degrees of freedom. ` +
        `From here a fit of both takes ${steps.length - 1} steps, to ${within(fit.temperature, stderr.temperature, 2, "\u00a0K")} ` +
        `and a gain of ${within(fit.gain, stderr.gain, 4)}. ` +
        `The published descent changes the temperature alone and ends at ${epochs.at(-1).toFixed(0)} K.`,
    );
  };
};

// χ² of a spectrum under Planck's law, and a fit step by step, all in double precision.
knobs.planck.problem = ({ wavelengths, radiances, noise, weights }) => {
  // The law and its first two derivatives with the temperature.
  const h = 6.62607015e-34,
    c = 299792458,
    k = 1.380649e-23;
  const law = (wavelength, kelvin) => {
    const u = (h * c) / (wavelength * k * kelvin),
      decay = Math.exp(-u),
      q = u / -Math.expm1(-u);
    const value = ((2 * h * c ** 2) / wavelength ** 5) * decay * (q / u);
    return [value, (value * q) / kelvin, (value * q * (q * (1 + decay) - 2)) / kelvin ** 2];
  };
  const curve = (kelvin, gain) => wavelengths.map((wavelength) => gain * law(wavelength, kelvin)[0]);
  const sigma = curve(weights.temperature, weights.gain).map((value) => noise * value);
  const sum = (term) => wavelengths.reduce((total, _, index) => total + term(index), 0);
  const chi2 = (kelvin, gain) => {
    const model = curve(kelvin, gain);
    return sum((index) => ((model[index] - radiances[index]) / sigma[index]) ** 2);
  };
  // A parabola in the gain, so one sum over the wavelengths for each temperature.
  const chi2OfAllGains = (kelvin, gains) => {
    const unit = curve(kelvin, 1).map((value, index) => value / sigma[index]),
      y = radiances.map((value, index) => value / sigma[index]);
    const [yy, yu, uu] = [
      sum((index) => y[index] ** 2),
      sum((index) => y[index] * unit[index]),
      sum((index) => unit[index] ** 2),
    ];
    return gains.map((gain) => yy - 2 * gain * yu + gain ** 2 * uu);
  };

  // χ², JᵀJ, Jᵀr, and Jᵀ of the residuals' second derivative along a direction.
  const linearised = ([kelvin, gain], [along, across] = [0, 0]) => {
    let chi2 = 0,
      square = [0, 0, 0],
      slope = [0, 0],
      bend = [0, 0];
    for (let index = 0; index < wavelengths.length; index++) {
      const [value, first, second] = law(wavelengths[index], kelvin),
        scale = sigma[index];
      const residual = (gain * value - radiances[index]) / scale,
        byKelvin = (gain * first) / scale,
        byGain = value / scale;
      const bent = (gain * second * along ** 2 + 2 * first * along * across) / scale;
      chi2 += residual * residual;
      ((square[0] += byKelvin * byKelvin), (square[1] += byKelvin * byGain), (square[2] += byGain * byGain));
      ((slope[0] += byKelvin * residual), (slope[1] += byGain * residual));
      ((bend[0] += byKelvin * bent), (bend[1] += byGain * bent));
    }
    return { chi2, square, slope, bend };
  };
  const solved = ([a, b, d], [first, second]) => [
    (d * first - b * second) / (a * d - b * b),
    (a * second - b * first) / (a * d - b * b),
  ];
  // The accepted steps of Levenberg and Marquardt by the rules of jaxreg.fit: the scale is the longest that each column
  // has been, damping goes by the gain, and each step bends by half of its acceleration.
  const path = (start) => {
    const step = ([temperature, gain], { chi2 }) => ({ temperature, gain, chi2 });
    let at = start,
      here = linearised(at),
      scale = [0, 0],
      damping = 1e-3,
      growth = 2;
    const steps = [step(at, here)];
    for (let trials = 0; trials < 200; trials++) {
      const [a, b, d] = here.square,
        whole = solved(here.square, here.slope);
      if (whole[0] * here.slope[0] + whole[1] * here.slope[1] < 1e-12) break; // of χ², that is left to gain
      scale = [Math.max(scale[0], a), Math.max(scale[1], d)];
      const damped = [a + damping * scale[0], b, d + damping * scale[1]];
      const size = ([first, second]) => scale[0] * first ** 2 + scale[1] * second ** 2;
      const velocity = solved(
        damped,
        here.slope.map((one) => -one),
      );
      const acceleration = solved(
        damped,
        linearised(at, velocity).bend.map((one) => -one),
      );
      const decrease =
        a * velocity[0] ** 2 + 2 * b * velocity[0] * velocity[1] + d * velocity[1] ** 2 + 2 * damping * size(velocity);
      const next = at.map((one, which) => one + velocity[which] + acceleration[which] / 2),
        there = linearised(next);
      const gained = (here.chi2 - there.chi2) / decrease;
      if (gained > 1e-4 && 4 * size(acceleration) <= 0.3 ** 2 * size(velocity)) {
        [at, here, growth] = [next, there, 2];
        damping *= Math.max(1 / 3, 1 - (2 * gained - 1) ** 3);
        steps.push(step(at, here));
      } else [damping, growth] = [damping * growth, 2 * growth];
    }
    return steps;
  };
  return { curve, chi2, chi2OfAllGains, path };
};
