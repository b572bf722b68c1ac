"use strict";
// The table: sort by a column, filter by conditions, choose a galaxy to draw. Without this script it is a plain table.

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

/** A galaxy's value by name: a quantity's median, or a column. */
function valueOf(galaxy, name) {
  const at = quantities.indexOf(name);
  return at < 0 ? galaxy[name] : galaxy.q ? galaxy.q[at][1] : null;
}

/** Words that a galaxy answers to, beside the start of its id. */
const wordsOf = (galaxy) => [...galaxy.flags, galaxy.status, galaxy.route, galaxy.care ? "care" : "clean",
  galaxy.certified ? "certified" : "uncertified", galaxy.sample ? "sample" : "picked"];
const WORDS = new Set([...Object.keys(data.flags), ...galaxies.flatMap(wordsOf)]);
const NAMES = [...quantities, "id", "chi2", "n_bands", "worst_band", "status", "route", "ess", "ra", "dec"];
const COMPARE = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

/** One term of the filter as a test of a galaxy; throws what is wrong with it, in words. */
function test(term) {
  const inverted = /^-[A-Za-z]/.test(term);
  const plain = inverted ? term.slice(1) : term;
  const parts = plain.match(/^([A-Za-z_]\w*)(<=|>=|!=|=|<|>)(.+)$/);
  let accepts;
  if (parts) {
    const [, name, sign, text] = parts;
    if (!NAMES.includes(name)) throw new Error(`no column "${name}"; there are ${NAMES.join(", ")}`);
    const number = Number(text);
    accepts = (galaxy) => {
      const value = valueOf(galaxy, name);
      if (value === null || value === undefined) return false;
      return typeof value === "number" ? COMPARE[sign](value, number) : COMPARE[sign](value, text);
    };
  } else if (/^\d+$/.test(plain)) {
    accepts = (galaxy) => galaxy.id.startsWith(plain);
  } else {
    if (!WORDS.has(plain)) throw new Error(`nothing is called "${plain}"; words: ${[...WORDS].filter(Boolean).join(", ")}`);
    accepts = (galaxy) => wordsOf(galaxy).includes(plain);
  }
  return inverted ? (galaxy) => !accepts(galaxy) : accepts;
}

/** Show the rows that pass every term of the filter, and say how many. */
function applyFilter() {
  const terms = filter.value.trim().replace(/\s*(<=|>=|!=|=|<|>)\s*/g, "$1").split(/[\s,]+/).filter(Boolean);
  let tests = [];
  filter.setAttribute("aria-invalid", "false");
  try {
    tests = terms.map(test);
    const passing = galaxies.filter((galaxy) => tests.every((accepts) => accepts(galaxy)));
    const kept = new Set(passing);
    galaxies.forEach((galaxy) => { lineOf.get(galaxy).hidden = !kept.has(galaxy); });
    count.textContent = `${kept.size} of the ${galaxies.length} galaxies in this table` + (terms.length ? " pass" : "");
  } catch (error) {
    filter.setAttribute("aria-invalid", "true");
    count.textContent = error.message;
  }
  document.querySelectorAll(".chip[data-term]").forEach((chip) => {
    chip.setAttribute("aria-pressed", String(terms.includes(chip.dataset.term)));
  });
}

/** Put a term into the filter, or take it out. */
function toggleTerm(term) {
  const terms = filter.value.split(/\s+/).filter(Boolean);
  filter.value = (terms.includes(term) ? terms.filter((other) => other !== term) : [...terms, term]).join(" ");
  applyFilter();
}

/** Identifiers are longer than numbers can be. */
const before = (a, b) => (typeof a === "string" && /^-?\d+$/.test(a) && a.length !== b.length ? a.length - b.length
  : a < b ? -1 : a > b ? 1 : 0);

/** Order the rows by a column; what has no value comes last. */
function sortBy(heading) {
  const rising = heading.getAttribute("aria-sort") !== "ascending";
  document.querySelectorAll("#galaxies th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const keyOf = (galaxy) => {
    const value = valueOf(galaxy, heading.dataset.key);
    return Array.isArray(value) ? value.join(" ") || null : value;
  };
  order.sort((one, other) => {
    const [a, b] = [keyOf(one), keyOf(other)];
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    return (rising ? 1 : -1) * before(a, b);
  });
  body.append(...order.map((galaxy) => lineOf.get(galaxy)));
}

/** Draw one galaxy, mark its row, and note it in the address. */
function choose(galaxy, { focus = false, note = true } = {}) {
  if (chosen) { lineOf.get(chosen).removeAttribute("aria-selected"); lineOf.get(chosen).tabIndex = -1; }
  chosen = galaxy;
  const line = lineOf.get(galaxy);
  line.setAttribute("aria-selected", "true");
  line.tabIndex = 0;
  if (focus) { line.focus({ preventScroll: true }); line.scrollIntoView({ block: "nearest" }); }
  if (note) history.replaceState(null, "", `#galaxy=${galaxy.id}`);
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
    galaxy.ess ? `${galaxy.certified ? "certified" : "not certified"}, route ${galaxy.route}, ${shown(galaxy.ess)} effective draws` : null];
  const heading = [steps, html("h3", {}, `${galaxy.id} `, html("span", { class: "tag" }, galaxy.why)),
    html("div", { class: "note" }, facts.filter(Boolean).join("; "))];
  if (!galaxy.q) {
    return [...heading, html("p", {}, `This galaxy has no posterior: its status is "${galaxy.status}".`),
      html("div", { class: "panels" }, html("figure", {}, sedFigure(data, galaxy)))];
  }
  return [...heading,
    html("div", { class: "panels" },
      html("div", {}, html("figure", {}, sedFigure(data, galaxy)), quantilesOf(galaxy)),
      html("figure", {}, cornerFigure(data, galaxy)))];
}

/** The 16th, 50th and 84th percentiles: what is derived at once, the model's parameters where they are asked for. */
function quantilesOf(galaxy) {
  const rows = data.quantities.map(({ name, unit, meaning }, i) => html("tr", { title: meaning }, html("td", {}, name),
    ...galaxy.q[i].map((value) => html("td", { class: "n" }, fixed(value, name === "redshift" ? 4 : 2))), html("td", {}, unit)));
  const table = (part) => html("table", {}, html("thead", {}, html("tr", {}, ...["quantity", "p16", "p50", "p84", "unit"]
    .map((name) => html("th", { class: /^p\d/.test(name) ? "n" : "" }, name)))), html("tbody", {}, ...part));
  const parameters = rows.slice(0, data.n_parameters);
  return html("div", { class: "quantiles" }, table(rows.slice(data.n_parameters)),
    html("details", {}, html("summary", { class: "note" }, `The ${parameters.length} parameters of the model`), table(parameters)));
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
applyFilter();
const named = decodeURIComponent(location.hash).match(/^#galaxy=(-?\d+)$/);
choose(galaxies.find((galaxy) => named && galaxy.id === named[1]) ?? galaxies[0], { focus: false, note: false });
