"""Figures of a posterior catalogue, of a trained posterior's calibration, and of a population.

Every function takes arrays or frames and returns a matplotlib Figure; none touches pyplot or global settings.
"""

from popcat.plots.calibration import loss_curve, pp_curves, rank_histograms, worst_columns
from popcat.plots.galaxy import galaxy_corner, galaxy_sed, galaxy_sfh, overlaid_corner, spectrum_band
from popcat.plots.population import (
    chi2_histogram,
    mass_redshift,
    status_bars,
    status_counts,
    two_histograms,
)
from popcat.plots.sky import sky_map
from popcat.plots.stacked import stacked_marginals, stacked_sequence
from popcat.plots.style import figure_to_data_uri, save_figure

__all__ = [
    "chi2_histogram",
    "figure_to_data_uri",
    "galaxy_corner",
    "galaxy_sed",
    "galaxy_sfh",
    "loss_curve",
    "mass_redshift",
    "overlaid_corner",
    "pp_curves",
    "rank_histograms",
    "save_figure",
    "sky_map",
    "spectrum_band",
    "stacked_marginals",
    "stacked_sequence",
    "status_bars",
    "status_counts",
    "two_histograms",
    "worst_columns",
]
