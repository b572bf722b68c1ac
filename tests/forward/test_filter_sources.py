"""Filters by name and by file: speclite, sedpy, the SVO's tables, and errors that name what is near."""

import numpy as np
import pytest
from astropy import units
from astropy.table import Table

from popcat.errors import PopcatError
from popcat.forward.filters import load_curve, read_filter, sedpy_filters, speclite_filters
from popcat.survey import Band

WAVE = np.linspace(5000.0, 6000.0, 11)
RESPONSE = 1.0 - ((WAVE - 5500.0) / 600.0) ** 2
SVO = """<?xml version="1.0"?>
<VOTABLE version="1.1" xmlns="http://www.ivoa.net/xml/VOTable/v1.1">
  <INFO name="QUERY_STATUS" value="OK"/>
  <RESOURCE type="results">
    <TABLE utype="photDM:PhotometryFilter.transmissionCurve.spectrum">
      <PARAM name="filterID" value="TEST/test.r" datatype="char" arraysize="*"/>
      <PARAM name="DetectorType" value="{detector}" datatype="char" arraysize="*"/>
      <FIELD name="Wavelength" ucd="em.wl" unit="{unit}" datatype="double"/>
      <FIELD name="Transmission" unit="" datatype="double"/>
      <DATA><TABLEDATA>{rows}</TABLEDATA></DATA>
    </TABLE>
  </RESOURCE>
</VOTABLE>
"""


def band(name):
    return Band(name="x", filter=str(name), flux="f", flux_err="e")


def svo_file(folder, *, detector=1, unit="Angstrom", wave=WAVE, suffix=".xml"):
    rows = "".join(f"<TR><TD>{w}</TD><TD>{r}</TD></TR>" for w, r in zip(wave, RESPONSE, strict=True))
    path = folder / f"filter{suffix}"
    path.write_text(SVO.format(detector=detector, unit=unit, rows=rows))
    return path


def test_both_collections_have_names():
    assert {"sdss2010-r", "twomass-J", "galex-nuv"} <= set(speclite_filters())
    assert {"sdss_u0", "vista_vircam_Y", "galex_FUV", "wise_w1", "jwst_f200w"} <= set(sedpy_filters())


@pytest.mark.parametrize("name", ["sdss2010-r", "sdss_r0"])
def test_a_name_of_either_collection_is_a_filter(name):
    wave, response = read_filter(name)
    assert wave[np.argmax(response)] == pytest.approx(6300, abs=300)


def test_speclites_files_are_read_as_speclite_reads_them():
    import speclite.filters

    for name in speclite_filters():
        wave, response = read_filter(name)
        theirs = speclite.filters.load_filter(name)
        np.testing.assert_array_equal([wave, response], [theirs.wavelength, theirs.response], name)


@pytest.mark.parametrize(("speclite_name", "sedpy_name"), [("twomass-H", "twomass_H"), ("hsc2017-g", "hsc_g"),
                                                           ("panstarrs-i", "panstarrs_i")])  # fmt: skip
def test_the_collections_agree_on_a_filter_that_both_have(speclite_name, sedpy_name):
    one, other = (load_curve(band(name)).effective_wavelength_aa for name in (speclite_name, sedpy_name))
    assert one == pytest.approx(other, rel=2e-3)


def test_every_filter_of_sedpy_below_10_micron_can_be_read():
    for name in sedpy_filters():
        wave, response = read_filter(name)
        assert np.all(np.diff(wave) > 0) and np.all(np.isfinite(response)), name


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sdss_r0").write_text("".join(f"{w} 0.5\n" for w in WAVE))
    np.testing.assert_array_equal(read_filter("sdss_r0")[0], WAVE)


@pytest.mark.parametrize(("name", "near"), [
    ("sdss2010-q", ['"sdss2010-', "speclite", "sedpy"]), ("vista_vircam_k", ['"vista_vircam_Ks"']),
    ("Twomass_j", ['"twomass-J"', '"twomass_J"']), ("no/such/file.txt", ["expected a file or a name"]),
    ("%%%", ["none like it"])])  # fmt: skip
def test_an_unknown_filter_is_refused_with_the_closest_names_of_both(name, near):
    with pytest.raises(PopcatError, match="unknown filter") as caught:
        load_curve(band(name))
    assert all(word in str(caught.value) for word in near)
    assert len(str(caught.value)) < 400


def test_a_missing_package_is_said(monkeypatch):

    sedpy_filters.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PopcatError, match="the package sedpy, which holds filter curves, is not installed"):
        sedpy_filters()


def test_the_text_file_of_the_svo_is_a_filter(tmp_path):
    path = tmp_path / "TEST_test.r.dat"
    path.write_text("".join(f"{w:.3f}  {r:.6f}\n" for w, r in zip(WAVE, RESPONSE, strict=True)))
    wave, response = read_filter(str(path))
    np.testing.assert_allclose(wave, WAVE)
    np.testing.assert_allclose(response, RESPONSE, atol=1e-6)


@pytest.mark.parametrize("suffix", [".xml", ".vot", ".votable", ".XML"])
def test_the_votable_of_the_svo_is_a_filter(tmp_path, suffix):
    wave, response = read_filter(str(svo_file(tmp_path, suffix=suffix)))
    np.testing.assert_allclose(wave, WAVE)
    np.testing.assert_allclose(response, RESPONSE)


def test_wavelengths_of_a_votable_have_units(tmp_path):
    np.testing.assert_allclose(read_filter(str(svo_file(tmp_path, unit="nm", wave=WAVE / 10.0)))[0], WAVE)


def test_a_response_to_energy_becomes_one_to_photons(tmp_path):
    """int T f_lambda dw of energy counters is int (T / w) w f_lambda dw of photon counters."""
    wave, response = read_filter(str(svo_file(tmp_path, detector=0)))
    np.testing.assert_allclose(response * wave, RESPONSE)


def test_an_ecsv_table_with_units_is_a_filter(tmp_path):
    path = tmp_path / "filter.ecsv"
    Table({"wavelength": (WAVE / 1e4) * units.um, "response": RESPONSE}).write(path, format="ascii.ecsv")
    np.testing.assert_allclose(read_filter(str(path))[0], WAVE)


@pytest.mark.parametrize(("name", "text"), [
    ("a.xml", "no xml"), ("a.vot", "<VOTABLE></VOTABLE>"), ("a.ecsv", "1 2 3\n"), ("a.ecsv", ""),
    ("seconds.xml", SVO.format(detector=1, unit="s", rows="<TR><TD>1</TD><TD>1</TD></TR>"))])  # fmt: skip
def test_a_table_that_is_no_filter_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(PopcatError, match=rf"filter file .*{name}: expected a table of wavelength and response"):
        read_filter(str(tmp_path / name))


@pytest.mark.parametrize("text", ["5000\n6000\n7000\n", "a b\nc d\n"])
def test_a_text_file_that_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(PopcatError, match="expected two columns"):
        read_filter(str(tmp_path / "bad.txt"))
