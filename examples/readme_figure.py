"""README's figure, from what `make demo` wrote: python examples/readme_figure.py demo examples/demo.png"""

import sys
from pathlib import Path

import pyarrow.dataset as ds

from popcat.plots import mass_redshift, save_figure

demo, output = Path(sys.argv[1]), Path(sys.argv[2])
columns = ["redshift", "status", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84"]
frame = ds.dataset(sorted((demo / "posteriors").glob("part-*.parquet"))).to_table(columns=columns).to_pandas()
save_figure(mass_redshift(frame[frame["status"] == "ok"]), output)
