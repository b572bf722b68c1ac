"""Drives FSPS in a process of its own: run as a script by popcat.forward.engines.fsps.

Fortran state is global, and FSPS answers a missing file with STOP: exit status 0, nothing to catch. So the caller
trusts only the last line, which begins with SENTINEL and is written when all went well.
"""

import io
import json
import os
import sys

SENTINEL = "popcat-fsps-done "


def main(job: dict) -> dict:
    """What the fsps package was compiled for; with "settings" in the job, also what FSPS says once it is set up.

    "parts" in the job are pairs (index of a metallicity from 1, file to write); "folder" asks for all of them there.
    """
    import fsps

    isochrones, spectra, dust = (name.decode().strip() for name in fsps.fsps.driver.get_libraries())
    facts = {"fsps_version": fsps.__version__, "isochrones": isochrones, "spectra": spectra, "dust_emission": dust}
    if "settings" not in job:
        return facts
    stars = fsps.StellarPopulation(**job["settings"])
    facts |= {"settings": job["settings"], **job.get("facts", {})}
    facts["z_abs"] = [float(z) for z in stars.zlegend]
    facts["z_solar"] = float(stars.solar_metallicity)
    parts = job.get("parts", [])
    if "folder" in job:
        parts = [(i + 1, os.path.join(job["folder"], f"z{i + 1:02d}.npz")) for i in range(len(facts["z_abs"]))]
    for index, path in parts:
        write_metallicity(stars, index, path, facts)
    return facts


def write_metallicity(stars, index: int, path: str, facts: dict) -> None:
    """All ages of one metallicity: light in Lsun/Hz/Msun, surviving mass, bolometric light; complete or not there."""
    import numpy as np

    from popcat.files import write_bytes_atomic

    wave_aa, lum_hz = stars.get_spectrum(zmet=index, tage=0, peraa=False)
    # Both belong to the spectra just made, until a parameter is touched.
    mstar, log_lbol = np.array(stars.stellar_mass), np.array(stars.log_lbol)
    content = io.BytesIO()
    np.savez(
        content, z_abs=facts["z_abs"][index - 1], log_age_yr=stars.ssp_ages, wave_aa=wave_aa, lum_hz=lum_hz,
        mstar=mstar, log_lbol=log_lbol, facts=json.dumps(facts),
    )  # fmt: skip
    write_bytes_atomic(path, content.getvalue())


if __name__ == "__main__":
    result = json.dumps(main(json.loads(sys.argv[1])))
    sys.stdout.flush()
    sys.stdout.write(f"\n{SENTINEL}{result}\n")
