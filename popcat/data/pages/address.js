"use strict";
// What the page's address says after "#": the filter, where=..., and the chosen galaxy, galaxy=....

/** The filter and the galaxy that an address names; the filter may be typed as it is, or encoded. */
function readAddress(hash) {
  const text = hash.replace(/^#/, "");
  const galaxy = text.match(/(?:^|&)galaxy=(-?\d+)$/);
  const where = (galaxy ? text.slice(0, galaxy.index) : text).match(/^where=(.*)$/s);
  return { where: where ? decoded(where[1]).trim() : "", galaxy: galaxy ? galaxy[1] : null };
}

/** The address of a filter and a galaxy; "#" alone for neither. */
function addressOf({ where, galaxy }) {
  const parts = [...(where ? [`where=${encodeURIComponent(where)}`] : []), ...(galaxy === null ? [] : [`galaxy=${galaxy}`])];
  return `#${parts.join("&")}`;
}

/** A text whose codes such as %20 are read; a percent sign that begins none stays, as in "n % 4". */
function decoded(text) {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (codes) => {
    try { return decodeURIComponent(codes); } catch { return codes; }
  });
}

/** Links to pictures of the sky at the position of a galaxy; none without a position. */
function skyLinks({ ra, dec }) {
  if (ra === null || dec === null) return [];
  const [x, y] = [ra.toFixed(5), dec.toFixed(5)];
  const link = (words, href) => html("a", { href, target: "_blank", rel: "noopener noreferrer" }, words);
  return [link("Legacy Surveys", `https://www.legacysurvey.org/viewer?ra=${x}&dec=${y}&layer=ls-dr10&zoom=16&mark=${x},${y}`), ", ",
    link("Aladin", `https://aladin.cds.unistra.fr/AladinLite/?target=${x}%20${encodeURIComponent((dec < 0 ? "" : "+") + y)}&fov=0.03`)];
}
