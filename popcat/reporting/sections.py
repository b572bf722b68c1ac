"""Further parts of the page, from what other commands found about the same catalogue."""

import json
from collections.abc import Mapping
from pathlib import Path

from popcat.errors import PopcatError


def crosscheck_section(folder: str | Path) -> Mapping:
    """The referee's findings in a folder that `popcat crosscheck` wrote; PopcatError if it holds none.

    A section is a dict of title, text, and optionally rows (the first is the header) and figures, (data URI, caption).
    """
    path = Path(folder) / "crosscheck.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        shifts, c2st = found["quantile_shift_median"], found["c2st_median"]
        sampler = "accepted draws of the prior" if found["sampler"] == "prior" else found["sampler"]
        text = (f"{found['n']} galaxies, drawn at random, were sampled anew with {sampler}, which shares with "
                "popcat the galaxy model and nothing of the network. A shift of 0.1 sigma in a quantile is small; a "
                "C2ST of 0.5 means that a classifier cannot tell the two sets of draws apart, 1 that it always can."
                )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise PopcatError(
            f"{folder} holds no referee's findings: expected crosscheck.json from `popcat crosscheck`: {error}"
        ) from error
    rows = [("what", "median"), *((f"|shift| of the quantiles of {name}, sigma", f"{value:.3f}")
                                  for name, value in shifts.items())]  # fmt: skip
    if c2st is not None:
        rows.append(("C2ST", f"{c2st:.3f}"))
    if found["n_not_converged"]:
        rows.append(("galaxies without a converged referee, left out", str(found["n_not_converged"])))
    return {"title": "An independent sampler", "text": text, "rows": rows}
