"use strict";
// Elements, scales and axes: all that the figures share.

// Those of style.css, which has them for a dark page too.
const COLOURS = { ink: "var(--ink)", grey: "var(--grey)", blue: "var(--curve)", orange: "var(--model)", soft: "var(--soft)",
  blueText: "var(--blue)", orangeText: "var(--orange)" };
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00", "var(--ink)"];

/** An element, in SVG where `space` says so, with attributes and children (nodes or text). */
function element(space, name, attributes = {}, ...children) {
  const made = space ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const svg = (name, attributes, ...children) => element(true, name, attributes, ...children);
const html = (name, attributes, ...children) => element(false, name, attributes, ...children);
const tooltip = (text) => svg("title", {}, text);

/** A map of numbers to pixels: linear, or in `forward` of them. */
function scale(domain, range, forward = (x) => x) {
  const [low, high] = domain.map(forward);
  const at = (value) => range[0] + ((forward(value) - low) / (high - low)) * (range[1] - range[0]);
  return Object.assign(at, { domain, range });
}

/** About `n` round numbers inside [low, high]. */
function linearTicks(low, high, n = 5) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

/** Round numbers inside [low, high] for a logarithmic axis, at most nine. */
function logTicks(low, high) {
  const decades = Array.from({ length: 16 }, (_, i) => 10 ** (i - 6));
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = decades.flatMap((decade) => factors.map((factor) => factor * decade))
      .filter((tick) => tick >= low && tick <= high);
    if (ticks.length <= 9) return ticks;
  }
  return decades.filter((tick, i) => i % 2 === 0 && tick >= low && tick <= high);
}

const label = (value) => String(Number(value.toPrecision(4))).replace("-", "\u2212");

/** A number for people: `digits` significant ones, or a dash. */
const shown = (value, digits = 3) => (value === null || value === undefined ? "\u2013" : label(Number(value.toPrecision(digits))));

/** A number with so many decimals, and a minus sign that can be seen. */
const fixed = (value, decimals) => (value === null ? "\u2013" : value.toFixed(decimals).replace("-", "\u2212"));

/** Ticks and their labels below a panel (x) or left of it (y). */
function axis(side, scaled, ticks, other, { labels = true } = {}) {
  const group = svg("g", { stroke: COLOURS.ink });
  for (const tick of ticks) {
    const at = scaled(tick);
    const [dx, dy] = side === "x" ? [0, -5] : [5, 0];
    const [x, y] = side === "x" ? [at, other] : [other, at];
    group.append(svg("path", { d: `M${x} ${y}l${dx} ${dy}` }));
    if (!labels) continue;
    const place = side === "x" ? { x, y: y + 14, "text-anchor": "middle" } : { x: x - 6, y: y + 4, "text-anchor": "end" };
    group.append(svg("text", { ...place, stroke: "none" }, label(tick)));
  }
  return group;
}

/** Words of several colours in a row. */
function legendOf(entries, x, y) {
  const text = svg("text", { x, y });
  entries.forEach(([words, colour]) => text.append(svg("tspan", { style: `fill:${colour}`, dx: text.childNodes.length ? 14 : 0 }, words)));
  return text;
}

const frame = (x, y, width, height) => svg("rect", { x, y, width, height, fill: "none", stroke: COLOURS.ink });

/** The value below which a share of the sorted numbers lies. */
function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
