"""Ten thousand galaxies as a Dask dataframe, their posteriors, and a question asked of the draws.

Run `make demo` first: it writes demo/catalog.parquet.
"""

import numpy as np

import popcat

catalog = popcat.read_catalog("demo/catalog.parquet", survey="sdss")  # a lazy Dask dataframe, fluxes in nMgy
posteriors = popcat.infer(catalog, posterior="sdss", draws=100)  # lazy too: flows run in map_partitions

frame = posteriors.partitions[0].compute()  # pandas: one row a galaxy
good = frame[frame["clean"]]  # there is a posterior, and it passed every check
print(good[["object_id", "redshift", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84", "log_ssfr_p50"]].head())

# Draws carry the correlations: the probability that a galaxy is massive and quiescent.
log_mstar = np.stack(good["log_mstar_draws"].to_numpy())
log_ssfr = np.stack(good["log_ssfr_draws"].to_numpy())
probability = np.mean((log_mstar > 10.8) & (log_ssfr < -11), axis=1)
print(f"{probability.sum():.0f} of {len(good)} galaxies are massive and quiescent")
