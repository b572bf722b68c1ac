"""What FSPS itself says: python fsps_reference.py JOB.json OUT.npz, with SPS_HOME set, in a process of its own.

The job has the metallicity's index, dust curves to apply to an SSP of 1 Gyr, and a tabular star-formation history.
"""

import json
import sys

import numpy as np


def main(job: dict) -> dict:
    """Spectra in Lsun/Hz: SSPs at all ages, an SSP without and with dust, the composite without and with dust."""
    import fsps

    stars = fsps.StellarPopulation(
        zcontinuous=0, sfh=0, imf_type=1, add_neb_emission=False, add_dust_emission=False, add_agb_dust_model=False,
        add_igm_absorption=False, zmet=job["index"], dust_type=4,
    )  # fmt: skip
    said = {"wave_aa": stars.wavelengths, "ssp": stars.get_spectrum(tage=0)[1]}
    said["mstar"], said["log_lbol"] = np.array(stars.stellar_mass), np.array(stars.log_lbol)
    said["plain"], said["young"] = stars.get_spectrum(tage=1.0)[1], stars.get_spectrum(tage=0.003)[1]
    said["diffuse"] = np.stack([dusty(stars, 1.0, dust2=tau, dust_index=n) for tau, n in job["diffuse"]])
    said["clouds"] = np.stack([dusty(stars, 0.003, dust1=tau) for tau in job["clouds"]])
    stars.params["sfh"] = 3
    time_gyr, sfr = np.array(job["time_gyr"]), np.array(job["sfr"])
    for name, factor in (("composite", 1.0), ("composite_x7", 7.0)):
        stars.set_tabular_sfh(time_gyr, factor * sfr)
        said[name] = stars.get_spectrum(tage=time_gyr[-1])[1]
        said[f"{name}_mass"] = np.array([stars.formed_mass, stars.stellar_mass])
    stars.set_tabular_sfh(time_gyr, sfr)
    said["composite_dusty"] = dusty(stars, time_gyr[-1], dust2=0.8, dust_index=-0.5)
    return said


def dusty(stars, tage, **dust):
    """The spectrum with these dust parameters, which are set back to none."""
    stars.params["dust1"], stars.params["dust2"] = 0.0, 0.0
    for name, value in dust.items():
        stars.params[name] = value
    spectrum = stars.get_spectrum(tage=tage)[1]
    stars.params["dust1"], stars.params["dust2"] = 0.0, 0.0
    return spectrum


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        result = main(json.load(file))
    np.savez(sys.argv[2], **result)
