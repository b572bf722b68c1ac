"""README's figure, from what `make demo` wrote: python examples/readme_figure.py demo examples/demo.png"""

import sys
from pathlib import Path

from popcat import open_catalog
from popcat.plots import mass_redshift, save_figure

demo, output = Path(sys.argv[1]), Path(sys.argv[2])
columns = ["redshift_p50", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84"]
frame = open_catalog(demo / "posteriors").to_pandas(columns, where="status == 'ok'")
save_figure(mass_redshift(frame), output, small=True)
