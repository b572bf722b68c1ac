"""What a catalogue holds, as a survey file says: `inspect_catalog`, `fit_noise`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from popcat.catalog.training_check import TrainingCheck
from popcat.display import Displayed
from popcat.files import write_json_atomic
from popcat.forward.filters import load_curves
from popcat.forward.noise import Noise, noise_counts, noise_from_counts
from popcat.galaxies import FLAGS, flag_counts, has_posterior, observed
from popcat.io.checking import check_every_row
from popcat.io.chunks import field_of
from popcat.io.named import Source
from popcat.io.photometry import catalog_columns, to_photometry
from popcat.io.reading import read_catalog, require_same_survey
from popcat.io.sources import plan_chunks, read_fields, remarks_on
from popcat.paths import output_path
from popcat.run.frames import Frame, sum_of
from popcat.survey import Survey, load_survey
from popcat.units import nmgy_to_ab_mag

_ROWS = 50_000
_LOG_SN = np.linspace(-3.0, 6.0, 1801)
_MAGS = np.linspace(0.0, 50.0, 2001)


@dataclass(frozen=True)
class BandInspection:
    """What one band of a catalogue holds.

    `stated` is the unit that the file gives the column, None where it gives none. Medians are over observed values, to
    half a percent in S/N and 0.025 AB magnitudes; None of no value.
    """

    band: str
    column: str
    unit: str
    stated: str | None
    observed: int
    negative: int
    median_sn: float | None
    median_mag: float | None


@dataclass(frozen=True, repr=False)
class Inspection(Displayed):
    """What a catalogue holds, read as a survey file says: rows, rows with each flag, bands, and what to know of it.

    `exact_redshifts` counts redshifts without an error where the survey names a column of errors: they are exact.
    `remarks` are lines on units that are not understood, non-detections, and columns that seem to be one.
    inferable : rows that can have a posterior.
    training_check : the catalogue against the training set of a posterior; None without one, or with too few galaxies.
    """

    survey: str
    rows: int
    flags: dict[str, int]
    bands: tuple[BandInspection, ...]
    exact_redshifts: int = 0
    remarks: tuple[str, ...] = ()
    training_check: TrainingCheck | None = None
    inferable: int | None = None

    def _title(self) -> str:
        return f"{self.rows:,} rows as survey {self.survey}"

    def _facts(self) -> dict[str, object]:
        head = f"{'unit':10s} {'stated':14s} {'observed':>10s} {'negative':>9s} {'S/N':>8s} {'AB mag':>7s}"
        rows: dict[str, object] = {"band": head}
        for one in self.bands:
            sn, mag = ("-" if value is None else f"{value:.4g}" for value in (one.median_sn, one.median_mag))
            rows[one.band] = (f"{one.unit:10s} {one.stated or 'not stated':14s} {one.observed:10,d} "
                              f"{one.negative:9,d} {sn:>8s} {mag:>7s}")  # fmt: skip
        rows |= self.training_check.facts if self.training_check else {}
        rows |= {f"flag {name}": f"{n:,} rows" for name, n in self.flags.items() if n}
        if self.exact_redshifts:
            rows["redshift"] = f"{self.exact_redshifts:,} rows without an error, taken as exact"
        return rows | ({"remarks": f"{len(self.remarks)}, in `remarks`"} if self.remarks else {})


def inspect_catalog(source: Source, survey: "str | Path | Survey" = "sdss") -> Inspection:
    """What each band of a catalogue holds, read as a survey says, and how many rows each flag has.

    The catalogue is read once, a part at a time, and every row of every file is judged.

    Raises PopcatError if the catalogue does not fit the survey, with all that is wrong: columns, units, filters,
    identifiers, values.

    >>> found = inspect_catalog("galaxies.parquet", "sdss")
    >>> found.rows, found.bands[2].band, found.bands[2].observed
    (40, 'r', 40)
    """
    survey = load_survey(survey)
    chunks = plan_chunks(source, rows_per_partition=_ROWS, columns=catalog_columns(survey))
    counts = _Counts(survey)
    remarks = check_every_row(source, survey, chunks, lambda raw: counts.add(to_photometry(raw, survey)))
    remarks = [*remarks_on(source, chunks), *remarks]
    fields = read_fields(chunks[0])
    stated = {band.name: field_of(fields, band.flux).unit for band in survey.bands}
    flags, bands = dict(counts.flags), tuple(counts.bands(stated))
    return Inspection(survey.name, counts.rows, flags, bands, counts.exact, tuple(remarks), inferable=counts.inferable)


def fit_noise(
    source: "Source | Frame", survey: "str | Path | Survey" = "sdss", *, output: str | Path | None = None,
    fill: bool = False,
) -> Noise:  # fmt: skip
    """The noise of a survey, from the errors of its catalogue: flux error and its scatter against flux, per band.

    `source` is a catalogue on disk or the lazy frame of `read_catalog`; the result does not depend on its partitions.
    With `output`, a JSON file, the noise is written there. `fill`: a band with too few galaxies has the noise that its
    depth (`depth_5sigma_mag`) implies, or that of the errors there are.

    Raises PopcatError where a band has too few galaxies, and is not filled, or for a frame that was read with another
    survey.

    >>> from importlib.resources import files
    >>> fit_noise(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss").n_galaxies
    10000
    """
    output = None if output is None else output_path(output)
    survey = load_survey(survey)
    load_curves(survey)  # an unknown filter is said now, not when the library is simulated
    if isinstance(source, str | Path | Sequence):
        frame = read_catalog(source, survey)
    else:
        frame = source
        require_same_survey(frame, survey)
    found = noise_from_counts(sum_of(frame, noise_counts, survey), survey, fill=fill)
    if output is not None:
        write_json_atomic(output, found.model_dump(mode="json"))
    return found


class _Counts:
    """Sums and histograms over the parts of a photometry frame."""

    def __init__(self, survey: Survey):
        self.survey, self.rows, self.exact, self.flags = survey, 0, 0, Counter(dict.fromkeys(FLAGS, 0))
        self.inferable = 0
        self.of_band = {name: {"observed": 0, "negative": 0} for name in survey.band_names}
        self.sn = {name: np.zeros(len(_LOG_SN) - 1, dtype=np.int64) for name in survey.band_names}
        self.mag = {name: np.zeros(len(_MAGS) - 1, dtype=np.int64) for name in survey.band_names}

    def add(self, frame):
        self.rows += len(frame)
        self.inferable += int(has_posterior(frame["flags"].to_numpy()).sum())
        if self.survey.columns.redshift_err:
            self.exact += int((frame["redshift"].notna() & frame["redshift_err"].isna()).sum())
        self.flags.update(flag_counts(frame["flags"]))
        for band in self.survey.band_names:
            flux, err = (frame[f"{kind}_{band}"].to_numpy(dtype=float) for kind in ("flux", "flux_err"))
            seen = observed(flux, err)
            self.of_band[band]["observed"] += int(seen.sum())
            self.of_band[band]["negative"] += int((flux[seen] < 0).sum())
            with np.errstate(divide="ignore"):
                log_sn = np.log10(np.maximum(flux[seen], 0.0) / err[seen])
            self.sn[band] += np.histogram(np.clip(log_sn, _LOG_SN[0], _LOG_SN[-1]), _LOG_SN)[0]
            self.mag[band] += np.histogram(nmgy_to_ab_mag(flux[seen & (flux > 0)]), _MAGS)[0]

    def bands(self, stated: dict[str, str | None]) -> list[BandInspection]:
        return [BandInspection(
            band.name, band.flux, self.survey.unit_of(band), stated[band.name], **self.of_band[band.name],
            median_sn=_median(self.sn[band.name], _LOG_SN, power=True), median_mag=_median(self.mag[band.name], _MAGS),
        ) for band in self.survey.bands]  # fmt: skip


def _median(counts, edges, *, power: bool = False) -> float | None:
    """Middle of the bin that holds the median; None of nothing."""
    if not counts.sum():
        return None
    bin_ = int(np.searchsorted(np.cumsum(counts), (counts.sum() + 1) // 2))
    middle = 0.5 * (edges[bin_] + edges[bin_ + 1])
    return round(float(10.0**middle if power else middle), 3)
