"""What a fit found, in a few lines."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popcat.catalog.queries import open_catalog
from popcat.display import Displayed, duration
from popcat.inference.rows import without_posterior


@dataclass(frozen=True, repr=False)
class FitResult(Displayed):
    """What a fit found and where it is.

    galaxies : rows of the catalogue, of which `without_posterior` have none. certified : those whose draws have the
    exact likelihood's weight and that no check flags; certificate : the same in words, and what it means. failed :
    those whose draws could not be corrected. misfits : lines on galaxies that the model does not fit. commands : by
    step, what does it again. seconds : of this call.
    """

    output: str
    galaxies: int
    without_posterior: int
    certified: int
    certificate: str
    failed: int
    flags: dict[str, int]
    misfits: tuple[str, ...]
    training_check: str
    calibration: str
    posteriors: str
    report: str
    commands: dict[str, str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def _title(self) -> str:
        return f"Fit {self.output}"

    def _facts(self) -> dict[str, object]:
        share = f"{self.certified / self.galaxies:.0%}" if self.galaxies else "none"
        found: dict[str, object] = {
            "galaxies": f"{self.galaxies:,}, {self.without_posterior:,} of them without a posterior",
            "certified": f"{self.certificate} ({share} of all); {self.failed:,} could not be corrected",
            "flags": ", ".join(f"{name} {n:,}" for name, n in self.flags.items()) or "none",
        }
        found |= {"misfits": "; ".join(self.misfits)} if self.misfits else {}
        found |= {"against the training set": self.training_check} if self.training_check else {}
        return found | {"calibration": self.calibration, "posteriors": self.posteriors, "report": self.report,
                        "time": duration(self.seconds)}  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """All of it for a person, the commands included."""
        return [*(f"{name}: {text}" for name, text in self._facts().items()),
                "to do a step again (fit.json has this list):",
                *(f"  {command}" for command in self.commands.values())]  # fmt: skip


def result_of(
    folder: Path, posteriors: str, page: str, commands: dict[str, str], *, is_fitted: bool, seconds: float
) -> FitResult:
    """What the catalogue in the folder of a fit says."""
    manifest = open_catalog(folder / posteriors).require_manifest()
    lost, total = without_posterior(manifest.status)
    flags = dict(sorted(manifest.flags.items(), key=lambda item: -item[1]))
    check = manifest.training_check
    return FitResult(
        output=str(folder), galaxies=total, without_posterior=lost,
        certified=manifest.n_certified or 0, certificate=manifest.certified_line,
        failed=flags.get("correction_failed", 0), flags=flags, misfits=tuple(manifest.misfits),
        training_check="" if check is None else check.line,
        calibration="none: proposals are fitted to each galaxy, and corrected by the exact likelihood" if is_fitted else
        f"{manifest.calibration}; these draws are corrected with the exact likelihood",
        posteriors=str(folder / posteriors), report=str(folder / page), commands=commands, seconds=round(seconds, 1),
    )  # fmt: skip
