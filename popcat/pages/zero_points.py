"""Zero points of a catalogue as a survey file and a page of residuals."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from popcat import plots
from popcat.checks.flags import known_redshift
from popcat.files import write_bytes_atomic
from popcat.inference.zero_points import BandZeroPoint, Measured, ZeroPoints, measure_zero_points
from popcat.io.named import Source, label_of
from popcat.pages.template import write_page
from popcat.paths import AnyPath, output_path
from popcat.plots.zero_points import residual_panels
from popcat.survey import Survey
from popcat.units import nmgy_to_ab_mag

_HEADING = ("band", "change (mag)", "error", "ab_offset_mag", "template error", "error_floor", "galaxies",
            "not correctable")  # fmt: skip


def fit_zero_points(
    source: Source, posterior: str | Path = "sdss", survey: "str | Path | Survey | None" = None, *,
    output: str | Path | None = None, page: str | Path | None = None, n: int = 3000, reference: str | None = None,
    prior: str | None = None, seed: int = 0, report: Callable[[str], object] = lambda line: None,
) -> ZeroPoints:  # fmt: skip
    """Fit the zero points and template errors of the bands of a catalogue, relative to one band.

    Up to n galaxies are used, evenly spaced: those with a spectroscopic redshift, where there are at least 300. A third
    of them is held out, to test the result. survey : how the catalogue is read, by default as the posterior's survey
    says. reference : the band that stays as it is, by default that of the survey's selection. report : is given a line
    of text for each step. With `output`, a TOML file, the survey with the new offsets and error floors is written
    there; with `page`, an HTML file, the residuals against redshift, magnitude and colour; by default beside `output`.

    Raises PopcatError if there are too few galaxies, or the survey's bands are not the posterior's.

    >>> fit_zero_points("galaxies.parquet", "sdss")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: galaxies.parquet: ... galaxies can have a posterior and pass the quality cuts...
    """
    output, page = (None if path is None else output_path(path) for path in (output, page))
    if page is None and output is not None:
        page = output.with_suffix(".html")
    measured = measure_zero_points(
        source, posterior, survey, n=n, reference=reference, prior=prior, seed=seed, report=report
    )
    found, files = measured.found, []
    if output is not None:
        write_bytes_atomic(output, found.text().encode())
        files.append(str(output))
    if page is not None:
        files.append(str(_write(page, measured, label_of(source), str(posterior))))
    return replace(found, files=tuple(files))


def _write(page: AnyPath, measured: Measured, source: str, posterior: str) -> AnyPath:
    found = measured.found
    return write_page(
        "zero_points.html.j2", page, kind="zero points", title=f"Zero points of survey {found.survey.name}",
        sections=[("bands", "Bands"), ("residuals", "Residuals")], found=found, source=source,
        provenance=[("catalogue", source), ("posterior", posterior), ("reference", found.reference),
                    ("steps", str(found.steps))],
        details=[], heading=_HEADING, numeric=range(1, 7), rows=[_row(one) for one in found.bands],
        figures=_figures(measured),
    )  # fmt: skip


def _row(one: BandZeroPoint) -> tuple[str, ...]:
    numbers = ("\u2013" if value is None else format(value, form) for value, form in (
        (one.change_mag, "+.3f"), (one.error_mag, ".3f"), (one.ab_offset_mag, "+.3f"), (one.template_error, ".3f"),
        (one.error_floor, ".3f"), (one.galaxies, ",")))  # fmt: skip
    return (one.band, *(number.replace("-", "\u2212") for number in numbers), one.beyond_help or "")


def _figures(measured: Measured) -> list[tuple[str, str]]:
    """Name of each band, and its figure."""
    data, fit, bands = measured.data, measured.fit, measured.found.bands
    mag, found = nmgy_to_ab_mag(data.flux), []
    for b, one in enumerate(bands):
        # a colour of other bands: that of the band itself goes with its residual
        others = [i for i in range(len(bands)) if i != b]
        blue, red = min(others, key=lambda i: abs(i - b)), max(others, key=lambda i: abs(i - b))
        blue, red = min(blue, red), max(blue, red)
        against = [("Redshift", known_redshift(data)), (f"{one.band} that the others predict", fit.after.mag[:, b]),
                   (f"{bands[blue].band} - {bands[red].band}", mag[:, blue] - mag[:, red])]  # fmt: skip
        figure = residual_panels(against, fit.before.excess_mag[:, b], fit.after.excess_mag[:, b])
        found.append((one.band, plots.figure_to_data_uri(figure)))
    return found
