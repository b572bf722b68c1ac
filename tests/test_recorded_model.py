"""A galaxy model in a record: it comes back as it was, and one of before the medium or remnants could be set is without
them."""

import json

import pydantic
import pytest

from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.record import CatalogRecord
from popcat.galaxy_model import GalaxyModel, RecordedGalaxyModel, as_recorded
from popcat.population.fitted import Description
from popcat.posterior.library import LibraryManifest
from popcat.posterior.posterior import _Description


class Record(pydantic.BaseModel):
    """What popcat writes of a run, as far as it matters here."""

    model_config = pydantic.ConfigDict(strict=True)
    galaxy_model: RecordedGalaxyModel


BEFORE = {
    "grid": "bc03_miles", "bases": "popcat", "n_sfh_bases": 4, "n_metallicity_bases": 2, "metallicity": "evolving",
    "binning": "average", "birth_cloud_age_gyr": 0.1, "cosmology": "Planck13", "beta": "flat",
    "log_mstar_formed": [7.0, 12.5],
}  # fmt: skip


@pytest.mark.parametrize("igm", ["inoue_2014", "none"])
@pytest.mark.parametrize("remnants", ["renzini_ciotti_1993", "none"])
def test_a_galaxy_model_comes_back_from_a_record_as_it_was(igm, remnants):
    model = GalaxyModel(igm=igm, remnants=remnants, dust_law="calzetti")
    record = Record(galaxy_model=model)
    assert Record.model_validate_json(record.model_dump_json()) == record
    assert GalaxyModel.model_validate(as_recorded(model.model_dump(mode="json"))) == model


def test_a_record_of_before_is_of_a_model_without_medium_and_remnants_and_is_written_as_it_was():
    read = Record.model_validate_json(json.dumps({"galaxy_model": BEFORE})).galaxy_model
    assert (read.igm, read.remnants) == ("none", "none")
    assert json.loads(read.model_dump_json()) == BEFORE
    assert "igm                  none" in repr(read) and "remnants             none" in repr(read)


def test_a_users_own_settings_of_before_have_the_medium_and_remnants():
    read = GalaxyModel.model_validate(BEFORE)
    assert (read.igm, read.remnants) == ("inoue_2014", "renzini_ciotti_1993")


@pytest.mark.parametrize("kind", [CatalogRecord, CatalogManifest, LibraryManifest, Description, _Description])
def test_every_kind_of_record_reads_it_so(kind):
    (reader,) = [one for one in kind.model_fields["galaxy_model"].metadata if isinstance(one, pydantic.BeforeValidator)]
    assert reader.func is as_recorded
