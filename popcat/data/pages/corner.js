"use strict";
// Draws of one galaxy against each other, two by two, and each alone.

const CORNER = { size: 560, left: 50, bottom: 46, top: 34, right: 6, gap: 5, bins: 14 };
const SYMBOLS = {
  log_mstar: "log M\u2605", log_sfr_1gyr: "log SFR", log_z_mw: "log Z", age_mw_gyr: "age (Gyr)", tau_ism: "\u03c4 ISM",
  redshift: "redshift",
};

const DIGITS = new Map([..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].map((digit, i) => [digit, i]));

/** The values of [least, step, text], two characters each; null where one is missing (popcat/pages/compact.py). */
function unpacked([least, step, text]) {
  return Array.from({ length: text.length / 2 }, (_, i) => {
    const place = 64 * DIGITS.get(text[2 * i]) + DIGITS.get(text[2 * i + 1]);
    return place === 4095 ? null : least + step * place;
  });
}

function cornerFigure(data, galaxy) {
  const columns = data.corner
    .map((name, i) => ({ name, symbol: SYMBOLS[name] ?? name, draws: unpacked(galaxy.draws[i]),
      prior: data.prior && galaxy.span ? data.prior[i].slice(...galaxy.span) : [],
      stays: (galaxy.stays_prior ?? []).includes(name) }))
    .map((column) => ({ ...column, sorted: column.draws.filter((value) => value !== null).sort((a, b) => a - b) }))
    .filter(({ name, sorted }) => name !== "redshift" || sorted[0] < sorted[sorted.length - 1]);
  const cell = (CORNER.size - CORNER.left - CORNER.right) / columns.length;
  const height = CORNER.top + cell * columns.length + CORNER.bottom;
  const figure = svg("svg", { viewBox: `0 0 ${CORNER.size} ${height}`, role: "img", "aria-label": cornerInWords(columns) });
  columns.forEach((row, j) => columns.slice(0, j + 1).forEach((column, i) => {
    const place = { x: CORNER.left + i * cell, y: CORNER.top + j * cell, size: cell - CORNER.gap };
    figure.append(i === j ? histogram(column, place) : scatter(column, row, place));
    figure.append(...ticksOf(column, row, place, i, j, columns.length));
  }));
  return figure;
}

const middleOf = ({ sorted }) => [0.16, 0.5, 0.84].map((share) => quantile(sorted, share));

/** The range of the draws and a margin; never of no width. */
function extent({ sorted }) {
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const margin = high > low ? 0.06 * (high - low) : 0.5 + 0.01 * Math.abs(low);
  return [low - margin, high + margin];
}

const across = (column, { x, size }) => scale(extent(column), [x, x + size]);

function histogram(column, place) {
  const x = across(column, place);
  const [low, high] = extent(column);
  const counted = (values, weight) => {
    const counts = new Array(CORNER.bins).fill(0);
    values.filter((value) => value !== null && value >= low && value <= high)
      .forEach((value) => { counts[Math.min(CORNER.bins - 1, Math.floor(((value - low) / (high - low)) * CORNER.bins))] += weight; });
    return counts;
  };
  const counts = counted(column.sorted, 1);
  const floor = place.y + place.size;
  const unit = (0.88 * place.size) / Math.max(...counts);
  const step = place.size / CORNER.bins;
  const steps = (heights) => `M${place.x} ${floor}` + heights.map((count) =>
    `V${Math.max(floor - unit * count, place.y).toFixed(1)}h${step.toFixed(2)}`).join("") + `V${floor}Z`;
  const prior = counted(column.prior, column.sorted.length / Math.max(column.prior.length, 1));
  const quantiles = middleOf(column);
  const lines = quantiles.map((value) => `M${x(value).toFixed(1)} ${place.y}v${place.size}`).join("");
  const [low16, middle, high84] = quantiles;
  const digits = Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(Math.max(high84 - low16, 1e-4)))));
  const words = `${middle.toFixed(digits)} +${(high84 - middle).toFixed(digits)} \u2212${(middle - low16).toFixed(digits)}`;
  return svg("g", {}, svg("path", { d: steps(prior), fill: COLOURS.grey, opacity: 0.45, class: "prior" }),
    svg("path", { d: steps(counts), fill: COLOURS.blue, opacity: 0.5 }),
    svg("path", { d: lines, stroke: COLOURS.ink, "stroke-dasharray": "3 3", "stroke-width": 0.9 }),
    frame(place.x, place.y, place.size, place.size),
    svg("text", { x: place.x + place.size / 2, y: place.y - 16, "text-anchor": "middle", "font-weight": "bold", fill: column.stays ? COLOURS.soft : COLOURS.ink },
      column.stays ? `${column.symbol} (prior)` : column.symbol),
    svg("text", { x: place.x + place.size / 2, y: place.y - 4, "text-anchor": "middle" }, words.replaceAll("-", "\u2212")));
}

function scatter(column, row, place) {
  const x = across(column, place);
  const y = scale(extent(row), [place.y + place.size, place.y]);
  const d = column.draws.map((value, i) => (value === null || row.draws[i] === null ? ""
    : `M${x(value).toFixed(1)} ${y(row.draws[i]).toFixed(1)}h.01`)).join("");
  const inside = ({ prior }, i, [low, high]) => prior[i] !== null && prior[i] >= low && prior[i] <= high;
  const [along, up] = [extent(column), extent(row)];
  const below = column.prior.map((value, i) => (inside(column, i, along) && inside(row, i, up)
    ? `M${x(value).toFixed(1)} ${y(row.prior[i]).toFixed(1)}h.01` : "")).join("");
  return svg("g", {},
    svg("path", { d: below, stroke: COLOURS.grey, "stroke-width": 3.4, "stroke-linecap": "round", opacity: 0.4, class: "prior" }),
    svg("path", { d, stroke: COLOURS.blue, "stroke-width": 3.4, "stroke-linecap": "round", opacity: 0.45, class: "draws" }),
    frame(place.x, place.y, place.size, place.size));
}

/** Ticks whose labels do not run into the next panel's. */
function innerTicks(column) {
  const [low, high] = extent(column);
  const edge = 0.08 * (high - low);
  return linearTicks(low, high, 4).filter((tick) => tick > low + edge && tick < high - edge);
}

function ticksOf(column, row, place, i, j, n) {
  const x = across(column, place);
  const y = scale(extent(row), [place.y + place.size, place.y]);
  const floor = place.y + place.size;
  const drawn = [axis("x", x, innerTicks(column), floor, { labels: j === n - 1 })];
  if (j === n - 1) drawn.push(svg("text", { x: place.x + place.size / 2, y: floor + 31, "text-anchor": "middle" }, column.symbol));
  if (i < j) drawn.push(axis("y", y, innerTicks(row), place.x, { labels: i === 0 }));
  if (i === 0 && j > 0) {
    drawn.push(svg("text", { transform: `translate(12 ${place.y + place.size / 2}) rotate(-90)`, "text-anchor": "middle" }, row.symbol));
  }
  return drawn;
}

const cornerInWords = (columns) => "Posterior draws. " + columns.map((column) => {
  const [low, middle, high] = middleOf(column);
  return `${column.name}: ${shown(middle, 4)}, 68% from ${shown(low, 4)} to ${shown(high, 4)}${column.stays ? ", prior-dominated" : ""}`;
}).join("; ");
