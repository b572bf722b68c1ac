"use strict";
// The table: sort by a column, filter by a condition (expressions.js), choose a galaxy to draw. Without
// this script it is a plain table.

const data = JSON.parse(document.getElementById("galaxies-data").textContent);
const galaxies = data.galaxies;
const quantities = data.quantities.map((quantity) => quantity.name);
const body = document.querySelector("#galaxies tbody");
const lines = [...body.rows];
const lineOf = new Map(galaxies.map((galaxy, i) => [galaxy, lines[i]]));
const filter = document.getElementById("filter");
const count = document.getElementById("count");
const detail = document.getElementById("detail");
let order = [...galaxies];
let chosen = null;
// The galaxy that the address names, and whether the page follows the address rather than the other way round.
let inAddress = null;
let following = false;

/** The columns that the filter and the headings name, each as a function of the galaxy: whole numbers as BigInt. */
const COLUMNS = new Map([
  ["object_id", (galaxy) => BigInt(galaxy.id)], ["object_name", (galaxy) => galaxy.name], ["ra", (galaxy) => galaxy.ra], ["dec", (galaxy) => galaxy.dec],
  ["redshift", (galaxy) => galaxy.given_z], ["status", (galaxy) => galaxy.status],
  ["flags", (galaxy) => galaxy.flags.reduce((bits, name) => bits | BigInt(data.flags[name]), 0n)],
  ["n_bands", (galaxy) => (galaxy.n_bands === null ? null : BigInt(galaxy.n_bands))],
  ["chi2_best", (galaxy) => galaxy.chi2], ["worst_band", (galaxy) => galaxy.worst_band],
  ...("certified" in galaxies[0] ? ["certified", "route", "ess"].map((name) => [name, (galaxy) => galaxy[name]]) : []),
  ...("p_star" in galaxies[0] ? ["p_star", "p_qso"].map((name) => [name, (galaxy) => galaxy[name]]) : []),
  ...data.bands.flatMap(({ name }, i) => [[`flux_${name}`, (galaxy) => galaxy.flux[i]], [`flux_err_${name}`, (galaxy) => galaxy.err[i]]]),
  ...quantities.flatMap((name, i) => [["", 1], ["_p16", 0], ["_p50", 1], ["_p84", 2]]
    // The catalogue has a column "redshift", which is no median.
    .filter(([suffix]) => name !== "redshift" || suffix)
    .map(([suffix, at]) => [`${name}${suffix}`, (galaxy) => (galaxy.q ? galaxy.q[i][at] : null)])),
  ["why", (galaxy) => galaxy.why], ["sample", (galaxy) => galaxy.sample],
]);

/** The filter as a test of a galaxy; throws what is wrong with it, in words. */
function testOf(text) {
  if (!text) return () => true;
  if (/^-?\d+$/.test(text)) return (galaxy) => galaxy.id.startsWith(text);
  const expression = parseExpression(text);
  const unknown = expression.columns.find((name) => !COLUMNS.has(name));
  if (unknown !== undefined) throw new Error(`no column "${unknown}" on this page; there are ${[...COLUMNS.keys()].join(", ")}`);
  return (galaxy) => fulfils(expression, (name) => COLUMNS.get(name)(galaxy));
}

/** The conditions that a text joins by `and`; the text itself where it is not finished. */
function termsOf(text) {
  try { return conjunctsOf(text); } catch { return [text.trim()]; }
}

/** Whether a condition joins others by `or`, so that it needs parentheses beside an `and`. */
function isAlternative(term) {
  try { return !term.startsWith("(") && parseExpression(term).tree.is === "or"; } catch { return false; }
}

/** Show the rows that pass the filter, and say how many. */
function applyFilter() {
  const text = filter.value.trim();
  filter.setAttribute("aria-invalid", "false");
  try {
    const passing = new Set(galaxies.filter(testOf(text)));
    galaxies.forEach((galaxy) => { lineOf.get(galaxy).hidden = !passing.has(galaxy); });
    count.textContent = `${passing.size} of the ${galaxies.length} galaxies in this table` + (text ? " pass" : "");
  } catch (error) {
    filter.setAttribute("aria-invalid", "true");
    count.textContent = error.message;
  }
  noteAddress();
  const terms = termsOf(text);
  document.querySelectorAll(".chip[data-term]").forEach((chip) => {
    chip.setAttribute("aria-pressed", String(termsOf(chip.dataset.term).every((term) => terms.includes(term))));
  });
}

/** Join a condition to the filter, or take it out. */
function toggleTerm(condition) {
  const terms = termsOf(filter.value);
  const wanted = termsOf(condition);
  const others = terms.filter((term) => term && !wanted.includes(term)).map((term) => (isAlternative(term) ? `(${term})` : term));
  filter.value = (wanted.every((term) => terms.includes(term)) ? others : [...others, ...wanted]).join(" and ");
  applyFilter();
}

/** Order the rows by a column; what has no value comes last. */
function sortBy(heading) {
  const rising = heading.getAttribute("aria-sort") !== "ascending";
  document.querySelectorAll("#galaxies th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const keyOf = COLUMNS.get(heading.dataset.key);
  order.sort((one, other) => {
    const [a, b] = [keyOf(one), keyOf(other)];
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    return (rising ? 1 : -1) * (a < b ? -1 : a > b ? 1 : 0);
  });
  body.append(...order.map((galaxy) => lineOf.get(galaxy)));
}

/** Keep the filter in the page's address, and the galaxy where one was chosen. */
function noteAddress() {
  if (!following) history.replaceState(null, "", addressOf({ where: filter.value.trim(), galaxy: inAddress }));
}

/** Draw one galaxy, mark its row, and note it in the address. */
function choose(galaxy, { focus = false, note = true } = {}) {
  if (chosen) { lineOf.get(chosen).removeAttribute("aria-selected"); lineOf.get(chosen).tabIndex = -1; }
  chosen = galaxy;
  const line = lineOf.get(galaxy);
  line.setAttribute("aria-selected", "true");
  line.tabIndex = 0;
  if (focus) { line.focus({ preventScroll: true }); line.scrollIntoView({ block: "nearest" }); }
  if (note) { inAddress = galaxy.id; noteAddress(); }
  detail.replaceChildren(...panelsOf(galaxy));
}

function panelsOf(galaxy) {
  const steps = html("div", { class: "steps" });
  for (const [words, way] of [["\u25b2 previous", -1], ["next \u25bc", 1]]) {
    const button = html("button", { class: "chip", type: "button" }, words);
    button.addEventListener("click", () => step(way, { focus: false }));
    steps.append(button);
  }
  const facts = [galaxy.ra === null || galaxy.dec === null ? null : `RA ${galaxy.ra}\u00b0, Dec ${galaxy.dec}\u00b0`,
    galaxy.given_z === null ? "no redshift given: inferred" : `redshift given: ${shown(galaxy.given_z, 5)}`,
    galaxy.chi2 === null ? null : `\u03c7\u00b2 of the best draw ${shown(galaxy.chi2)} in ${galaxy.n_bands ?? galaxy.flux.filter((f) => f !== null).length} bands`,
    `flags: ${galaxy.flags.join(", ") || "none"}`, galaxy.worst_band ? `worst band: ${galaxy.worst_band}` : null,
    galaxy.ess ? `${galaxy.certified ? "certified" : "not certified"}, route ${galaxy.route}, ${shown(galaxy.ess)} effective draws` : null,
    (galaxy.p_star ?? null) === null ? null : `probability of a star ${shown(galaxy.p_star)}, of a quasar ${shown(galaxy.p_qso)}`];
  const sky = skyLinks(galaxy);
  const heading = [steps, html("h3", {}, `${galaxy.name} `, html("span", { class: "tag" }, galaxy.why)),
    html("div", { class: "note" }, facts.filter(Boolean).join("; "), ...(sky.length ? ["; sky: ", ...sky] : []))];
  if (!galaxy.q) {
    return [...heading, html("p", {}, `This galaxy has no posterior: its status is "${galaxy.status}".`),
      html("div", { class: "panels" }, html("figure", {}, sedFigure(data, galaxy)))];
  }
  return [...heading,
    html("div", { class: "panels" },
      html("div", {}, html("figure", {}, sedFigure(data, galaxy)), ...(galaxy.sfh ? [html("figure", {}, sfhFigure(data, galaxy))] : [])),
      html("figure", {}, cornerFigure(data, galaxy))), quantilesOf(galaxy)];
}

/** The 16th, 50th and 84th percentiles: what is derived at once, the model's parameters where they are asked for. */
function quantilesOf(galaxy) {
  const rows = data.quantities.map(({ name, unit, meaning }, i) => html("tr", { title: meaning },
    html("td", {}, name, ...((galaxy.stays_prior ?? []).includes(name) ? [" ", html("small", {}, "prior")] : [])),
    ...galaxy.q[i].map((value) => html("td", { class: "n" }, fixed(value, name === "redshift" ? 4 : 2))), html("td", {}, unit)));
  const table = (part) => html("table", {}, html("thead", {}, html("tr", {}, ...["quantity", "p16", "p50", "p84", "unit"]
    .map((name) => html("th", { class: /^p\d/.test(name) ? "n" : "" }, name)))), html("tbody", {}, ...part));
  const parameters = rows.slice(0, data.n_parameters);
  return html("div", { class: "columns quantiles" }, table(rows.slice(data.n_parameters)),
    html("details", {}, html("summary", { class: "note" }, `The ${parameters.length} parameters of the galaxy model`), table(parameters)));
}

/** To the next row that is shown, or the one before. */
function step(way, options) {
  const seen = order.filter((galaxy) => !lineOf.get(galaxy).hidden);
  const at = seen.indexOf(chosen);
  const next = seen[Math.max(0, Math.min(seen.length - 1, at < 0 ? 0 : at + way))];
  if (next) choose(next, options);
}

document.documentElement.classList.add("scripted");
document.querySelector("details.still")?.removeAttribute("open");
galaxies.forEach((galaxy) => {
  const line = lineOf.get(galaxy);
  line.tabIndex = -1;
  line.addEventListener("click", () => choose(galaxy));
});
body.addEventListener("keydown", (event) => {
  const ways = { ArrowDown: 1, ArrowUp: -1, Home: -galaxies.length, End: galaxies.length, PageDown: 10, PageUp: -10 };
  if (!(event.key in ways)) return;
  event.preventDefault();
  step(ways[event.key], { focus: true });
});
document.querySelectorAll("#galaxies th[data-key]").forEach((heading) => {
  const button = html("button", { type: "button" }, ...heading.childNodes);
  heading.replaceChildren(button);
  button.addEventListener("click", () => sortBy(heading));
});
document.querySelectorAll(".chip[data-term]").forEach((chip) => chip.addEventListener("click", () => toggleTerm(chip.dataset.term)));
document.getElementById("clear").addEventListener("click", () => { filter.value = ""; applyFilter(); });
filter.addEventListener("input", applyFilter);

/** Show what the address names: its filter, and its galaxy, or else the first that passes. */
function followAddress() {
  const named = readAddress(location.hash);
  following = true;
  inAddress = named.galaxy;
  filter.value = named.where;
  applyFilter();
  const passing = order.filter((galaxy) => !lineOf.get(galaxy).hidden);
  choose(galaxies.find((galaxy) => galaxy.id === named.galaxy) ?? passing[0] ?? galaxies[0], { note: false });
  following = false;
}
window.addEventListener("hashchange", () => { if (/^#(where|galaxy)=/.test(location.hash)) followAddress(); });
followAddress();
