"""What statuses and flags mean, in the report's words."""

STATUS_MEANING = {
    "ok": "has a posterior",
    "no_photometry": "no band is observed with a valid error",
    "redshift_out_of_range": "redshift outside the range the model was trained on",
}
FLAG_MEANING = {
    "missing_band": "a flux or its error is NaN: the posterior is that of the other bands",
    "bad_error": "a flux error is zero, negative or infinite: its band is left out",
    "missing_redshift": "no redshift in the catalogue: inferred from the photometry",
    "redshift_out_of_range": "redshift outside the survey's range",
    "outside_training": "magnitude outside the range the model was trained on: treat the posterior with care",
    "high_chi2": "no draw fits the photometry: wrong redshift, blend, AGN, or bad errors",
    "negative_flux": "a measured flux below zero; kept and used, harmless",
    "no_photometry": "no band is observed with a valid error",
    "unusual_noise": "errors far from the survey's own, given the magnitudes: see worst_band",
    "unusual_colours": "colours or a brightness that no model galaxy has: see worst_band",
    "quality_cut": "fails a quality cut of the survey file; inferred nevertheless",
    "band_off": "one band is not what the others let expect: see worst_band, tail_band, tail_peers",
}
RUN_MEANING = {
    "exact": "redshift given",
    "gaussian": "redshift with an error",
    "unknown": "redshift inferred",
    "two_bands_missing": "two bands missing",
}
"""The ways in which `popcat calibrate` shows its mocks to a model."""
