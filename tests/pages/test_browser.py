"""The page in a real browser, headless: what a reader can do with it, by mouse and by keys, and without scripts."""

import json
from urllib.parse import quote, unquote

import pytest
from browser import needs_chromium

import popcat
from popcat.galaxies import CHECK_FLAGS, FLAGS

pytestmark = needs_chromium
FLAGGED = FLAGS["negative_flux"]


@pytest.fixture
def tab(chromium, page_file):
    chromium.open(page_file.as_uri())
    return chromium


@pytest.fixture(scope="module")
def rows(catalogue, page):
    """The rows of the catalogue that are in the page's table, by object_id as text."""
    start = page.index('id="galaxies-data">') + len('id="galaxies-data">')
    shown = json.loads(page[start:page.index("</script>", start)])["galaxies"]
    by_id = {str(row["object_id"]): row for row in catalogue[1].to_pylist()}
    return {record["id"]: by_id[record["id"]] for record in shown}


def visible(tab):
    """Identifiers of the rows that are shown, in their order."""
    shown = "[...document.querySelectorAll('#galaxies tbody tr')].filter(r => !r.hidden)"
    return tab.js(f"{shown}.map(r => r.cells[0].textContent)")


def rounded(value):
    """As the page holds it."""
    return float(f"{value:.5g}")


def chosen(tab):
    return tab.js("document.querySelector('#detail h3').firstChild.textContent.trim()")


def test_the_page_opens_without_a_word_to_the_network_and_draws_a_galaxy(tab, rows):
    assert tab.complaints() == ([], [])
    assert visible(tab) == list(rows)
    assert chosen(tab) == next(iter(rows))
    drawn = tab.js("['.spectrum', '.observed', '.draws'].map(s => document.querySelectorAll('#detail ' + s).length)")
    assert drawn == [4, 5, 10], "four spectra, five bands, ten pairs of quantities"
    assert tab.js("[...document.querySelectorAll('#detail svg *')].some(e => /NaN/.test(e.outerHTML))") is False
    assert len(tab.screenshot()) > 50_000


def test_a_column_sorts_both_ways_and_what_has_no_value_comes_last(tab, rows):
    tab.click('th[data-key="log_mstar"] button')
    rising = visible(tab)
    with_value = [item for item in rising if rows[item]["status"] == "ok"]
    masses = [rounded(rows[item]["log_mstar_p50"]) for item in with_value]
    assert masses == sorted(masses) and rising[: len(with_value)] == with_value and len(with_value) < len(rising)
    tab.click('th[data-key="log_mstar"] button')
    falling = visible(tab)
    masses = [rounded(rows[item]["log_mstar_p50"]) for item in falling[: len(with_value)]]
    assert masses == sorted(masses, reverse=True) and rows[falling[-1]]["status"] != "ok"
    assert tab.js("document.querySelector('th[data-key=log_mstar]').getAttribute('aria-sort')") == "descending"


def test_identifiers_of_nineteen_digits_keep_all_of_them(tab, rows):
    tab.click('th[data-key="object_id"] button')
    assert [int(item) for item in visible(tab)] == sorted(map(int, rows))


FILTERS = {
    popcat.CLEAN: lambda row: row["status"] == "ok" and not row["flags"] & CHECK_FLAGS,
    "log_mstar > 10.5 and redshift_p50<0.12 and flags & 64 == 0": lambda row: (
        row["status"] == "ok" and row["log_mstar_p50"] > 10.5 and row["redshift_p50"] < 0.12
        and not row["flags"] & FLAGGED),
    "log_sfr_1gyr - log_mstar_p50 < -11 or not status == 'ok'": lambda row: (
        row["status"] == "ok" and row["log_sfr_1gyr_p50"] - row["log_mstar_p50"] < -11),
    "8 <= age_mw_gyr_p84 < 10": lambda row: row["status"] == "ok" and 8 <= row["age_mw_gyr_p84"] < 10,
    "flux_r / flux_err_r > 40": lambda row: row["flux_r"] / row["flux_err_r"] > 40,
    "why == 'random sample' and certified == False and isfinite(chi2_best)": None,
}  # fmt: skip


@pytest.mark.parametrize("text", FILTERS)
def test_the_filter_means_what_the_same_condition_means_of_the_catalogue(tab, rows, text):
    tab.type("#filter", text)
    passing = set(visible(tab))
    if FILTERS[text] is not None:
        assert passing == {item for item, row in rows.items() if FILTERS[text](row)}
    assert 0 < len(passing) < len(rows)
    assert tab.js("document.getElementById('count').textContent").startswith(f"{len(passing)} of the {len(rows)}")


def test_the_filter_takes_every_heading_and_the_condition_that_the_page_prints(tab, rows):
    headings = tab.js("[...document.querySelectorAll('#galaxies th')].map(h => h.textContent.trim())")
    assert {"object_id", "redshift_p50", "log_mstar", "chi2_best", "flags", "why"} <= set(headings)
    for heading in headings:
        tab.type("#filter", f"{heading} == {heading}")
        assert tab.js("document.getElementById('filter').getAttribute('aria-invalid')") == "false", heading
    printed = tab.js("[...document.querySelectorAll('.trust code')].map(c => c.textContent)")
    assert popcat.CLEAN in printed


def test_an_identifier_is_found_by_its_start_and_by_all_of_its_digits(tab, rows):
    item = list(rows)[3]
    tab.type("#filter", item[:-2])
    assert set(visible(tab)) == {one for one in rows if one.startswith(item[:-2])}
    tab.type("#filter", f"object_id == {item}")
    assert visible(tab) == [item]


@pytest.mark.parametrize(
    ("text", "answer"),
    [("log_mass>10", 'no column "log_mass"'), ("log_mstar", "expected a condition"), ("log_mstar =", 'write "=="'),
     ("log_mstar >", "expected a column or a number at the end"), ("-high_chi2", 'no column "high_chi2"'),
     ("status > 3", "text is compared with numbers"), ("alert(1)", 'unknown function "alert"')],
)  # fmt: skip
def test_a_filter_that_cannot_be_meant_is_answered_in_words_and_hides_nothing(tab, rows, text, answer):
    tab.type("#filter", text)
    assert answer in tab.js("document.getElementById('count').textContent")
    assert tab.js("document.getElementById('filter').getAttribute('aria-invalid')") == "true"
    assert len(visible(tab)) == len(rows)


def test_a_button_filters_and_again_lifts_the_filter(tab, rows):
    button = f'.chip[data-term="flags & {FLAGGED} != 0"]'
    tab.click(button)
    assert set(visible(tab)) == {item for item, row in rows.items() if row["flags"] & FLAGGED}
    assert tab.js(f"document.querySelector('{button}').getAttribute('aria-pressed')") == "true"
    tab.click(button)
    assert len(visible(tab)) == len(rows)


def test_a_button_joins_its_condition_to_what_was_typed(tab, rows):
    tab.type("#filter", "log_mstar > 11 or log_mstar < 10")
    tab.click(f'.chip[data-term="{popcat.CLEAN}"]')
    typed = "(log_mstar > 11 or log_mstar < 10)"
    assert tab.js("document.getElementById('filter').value") == f"{typed} and {popcat.CLEAN}"
    tab.click(f'.chip[data-term="{popcat.CLEAN}"]')
    assert tab.js("document.getElementById('filter').value") == typed


def test_no_other_script_than_the_pages_own_can_run(tab):
    tab.js("""const script = document.createElement('script');
        script.textContent = 'window.foreign = 1';
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img id="odd" onerror="window.foreign = 2">');
        document.getElementById('odd').dispatchEvent(new Event('error'));""")
    assert tab.js("window.foreign === undefined")


def test_a_click_draws_that_galaxy_with_its_own_fluxes(tab, rows):
    item = [one for one, row in rows.items() if row["status"] == "ok"][7]
    tab.click(f'#galaxies tbody tr:nth-child({list(rows).index(item) + 1}) td')
    assert chosen(tab) == item
    assert tab.js("location.hash") == f"#galaxy={item}"
    words = tab.js("document.querySelector('#detail svg').getAttribute('aria-label')")
    assert f"r {rows[item]['flux_r']:.3g}".replace("-", "\u2212") in words
    assert f"log_mstar: {rows[item]['log_mstar_p50']:.4g}" in tab.js(
        "document.querySelectorAll('#detail svg')[2].getAttribute('aria-label')")  # fmt: skip


def test_the_arrow_keys_walk_through_the_table(tab, rows):
    order = list(rows)
    tab.js("document.querySelector('#galaxies tbody tr').focus()")
    tab.key("ArrowDown", 40)
    tab.key("ArrowDown", 40)
    assert chosen(tab) == order[2]
    tab.key("ArrowUp", 38)
    assert chosen(tab) == order[1]
    tab.key("End", 35)
    assert chosen(tab) == order[-1]
    assert tab.js("document.activeElement.cells[0].textContent") == order[-1]


def test_an_address_may_name_a_galaxy(chromium, page_file, rows):
    item = list(rows)[20]
    chromium.open(f"{page_file.as_uri()}#galaxy={item}")
    assert chosen(chromium) == item


def test_a_galaxy_without_a_posterior_says_why_there_is_none(chromium, page_file, rows):
    item = next(one for one, row in rows.items() if row["status"] == "no_photometry")
    chromium.open(f"{page_file.as_uri()}#galaxy={item}")
    assert 'its status is "no_photometry"' in chromium.js("document.getElementById('detail').textContent")


def test_without_scripts_the_table_and_the_still_figures_are_there(chromium, page_file, rows):
    chromium.open(page_file.as_uri(), scripts=False)
    assert len(visible(chromium)) == len(rows)
    assert chromium.js("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert chromium.js("document.querySelector('details.still').open")
    assert chromium.js("document.querySelectorAll('.still img').length") == 9
    chromium("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("typed", ["flags & 64 == 0 and log_mstar > 10.5", "log_sfr_1gyr + 10 * 1 > log_mstar % 100"])
def test_the_address_holds_the_filter_and_opens_it_again(chromium, tab, page_file, rows, typed):
    tab.type("#filter", typed)
    passing = visible(tab)
    address = tab.js("location.hash")
    assert unquote(address) == f"#where={typed}" and 0 < len(passing) < len(rows)
    for text in (address, "#where=" + quote(typed, safe=" &=%+*<>")):  # as the page writes it, and as people do
        chromium.open(page_file.as_uri() + text)
        assert chromium.js("document.getElementById('filter').value") == typed
        assert visible(chromium) == passing and chosen(chromium) == passing[0]
        assert chromium.js("location.hash") == chromium.js("new URL(location.href).hash")


def test_the_address_holds_the_filter_and_the_galaxy(chromium, tab, page_file, rows):
    tab.type("#filter", "status == 'ok'")
    tab.js("document.querySelector('#galaxies tbody tr:not([hidden])').focus()")
    tab.key("ArrowDown", 40)
    item, address = chosen(tab), tab.js("location.hash")
    assert address.endswith(f"&galaxy={item}") and address.startswith("#where=status")
    chromium.open(page_file.as_uri() + address)
    assert chosen(chromium) == item and len(visible(chromium)) < len(rows)
    tab.click("#clear")
    assert tab.js("location.hash") == f"#galaxy={item}"
    tab.js(f"location.hash = '#where=object_id == {item}'")
    tab.js("window.dispatchEvent(new Event('hashchange'))")
    assert visible(tab) == [item]


def test_a_galaxy_has_its_history_and_links_to_the_sky(chromium, page_file, rows):
    item = next(one for one, row in rows.items() if row["status"] == "ok" and row["dec"] < 0)
    chromium.open(f"{page_file.as_uri()}#galaxy={item}")
    history = chromium.js("document.querySelector('#detail .sfh').closest('svg').getAttribute('aria-label')")
    assert history.startswith("Star-formation rate against lookback time, median: ")
    links = chromium.js("[...document.querySelectorAll('#detail .note a')].map(a => a.href)")
    ra, dec = (f"{rows[item][name]:.5f}" for name in ("ra", "dec"))
    assert [link.split("?")[0] for link in links] == ["https://www.legacysurvey.org/viewer",
                                                     "https://aladin.cds.unistra.fr/AladinLite/"]  # fmt: skip
    assert f"ra={ra}&dec={dec}&" in links[0] and f"target={ra}%20{dec}&" in links[1]


def test_the_navigation_stays_in_sight(tab):
    tab.js("window.scrollTo({top: 3000, behavior: 'instant'})")
    assert tab.js("document.querySelector('nav').getBoundingClientRect().top") == 0
    tab.js("document.documentElement.style.scrollBehavior = 'auto'; location.hash = '#flags'")
    below = tab.js("document.querySelector('nav').getBoundingClientRect().bottom")
    assert below <= tab.js("document.getElementById('flags').getBoundingClientRect().top") < below + 100
