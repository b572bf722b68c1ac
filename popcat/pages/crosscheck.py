"""The page of a cross-check with an independent sampler, and its part of the report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from popcat import plots
from popcat.checks.compare import JSON, SUMMARISED, CheckedGalaxy, CrossCheck, compare_with_sampler, read_crosscheck
from popcat.checks.samplers import MAX_STEPS
from popcat.files import write_json_atomic
from popcat.pages import alt_texts
from popcat.pages.template import write_page
from popcat.paths import AnyPath, output_path, path_of

_HTML = "crosscheck.html"
_HEADING = ("object_id", "route", "certified", "converged", "C2ST", *(f"{name}: shift of p50" for name in SUMMARISED),
            "ln Z", "ln Z of the sampler")  # fmt: skip


def crosscheck(
    posteriors: str | Path, n: int = 50, *, output: str | Path | None = None, seed: int = 0, sampler: str = "prior",
    max_steps: int = MAX_STEPS, only: Sequence[str] | None = None, report: Callable[[str], object] = lambda text: None,
) -> CrossCheck:  # fmt: skip
    """Compare the posteriors of n random galaxies of a catalogue with those of an independent sampler.

    sampler : "prior" (accepted draws of the prior), "emcee" or "nautilus". only : values of the column `route` to draw
    the galaxies from; all by default. report : is given a line of text for each galaxy. With `output`, a folder, also
    writes crosscheck.json and crosscheck.html, with overlaid corner plots.

    Raises PopcatError if the folder holds no posteriors, or the sampler is not installed.

    >>> found = crosscheck("posteriors", n=1, max_steps=100)
    >>> found.n + found.n_not_converged
    1
    """
    output = None if output is None else output_path(output)
    found = compare_with_sampler(
        posteriors, n, seed=seed, sampler=sampler, max_steps=max_steps, only=only, report=report
    )
    if output is not None:
        write_crosscheck(output, found)
    return found


def crosscheck_section(folder: str | Path) -> Mapping:
    """A part of the report from a folder that `popcat crosscheck` wrote; PopcatError if there is nothing of it.

    A part is a dict of title, text, and optionally rows (the first is the header) and figures, (data URI, caption).
    """
    found = read_crosscheck(folder)
    text = (f"{found.n} random galaxies were sampled again with the exact likelihood by an independent sampler "
            f"({_sampler(found)}). It shares the galaxy model and the priors with popcat, and nothing of the neural "
            "network. A shift of 0.1 sigma in a quantile is small. A C2ST of 0.5 means that a classifier cannot tell "
            "the two sets of draws apart, 1 that it always can.")  # fmt: skip
    rows = [("what", "median"), *((f"|shift| of the quantiles of {name}, sigma", f"{value:.3f}")
                                  for name, value in found.quantile_shift_median.items())]  # fmt: skip
    if found.c2st_median is not None:
        rows.append(("C2ST", f"{found.c2st_median:.3f}"))
    if found.n_not_converged:
        rows.append(("galaxies left out: the sampler did not converge", str(found.n_not_converged)))
    return {"title": "An independent sampler", "text": text, "rows": rows}


def write_crosscheck(folder: AnyPath, found: CrossCheck) -> None:
    """Write the page of a cross-check into a folder, then its numbers."""
    figures = [{"object_id": item, "words": alt_texts.of_corners(ours, theirs), "image": plots.figure_to_data_uri(
        plots.overlaid_corner(ours, theirs, title=f"object_id {item}"))} for item, ours, theirs in found.corners]
    write_page(
        "crosscheck.html.j2", folder / _HTML, kind="cross-check", title=path_of(found.catalog).resolve().name,
        found=found,
        sections=[("summary", "Summary"), *([("corners", "Corner plots")] if figures else []),
                  ("every-galaxy", "Every galaxy")],
        provenance=[(key, str(value)) for key, value in found.model_dump(exclude={"galaxies"}).items()
                    if key in ("catalog", "posterior", "sampler", "seed") and value is not None],
        details=[], sampler=_sampler(found), figures=figures,
        summary=[(name, f"{value:.3f}") for name, value in found.quantile_shift_median.items()],
        heading=_HEADING, numeric=range(4, len(_HEADING)), rows=[_row(one) for one in found.galaxies],
    )  # fmt: skip
    write_json_atomic(folder / JSON, found.model_dump())


def _row(one: CheckedGalaxy) -> list[str]:
    shifts = [one.shifts.get(name, {}).get("p50") for name in SUMMARISED]
    return [str(one.object_id), one.route or "", _yes(one.certified), _yes(one.converged), _shown(one.c2st, ".3f"),
            *(_shown(value, "+.2f") for value in shifts), _shown(one.log_evidence, ".2f"),
            _shown(one.log_evidence_sampler, ".2f")]  # fmt: skip


def _yes(value: bool | None) -> str:
    return "yes" if value else "no"


def _shown(value: float | None, form: str) -> str:
    return "\u2013" if value is None else format(value, form).replace("-", "\u2212")


def _sampler(found: CrossCheck) -> str:
    return "accepted draws of the prior" if found.sampler == "prior" else found.sampler
