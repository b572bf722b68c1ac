"""Names of columns, and the table that says how public catalogues choose them."""

import re

import numpy as np
import pytest

from popcat.forward.filters import load_curve
from popcat.io.band_columns import error_pairs, find_bands, wavelength
from popcat.io.chunks import Field
from popcat.io.conventions import conventions, recognise
from popcat.survey import Filter, load_survey


@pytest.mark.parametrize(("value", "error"), [
    ("HSC_g_FLUX_AUTO", "HSC_g_FLUXERR_AUTO"), ("f_F160W", "e_F160W"), ("f115w_corr_1", "f115w_ecorr_1"),
    ("w1mpro", "w1sigmpro"), ("j_m", "j_cmsig"), ("j_m_k20fe", "j_msig_k20fe"), ("mag_u_lsst", "mag_err_u_lsst"),
    ("sdss.g", "sdss.g_err"), ("F_G", "EF_G"), ("gmag", "e_gmag"), ("FLUX_G", "FLUX_IVAR_G"),
    ("g_cmodel_flux", "g_cmodel_fluxsigma"), ("modelFlux_u", "modelFluxIvar_u"), ("X", "X_err"), ("ch3", "ch3_err"),
    ("flux_rt", "flux_err_rt"), ("F200W_KRON", "F200W_KRON_e"), ("u_flux", "u_fluxerr")])  # fmt: skip
def test_errors_are_found_by_name(value, error):
    assert error_pairs({error: Field("float"), value: Field("float"), "other": Field("float")}) == {value: error}


@pytest.mark.parametrize("facility", conventions().facilities)
def test_the_curves_of_the_table_are_there_and_where_it_says(facility):
    for band, name in conventions().facilities[facility].filters.items():
        curve = load_curve(Filter(name="x", filter=name))
        own = wavelength(band)
        assert not np.isfinite(own) or curve.effective_wavelength_aa == pytest.approx(own, rel=0.12), (band, name)


def test_the_names_of_the_table_are_regular_expressions():
    table = conventions()
    for one in table.catalogues:
        assert all(re.compile(name) for names in one.signatures for name in names)
        assert one.like is None or load_survey(one.like)
    assert all(re.compile(name) for names in table.columns.values() for name in names)


def test_bare_positions_are_no_photometry():
    fields = {name: Field("float") for name in ("x", "x_err", "y", "y_err", "z", "z_err", "r", "r_e", "r_e_err")}
    assert find_bands(fields) == []
    assert recognise(fields) is None
