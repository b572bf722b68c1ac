"""A survey of your own: from a catalogue with its own columns and units to fluxes that popcat can infer.

    python examples/own_survey.py FOLDER

writes into FOLDER a catalogue as another survey would publish it (vectors of microjansky, E(B-V), flags), drafts a
survey file for it with `draft_survey`, completes the draft, and checks it. With your own catalogue, begin at step 2.
"""

import re
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from astropy.table import Table

import popcat

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "own_survey")
folder.mkdir(parents=True, exist_ok=True)

# 1. Somebody's catalogue: real SDSS galaxies under other names.
sdss = Table.read(files("popcat") / "data" / "galaxies_sdss.parquet")[:500]
catalog = Table({"NUMBER": sdss["object_id"], "RA": sdss["ra"], "DEC": sdss["dec"], "Z": sdss["redshift"]})
catalog["FLUX"] = np.stack([sdss[f"modelflux_{band}"] * 3.631 for band in "ugriz"], axis=1)
catalog["FLUX_ERR"] = np.stack([sdss[f"modelflux_err_{band}"] * 3.631 for band in "ugriz"], axis=1)
catalog["FLUX"].unit = catalog["FLUX_ERR"].unit = "uJy"
catalog["EBV"] = sdss["extinction_r"] / 2.751
catalog["QUALITY"] = np.where(np.arange(len(sdss)) % 50 == 0, 4, 0)
catalog.write(folder / "catalog.fits", overwrite=True)

# 2. A draft from the header and the values, and what only you know: the filters of these vectors, extinction, quality,
#    and for which redshifts the posterior was trained.
draft = popcat.draft_survey(folder / "catalog.fits", name="mine")
survey = draft.replace("quality = []", 'quality = ["QUALITY & 4 == 0"]')
survey = re.sub(r"redshift_range = .*", "redshift_range = [0.001, 0.6]", survey)
for band, coefficient in zip("ugriz", (5.155, 3.793, 2.751, 2.086, 1.479), strict=True):
    lines = f'filter = "sdss2010-{band}"\nextinction = "EBV"\nextinction_factor = {coefficient}'
    survey = re.sub(rf'(name = "{band}"\n)filter = "CHECK".*', rf"\1{lines}", survey)
(folder / "survey.toml").write_text(survey, encoding="utf-8")

# 3. What does popcat see? The same as `popcat survey check catalog.fits --survey survey.toml`.
found = popcat.check_survey(folder / "catalog.fits", folder / "survey.toml")
for band in found.bands:
    print(f"{band.band}: {band.observed} observed in {band.stated}, {band.negative} negative, "
          f"median S/N {band.median_sn:.1f}, AB {band.median_mag:.2f}")  # fmt: skip
print(f"{found.flags['quality_cut']} galaxies fail the quality cut: flagged, not dropped")

# 4. The bands are SDSS's, so the embedded model fits. Else: noise fit, simulate, train (README).
frame = popcat.read_catalog(folder / "catalog.fits", folder / "survey.toml")
posteriors = popcat.infer(frame, posterior="sdss", draws=20).partitions[0].compute()
print(f"{(posteriors['status'] == 'ok').sum()} posteriors, median log_mstar {posteriors['log_mstar_p50'].median():.2f}")
