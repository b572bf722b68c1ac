"use strict";
// Star-formation rate of a galaxy against lookback time: median and 68% of its draws, and the prior in grey.

const SFH = { width: 660, left: 58, right: 12, top: 10, height: 190, bottom: 40, decades: 4 };

function sfhFigure(data, galaxy) {
  const [low, middle, high] = galaxy.sfh;
  const edges = data.lookback;
  const seen = middle.flatMap((rate, i) => (rate === null ? [] : [i]));
  const x = scale([edges[0], edges[seen[seen.length - 1] + 1]], [SFH.left, SFH.width - SFH.right]);
  const top = 2 * Math.max(...seen.map((i) => high[i]));
  const least = 0.5 * Math.min(...seen.map((i) => low[i]).filter((rate) => rate > 0));
  const bottom = Math.max(Number.isFinite(least) ? least : 0, top * 10 ** -SFH.decades) || 1e-4;
  const floor = SFH.top + SFH.height;
  const y = scale([bottom, Math.max(top, 2 * bottom)], [floor, SFH.top], Math.log10);
  const at = (rate) => y(Math.min(Math.max(rate ?? bottom, bottom), y.domain[1])).toFixed(1);
  const steps = (rates, order) => order.map((i) => {
    const [first, second] = order[0] === seen[0] ? [edges[i], edges[i + 1]] : [edges[i + 1], edges[i]];
    return `${x(first).toFixed(1)} ${at(rates[i])}L${x(second).toFixed(1)} ${at(rates[i])}`;
  }).join("L");
  const band = ([below, above], attributes) => svg("path", { stroke: "none", ...attributes,
    d: `M${steps(above, seen)}L${steps(below, [...seen].reverse())}Z` });
  const figure = svg("svg", { viewBox: `0 0 ${SFH.width} ${floor + SFH.bottom}`, role: "img", "aria-label": sfhInWords(data, galaxy, seen) });
  if (galaxy.sfh_prior) figure.append(band(galaxy.sfh_prior, { fill: COLOURS.grey, opacity: 0.3, class: "prior" }));
  figure.append(band([low, high], { fill: COLOURS.blue, opacity: 0.25 }),
    svg("path", { d: `M${steps(middle, seen)}`, fill: "none", stroke: COLOURS.blue, "stroke-width": 1.6, class: "sfh" }),
    frame(SFH.left, SFH.top, SFH.width - SFH.left - SFH.right, SFH.height),
    axis("x", x, linearTicks(...x.domain, 7), floor), axis("y", y, logTicks(...y.domain), SFH.left),
    title(SFH.top + SFH.height / 2, "SFR (M\u2609 / yr)"),
    svg("text", { x: (SFH.left + SFH.width - SFH.right) / 2, y: floor + 32, "text-anchor": "middle" }, "Lookback time before the observed epoch (Gyr)"),
    legendOf([["\u2014 median, 68% of draws", COLOURS.blueText], ...(galaxy.sfh_prior ? [["\u25a0 68% of the prior at this mass", COLOURS.soft]] : [])],
      SFH.left + 10, SFH.top + 18));
  return figure;
}

const sfhInWords = ({ lookback }, { sfh }, seen) => {
  const most = seen.reduce((best, i) => (sfh[1][i] > sfh[1][best] ? i : best), seen[0]);
  return `Star-formation rate against lookback time, median: ${shown(sfh[1][0], 2)} Msun per year in the last ${shown(lookback[1], 2)} Gyr, `
    + `most between ${shown(lookback[most], 2)} and ${shown(lookback[most + 1], 2)} Gyr ago, ${shown(sfh[1][most], 2)}.`;
};
