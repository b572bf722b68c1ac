"""What a fit is given, made ready: the catalogue as files, its survey file, the galaxy model. Nothing is written here
but a first survey file, which its user must look at."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popcat.errors import PopcatError
from popcat.forward.coverage import lacking, require_light
from popcat.forward.filters import load_curves
from popcat.galaxy_model import GalaxyModel
from popcat.inference.partition import read_spread
from popcat.inference.rows import hopeless
from popcat.io.content import source_files
from popcat.io.drafting import draft_survey
from popcat.io.inspection import Inspection, inspect_catalog
from popcat.io.named import Source, label_of
from popcat.io.photometry import catalog_columns
from popcat.io.sources import plan_chunks
from popcat.io.survey_files import survey_text
from popcat.pipeline.ranges import choose_ranges
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey

SURVEY = "survey.toml"
_MARK = "CHECK"
_RANGES = {
    "redshift_range": re.compile(rf"^redshift_range = .*{_MARK}: 99%.*$", re.MULTILINE),
    "selection": re.compile(rf"^(?:bright_mag|faint_mag) = .*{_MARK}.*$", re.MULTILINE),
}
"""Lines of a drafted survey file that a fit decides by itself."""
_NEW_LINES = {
    "redshift_range": r"^redshift_range = .*$", "band": r"^band = .*$", "bright_mag": r"^bright_mag = .*$",
    "faint_mag": r"^faint_mag = .*$",
}  # fmt: skip


@dataclass(frozen=True)
class Given:
    """A catalogue that can be fitted.

    text : of its survey file, with the ranges that were chosen. digest : hash of the catalogue's content. found : what
    its columns hold. remarks : what was chosen, and what to know of the catalogue, a line each. n_free : part of the
    galaxies whose redshift is inferred.
    """

    source: Source
    survey: Survey
    text: str
    galaxy_model: GalaxyModel
    digest: str
    found: Inspection
    remarks: tuple[str, ...]
    n_free: float


def make_ready(
    source: Source, folder: Path, survey: "str | Path | Survey | None", galaxy_model: "GalaxyModel | str | Path | None",
    *, hide_redshift: bool,
) -> Given:  # fmt: skip
    """Read the survey file, or draft it; look at the catalogue; choose the ranges and the galaxy model.

    Raises PopcatError for a catalogue that does not fit its survey, and for a draft that holds guesses, which is
    written to the folder.
    """
    model = settings_of(GalaxyModel, galaxy_model, "galaxy-model")
    text = _own_text(source, folder, survey)
    survey = load_survey(folder / SURVEY if survey is None else survey)
    undecided = frozenset(name for name, line in _RANGES.items() if line.search(text))
    load_curves(survey)
    frame = read_spread(source, survey)
    chosen = choose_ranges(frame, survey, hide_redshift=hide_redshift, free=undecided)
    found = inspect_catalog(source, chosen.survey)
    if not found.inferable:
        raise PopcatError(hopeless(label_of(source), read_spread(source, chosen.survey), chosen.survey))
    remarks = [*chosen.remarks, *found.remarks]
    if galaxy_model is None and any("dust shines" in line for line in lacking(chosen.survey, model)):
        model = GalaxyModel(dust_emission="draine_li_2007")
        remarks.append('galaxy model: dust_emission = "draine_li_2007", because the bands see light of dust')
    require_light(chosen.survey, model)
    is_free = frame["redshift"].isna() | (frame["redshift_err"] > 0.0) | hide_redshift
    written = _with_ranges(text, survey, chosen.survey) if text else survey_text(chosen.survey)
    return Given(source, chosen.survey, written, model, _digest(source, chosen.survey), found, tuple(remarks),
                 float(is_free.mean()))  # fmt: skip


def _digest(source: Source, survey: Survey) -> str:
    return source_files(plan_chunks(source, columns=catalog_columns(survey)), survey).digest


def _own_text(source: Source, folder: Path, survey: Any) -> str:
    """The text of the survey file where it is one that was drafted, else nothing; a new draft is written.

    Raises PopcatError if the draft holds guesses.
    """
    path = folder / SURVEY
    if survey is not None:
        is_own = not isinstance(survey, Survey) and Path(survey).is_file()
        return Path(survey).read_text(encoding="utf-8") if is_own else ""
    if not path.is_file():
        first = source if isinstance(source, str | Path) else next(iter(source))
        draft_survey(first, output=path, name="my_survey")
    text = path.read_text(encoding="utf-8")
    guesses = list(_guesses(text))
    if guesses:
        raise PopcatError(
            f"{path}: {len(guesses)} lines are guesses, marked {_MARK} (the first: {guesses[0]}); read them, correct "
            f"them, take the word {_MARK} out, and give the same command again, or take the file as it is with "
            f"--survey {path}"
        )
    return text


def _guesses(text: str) -> Iterable[str]:
    """Lines of a survey file that are marked, but for its head and for what a fit decides."""
    for line in text.splitlines():
        decided = any(pattern.match(line) for pattern in _RANGES.values())
        if _MARK in line and not line.startswith("# A survey file") and not decided:
            yield " ".join(line.split())[:90]


def _with_ranges(text: str, before: Survey, survey: Survey) -> str:
    """The text of a survey file with other ranges where they are not as before."""
    old, lines = _range_values(before), _range_values(survey)
    for name, value in lines.items():
        if value == old[name] and _MARK not in "".join(re.findall(_NEW_LINES[name], text, flags=re.MULTILINE)):
            continue
        text, n = re.subn(_NEW_LINES[name], f"{name} = {value}  # chosen by popcat fit", text, count=1,
                          flags=re.MULTILINE)  # fmt: skip
        if n != 1:
            return survey_text(survey)  # written in another way
    return text


def _range_values(survey: Survey) -> dict[str, str]:
    """Selection and redshift range as a survey file has them."""
    (low, high), cut = survey.redshift_range, survey.selection
    return {"redshift_range": f"[{low:g}, {high:g}]", "band": f'"{cut.band}"', "bright_mag": f"{cut.bright_mag:g}",
            "faint_mag": f"{cut.faint_mag:g}"}  # fmt: skip
