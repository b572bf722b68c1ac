"""The page: counts that agree with the catalogue, one self-contained file, errors that say what to do."""

import html
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import popcat
from popcat.catalog.queries import open_catalog
from popcat.columns import PERCENTILES, posterior_schema
from popcat.errors import PopcatError
from popcat.galaxies import FLAG_MEANING, FLAGS, NOT_CLEAN, STATUS
from popcat.pages import diagnostics
from popcat.pages.diagnostics import STATUS_MEANING
from popcat.survey import load_survey

SURVEY = load_survey("sdss")


def text_of(page):
    """The page's visible text, one space between words."""
    body = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_status_counts_equal_the_data(page, catalogue):
    counts = {row["values"]: row["counts"] for row in catalogue[1]["status"].value_counts().to_pylist()}
    assert counts == {"ok": 488, "no_photometry": 7, "redshift_out_of_range": 5}
    for name in STATUS:
        assert f" {name} {counts.get(name, 0)} {STATUS_MEANING[name]}" in text_of(page)


def test_flag_counts_equal_the_data(page, catalogue):
    flags = catalogue[1]["flags"].to_numpy()
    assert (flags & FLAGS["negative_flux"]).any(), "the toy catalogue lost its negative fluxes"
    for name, bit in FLAGS.items():
        assert f" {bit} {name} {np.count_nonzero(flags & bit)} {FLAG_MEANING[name]}" in text_of(page)


SVG = "http://www.w3.org/2000/svg"
VIEWERS = ("https://www.legacysurvey.org/viewer?", "https://aladin.cds.unistra.fr/AladinLite/?")


def test_page_needs_no_other_file(page):
    shown = re.sub(r"<script\b.*?</script>", "", page, flags=re.S)
    links = re.findall(r"""(?:src|href|srcset|data)\s*=\s*["']?([^"'\s>]+)""", shown)
    assert links and all(link.startswith(("data:image/png;base64,", "#", *VIEWERS)) for link in links)
    # The name of SVG's elements is no address that anything is fetched from; links to the sky are for the reader.
    rest = page.replace(SVG, "")
    for viewer in VIEWERS:
        link = rf'<a href="{re.escape(viewer)}[^"]*" target="_blank" rel="noopener noreferrer"'
        assert len(re.findall(link, rest)) == 3
        rest = rest.replace(viewer, "")
    assert not re.search(r"https?://|@import|url\((?!#)|<script[^>]*src|<link", rest)
    assert "default-src 'none'" in page


def test_links_to_the_sky_are_at_the_galaxies_positions(page, catalogue):
    rows = {row["object_id"]: row for row in catalogue[1].to_pylist()}
    found = re.findall(r'id="galaxy-(\d+)".*?viewer\?ra=([\d.-]+)&amp;dec=([\d.-]+)&.*?target=([\d.]+)%20(\S+?)&',
                       page, re.S)  # fmt: skip
    assert len(found) == 3
    for item, *numbers in found:
        ra, dec, other_ra, other_dec = (float(number.replace("%2B", "+")) for number in numbers)
        assert (ra, dec) == (other_ra, other_dec)
        assert (ra, dec) == pytest.approx((rows[int(item)]["ra"], rows[int(item)]["dec"]), abs=1e-5)


def test_every_figure_says_in_words_with_numbers_what_is_seen(page):
    words = [html.unescape(text) for text in re.findall(r'<img alt="([^"]*)"', page)]
    assert len(words) == page.count("<img ") == 17
    assert len(set(words)) == len(words)
    for text in words:
        assert len(text) > 60 and re.search(r"\d", text), text
    (sequence,) = [text for text in words if "line of quiescence" in text]
    assert re.search(r"are \d+% of the 488 medians, left, and \d+% of the stacked posteriors, right", sequence)


def test_the_page_is_of_a_size_that_a_mail_can_carry(page):
    assert len(page) < 3_000_000


def test_star_formation_histories_are_those_of_the_draws(page, catalogue):
    data = json.loads(page.split('id="galaxies-data">')[1].split("</script>")[0])
    one = next(one for one in data["galaxies"] if one["draws"])
    row = next(row for row in catalogue[1].to_pylist() if str(row["object_id"]) == one["id"])
    formed = 10.0 ** np.array(row["log_mstar_formed_draws"])
    middle = np.array(one["sfh"][1])
    widths = np.diff(data["lookback"])
    # of the toy's histories, which all have one shape
    assert (middle * widths).sum() * 1e9 == pytest.approx(np.median(formed), rel=0.01)
    assert (np.array(one["sfh"][0]) <= middle).all() and (middle <= np.array(one["sfh"][2])).all()


def test_three_different_galaxies_are_shown_with_their_tables(page, catalogue):
    shown = [int(item) for item in re.findall(r'<section class="card" id="galaxy-(\d+)"', page)]
    assert len(set(shown)) == len(shown) == 3
    rows = {row["object_id"]: row for row in catalogue[1].to_pylist()}
    for item in shown:
        low, middle, high = (rows[item][f"log_mstar_p{q}"] for q in PERCENTILES)
        assert f"log_mstar {low:.2f} {middle:.2f} {high:.2f} log10(Msun)" in text_of(page)


def test_provenance_and_calibration_badges_appear(page):
    text = text_of(page)
    assert "posterior.location sdss" in text and "seed 42" in text and "parts 2 entries" in text
    assert "Trained posterior sdss, 50 draws per galaxy" in text
    assert "log_mstar 0.020 0.036 68.0% pass" in text and "abs_mag_g 0.080 0.036 79.0% warn" in text
    assert "22 of 23 columns pass" in text and "derived columns that failed: abs_mag_g" in text


def test_every_status_and_flag_has_a_meaning():
    assert tuple(STATUS_MEANING) == STATUS
    assert set(FLAGS) == set(FLAG_MEANING)


def test_named_galaxies_are_shown_in_the_order_asked(build, catalogue, tmp_path):
    wanted = [row["object_id"] for row in catalogue[1].to_pylist() if row["status"] == "ok"][5:7][::-1]
    page = build(catalogue[0], tmp_path / "new" / "r.html", galaxies=wanted).read_text(encoding="utf-8")
    assert re.findall(r'id="galaxy-(\d+)"', page) == [str(item) for item in wanted]
    assert "Calibration</h2>" not in page


def test_counts_cover_every_row_when_the_panels_show_some(catalogue, monkeypatch):
    whole = diagnostics.read_counts(open_catalog(catalogue[0]))
    monkeypatch.setattr(diagnostics, "FIGURE_ROWS", 100)
    thinned = diagnostics.read_counts(open_catalog(catalogue[0]))
    assert (thinned.rows, thinned.status, thinned.flags) == (whole.rows, whole.status, whole.flags)
    assert list(thinned.frame["object_id"]) == list(whole.frame["object_id"][::5])


def test_the_clean_sample_is_what_the_page_counts_as_passing_every_check(catalogue):
    catalog = open_catalog(catalogue[0])
    counts = diagnostics.read_counts(catalog)
    clean = catalog.to_pandas(["flags"], where=popcat.CLEAN)
    assert len(clean) == counts.status["ok"] - counts.failed > 0
    assert not any(FLAGS[name] & flags for name in NOT_CLEAN for flags in clean["flags"])


def test_an_absent_galaxy_is_named(build, catalogue, tmp_path):
    with pytest.raises(PopcatError, match="object_id 77 "):
        build(catalogue[0], tmp_path / "r.html", galaxies=[77])
    assert not list(tmp_path.iterdir())


def test_a_galaxy_without_a_posterior_is_refused_with_its_status(build, catalogue, tmp_path):
    failed = catalogue[1]["object_id"][0].as_py()
    with pytest.raises(PopcatError, match=f'galaxy {failed} .*"no_photometry"'):
        build(catalogue[0], tmp_path / "r.html", galaxies=[failed])


def test_a_folder_without_parts_is_refused(build, tmp_path):
    with pytest.raises(PopcatError, match=r"no catalogue .*: expected what `popcat infer -o` wrote"):
        build(tmp_path / "nowhere", tmp_path / "r.html")


def test_other_parquet_is_refused_by_the_columns_it_lacks(build, tmp_path):
    pq.write_table(pa.table({"object_id": [1]}), tmp_path / "part-000000.parquet")
    with pytest.raises(PopcatError, match="survey sdss: it lacks ra, dec"):
        build(tmp_path, tmp_path / "r.html")


def test_a_broken_part_is_refused(build, tmp_path):
    (tmp_path / "part-000000.parquet").write_bytes(b"torn")
    with pytest.raises(PopcatError, match="cannot read "):
        build(tmp_path, tmp_path / "r.html")


def test_a_catalogue_without_any_posterior_is_refused_with_the_counts(build, write, tmp_path):
    write(tmp_path, 20, 12, failed=((20, "no_photometry"),))
    with pytest.raises(PopcatError, match=r'no galaxy with status "ok" among 20: 20 no_photometry'):
        build(tmp_path, tmp_path / "r.html")


def test_an_empty_catalogue_is_refused(build, tmp_path):
    pq.write_table(posterior_schema(SURVEY).empty_table(), tmp_path / "part-000000.parquet")
    with pytest.raises(PopcatError, match=r'no galaxy with status "ok" among 0'):
        build(tmp_path, tmp_path / "r.html")
