"""What a small posterior catalogue of a test is of."""

from popcat.catalog.record import CatalogRecord, PosteriorRecord
from popcat.galaxy_model import GalaxyModel
from popcat.survey import load_survey


def record(**changes) -> CatalogRecord:
    """A catalogue of the survey sdss, of the first draws of a posterior that nobody trained."""
    made = {"survey": load_survey("sdss"), "galaxy_model": GalaxyModel(), "draws": 8, "seed": 42,
            "posterior": PosteriorRecord(name="ab" * 32, location="sdss"), "calibration": "none",
            "provenance": {"made_by": "tests"}, "source": "galaxies.parquet"}  # fmt: skip
    return CatalogRecord(**(made | changes))
