"use strict";
// Fluxes of a galaxy, its model's, spectra of some draws, and residuals.

const SED = { width: 660, left: 58, right: 12, top: 12, height: 300, gap: 12, below: 90, bottom: 40 };

function sedFigure(data, galaxy) {
  const bands = data.bands.map((band, i) => ({ ...band, colour: PALETTE[i % 8], flux: galaxy.flux[i], err: galaxy.err[i],
    model: galaxy.model ? galaxy.model[i] : null }));
  const x = waveScale(bands);
  const { y, softening, ticks } = fluxScale(bands);
  const floor = SED.top + SED.height;
  const total = floor + SED.gap + SED.below + SED.bottom;
  const clip = `clip-${galaxy.id}`;
  const figure = svg("svg", { viewBox: `0 0 ${SED.width} ${total}`, role: "img", "aria-label": sedInWords(bands) });
  figure.append(svg("clipPath", { id: clip }, svg("rect", { x: SED.left, y: SED.top,
    width: SED.width - SED.left - SED.right, height: SED.height })));
  const named = bandsWithNames(bands, x);
  bands.forEach((band) => figure.append(curve(band, x, floor, named.has(band))));
  const inside = svg("g", { "clip-path": `url(#${clip})` });
  for (const spectrum of galaxy.spectra ?? []) inside.append(spectrumLine(data.wave, spectrum, x, y));
  figure.append(inside);
  bands.forEach((band) => figure.append(box(band, x, y, band.model), point(band, x, y)));
  figure.append(...residuals(bands, x, floor + SED.gap));
  figure.append(frame(SED.left, SED.top, SED.width - SED.left - SED.right, SED.height),
    axis("y", y, ticks, SED.left), axis("x", x, x.ticks, floor, { labels: false }),
    title(SED.top + SED.height / 2, softening ? "f\u03bd (nMgy, asinh scale)" : "f\u03bd (nMgy)"), legend(galaxy));
  return figure;
}

/** Wavelengths that the bands cover; logarithmic where they span much. */
function waveScale(bands) {
  const covered = bands.flatMap((band) => band.curve[0].filter((_, i) => band.curve[1][i] > 0.01));
  const domain = [0.95 * Math.min(...covered), 1.04 * Math.max(...covered)];
  const log = domain[1] > 6 * domain[0];
  const at = scale(domain, [SED.left, SED.width - SED.right], log ? Math.log10 : undefined);
  return Object.assign(at, { ticks: log ? logTicks(...domain) : linearTicks(...domain) });
}

/** Logarithmic where every flux is above zero by its error, else asinh: linear near zero, so none loses its place. */
function fluxScale(bands) {
  const seen = bands.filter((band) => band.flux !== null && band.err !== null);
  const values = [...seen.flatMap((band) => [band.flux - band.err, band.flux + band.err]),
    ...bands.flatMap((band) => (band.model ? [band.model[0], band.model[4]] : []))];
  const positive = values.length > 0 && values.every((value) => value > 0);
  const softening = positive ? 0 : 3 * quantile(seen.map((band) => band.err).sort((a, b) => a - b), 0.5) || 1;
  const forward = positive ? Math.log10 : (value) => Math.asinh(value / softening);
  const back = positive ? (value) => 10 ** value : (value) => softening * Math.sinh(value);
  const sorted = values.map(forward).sort((a, b) => a - b);
  const [low, high] = [sorted[0] ?? 0, sorted[sorted.length - 1] ?? 1];
  const span = Math.max(high - low, 0.1);
  const domain = [back(low - 0.35 * span), back(high + 0.3 * span)];
  const y = scale(domain, [SED.top + SED.height, SED.top], forward);
  const above = logTicks(softening || domain[0], Math.max(domain[1], softening));
  const below = softening ? logTicks(softening, Math.max(-domain[0], softening)).map((tick) => -tick) : [];
  const ticks = [...below, ...(softening ? [0] : []), ...above].filter((tick) => tick >= domain[0] && tick <= domain[1]);
  return { y, softening, ticks };
}

/** Bands whose names have room beside those of shorter wavelengths; the others' are on the curve, to point at. */
function bandsWithNames(bands, x) {
  let end = -Infinity;
  return new Set([...bands].sort((a, b) => a.wave - b.wave).filter((band) => {
    const half = 3.5 * band.name.length + 2;
    if (x(band.wave) - half < end) return false;
    end = x(band.wave) + half;
    return true;
  }));
}

function curve(band, x, floor, isNamed) {
  const [wave, height] = band.curve;
  const line = wave.map((at, i) => `${x(at).toFixed(1)} ${(floor - 50 * height[i]).toFixed(1)}`).join("L");
  const d = `M${x(wave[0]).toFixed(1)} ${floor}L${line}L${x(wave[wave.length - 1]).toFixed(1)} ${floor}Z`;
  const area = svg("path", { d, fill: band.colour, opacity: 0.16 }, tooltip(band.name));
  return svg("g", {}, area, ...(isNamed
    ? [svg("text", { x: x(band.wave), y: floor - 6, "text-anchor": "middle", "font-weight": "bold" }, band.name)] : []));
}

/** f_nu of one draw, from AB magnitudes x 100, each less the one before; a gap where there is no light. */
function spectrumLine(wave, steps, x, y) {
  let pen = "M";
  let centimags = 0;
  const d = wave.map((at, i) => {
    if (steps[i] === null) { pen = "M"; return ""; }
    centimags += steps[i];
    const piece = `${pen}${x(at).toFixed(1)} ${y(10 ** ((2250 - centimags) / 250)).toFixed(1)}`;
    pen = "L";
    return piece;
  }).join("");
  return svg("path", { d, fill: "none", stroke: COLOURS.blue, "stroke-width": 0.9, opacity: 0.4, class: "spectrum" });
}

/** The middle 68% (box), 95% (line) and the median of a band's draws. */
function box(band, x, y, quantiles) {
  if (!quantiles) return svg("g");
  const [low2, low, middle, high, high2] = quantiles.map(y);
  const at = x(band.wave);
  const top = Math.min(low, high);
  return svg("g", { stroke: COLOURS.orange, class: "model" },
    svg("path", { d: `M${at} ${low2}V${high2}`, "stroke-width": 1.3 }),
    svg("rect", { x: at - 8, y: top, width: 16, height: Math.max(Math.abs(high - low), 0.5), fill: COLOURS.orange,
      "fill-opacity": 0.4 }),
    svg("path", { d: `M${at - 8} ${middle}h16`, "stroke-width": 2 }),
    tooltip(`${band.name}, model: ${shown(quantiles[2])} (${shown(quantiles[1])} to ${shown(quantiles[3])})`));
}

function point(band, x, y) {
  if (band.flux === null || band.err === null) return svg("g");
  const [at, low, high] = [x(band.wave), y(band.flux - band.err), y(band.flux + band.err)];
  return svg("g", { stroke: COLOURS.ink, "stroke-width": 1.4, class: "observed" },
    svg("path", { d: `M${at} ${low}V${high}M${at - 4} ${low}h8M${at - 4} ${high}h8` }),
    svg("circle", { cx: at, cy: y(band.flux), r: 4, fill: COLOURS.ink }),
    tooltip(`${band.name}, observed: ${shown(band.flux)} \u00b1 ${shown(band.err)} nMgy`));
}

function residuals(bands, x, top) {
  const pulls = bands.map((band) => (band.model && band.err ? band.model.map((value) => (band.flux - value) / band.err) : null));
  const reach = Math.max(3.2, ...pulls.flat().filter((pull) => pull !== null).map((pull) => 1.1 * Math.abs(pull)));
  const y = scale([-reach, reach], [top + SED.below, top]);
  const width = SED.width - SED.left - SED.right;
  return [svg("rect", { x: SED.left, y: y(1), width, height: y(-1) - y(1), fill: COLOURS.grey, opacity: 0.2 }),
    svg("path", { d: `M${SED.left} ${y(0)}h${width}`, stroke: COLOURS.ink, "stroke-width": 0.7 }),
    ...bands.map((band, i) => (pulls[i] ? box(band, x, y, pulls[i]) : svg("g"))),
    frame(SED.left, top, width, SED.below), axis("y", y, linearTicks(-reach, reach, 5), SED.left),
    axis("x", x, x.ticks, top + SED.below), title(top + SED.below / 2, "(obs \u2212 model) / \u03c3"),
    svg("text", { x: SED.left + width / 2, y: top + SED.below + 32, "text-anchor": "middle" },
      "Observed wavelength (\u00c5)")];
}

const title = (y, text) => svg("text", { transform: `translate(13 ${y}) rotate(-90)`, "text-anchor": "middle" }, text);

function legend(galaxy) {
  const entries = [["\u25cf observed", COLOURS.ink]];
  if (galaxy.model) entries.push(["\u25a0 model: 68%, 95% of draws", COLOURS.orangeText]);
  if (galaxy.spectra) entries.push([`\u2014 spectra of ${galaxy.spectra.length} draws`, COLOURS.blueText]);
  return legendOf(entries, SED.left + 10, SED.top + 18);
}

const sedInWords = (bands) => "Fluxes in nMgy: " + bands.filter((band) => band.flux !== null)
  .map((band) => `${band.name} ${shown(band.flux)} \u00b1 ${shown(band.err)}`).join(", ");
