"""What was learned, on the page: a table, marks, and the prior in grey under each galaxy's posterior."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from popcat import pages
from popcat.catalog.learned import NEAREST, PriorDraws
from popcat.catalog.prior_draws import write_prior
from popcat.columns import quantity_fields
from popcat.galaxies import FLAGS
from popcat.galaxy_model import GalaxyModel
from popcat.pages.diagnostics import Counts, diagnostics
from popcat.survey import load_survey

NODE = shutil.which("node")
SCRIPTS = Path(pages.__file__).parents[1] / "data" / "pages"
LEARNED = {"prior": "physical", "bands": list("ugriz"), "galaxies": 480,
           "quantities": {"log_mstar": {"ratio": 0.1, "nats": 1.8}, "log_ssfr": {"ratio": 0.98, "nats": 0.03},
                          "beta2": {"ratio": 1.01, "nats": 0.0}}}  # fmt: skip


@pytest.fixture(scope="module")
def learned_page(write, build, tmp_path_factory):
    """The page of a catalogue whose draws of beta2 are those of the prior."""
    folder = tmp_path_factory.mktemp("learned") / "catalogue"
    write(folder, 60)
    path = folder / "_popcat" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"learned": LEARNED}))
    random, names = np.random.default_rng(5), quantity_fields(load_survey("sdss"), GalaxyModel())
    values = {name: random.uniform(-14.0, 14.0, 2000) for name in names}
    values |= {"beta2": random.uniform(0.05, 0.9, 2000), "redshift": random.uniform(0.01, 0.6, 2000)}
    write_prior(folder, PriorDraws.of(values))
    return build(folder, folder.parent / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def records(learned_page):
    return json.loads(re.search(r'id="galaxies-data">(.*?)</script>', learned_page, re.DOTALL)[1])


def test_the_page_has_a_table_with_marks(learned_page):
    table = learned_page[learned_page.index('<h2 id="learned">') :]
    rows = dict(re.findall(r"<tr><td>(\w+)</td>(.*?)</tr>", table[: table.index("</table>")], re.DOTALL))
    assert list(rows) == list(LEARNED["quantities"]) and "480 galaxies" in table and "(physical)" in table
    assert "0.10" in rows["log_mstar"] and "1.80" in rows["log_mstar"] and "badge" not in rows["log_mstar"]
    assert all(">prior</span>" in rows[name] for name in ("log_ssfr", "beta2"))
    assert '<a href="#learned">' in learned_page
    headings = learned_page[learned_page.index("<thead>") : learned_page.index("</thead>")]
    assert "log_ssfr <small>prior</small>" in headings and "log_mstar<" in headings


def test_what_to_trust_names_what_stays_the_priors(learned_page):
    trust = learned_page[learned_page.index('<dl class="trust">') : learned_page.index("</dl>")]
    assert "2 of 3 quantities are prior-dominated" in trust
    assert "the prior of log_ssfr, beta2: less than 0.1 nats" in trust
    counts = Counts(None, 1, {"ok": 1}, dict.fromkeys(FLAGS, 0))
    assert not any("prior" in one.title for one in diagnostics(counts, None))


def test_each_galaxy_has_the_draws_of_its_prior_and_its_marks(records):
    assert [len(values) for values in records["prior"]] == [2000] * len(records["corner"])
    drawn = [one for one in records["galaxies"] if one["draws"]]
    z = np.array(records["prior"][records["corner"].index("redshift")])
    for one in drawn:
        start, stop = one["span"]
        assert stop - start >= NEAREST and z[start] - 0.02 <= one["given_z"] <= z[stop - 1] + 0.02
        assert "log_mstar" not in one["stays_prior"] and "redshift" not in one["stays_prior"]
    assert np.mean(["beta2" in one["stays_prior"] for one in drawn]) > 0.7
    assert all("span" not in one for one in records["galaxies"] if not one["draws"])


def test_a_catalogue_that_keeps_no_prior_has_a_page_without_it(page):
    assert "stays_prior" not in page.split('id="galaxies-data">')[1].split("</script>")[0]
    assert '<h2 id="learned">' not in page


STUB = """
const node = (n) => ({ n, a: {}, k: [], setAttribute(key, value) { this.a[key] = value; }, append(...more) { this.k.push(...more); } });
global.document = { createElementNS: (_, n) => node(n), createElement: node };
const all = (one) => typeof one === "string" ? [] : [one, ...one.k.flatMap(all)];
const words = (one) => typeof one === "string" ? one : one.k.map(words).join("");
const data = JSON.parse(require("fs").readFileSync(0, "utf8"));
const galaxy = data.galaxies.find((one) => one.draws);
galaxy.stays_prior = ["log_z_mw"];
const found = [data, { ...data, prior: null }].map((each) => all(cornerFigure(each, galaxy)));
console.log(JSON.stringify({
  filled: found.map((nodes) => nodes.filter((one) => one.a.class === "prior" && one.a.d.includes(".01")).length),
  said: found[0][0].a["aria-label"], titles: found[0].map(words).filter((text) => text.endsWith("(prior)")),
}));
"""  # noqa: E501


@pytest.mark.skipif(NODE is None, reason="no node on the path: apt install nodejs")
def test_the_corner_plot_of_the_browser_has_the_prior_and_marks(records, tmp_path):
    script = tmp_path / "corner.js"
    sources = [(SCRIPTS / f"{name}.js").read_text(encoding="utf-8") for name in ("svg", "corner")]
    script.write_text("\n".join([*sources, STUB]), encoding="utf-8")
    done = subprocess.run([NODE, script], input=json.dumps(records), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["filled"][0] > 0 == found["filled"][1]
    assert "prior-dominated" in found["said"] and "log Z (prior)" in found["titles"]
