"""A catalogue on a Dask cluster: a cluster object, a client, or the address of a scheduler; here one on this machine.

    python examples/cluster.py CATALOG OUTPUT

On a batch system replace LocalCluster by dask_jobqueue.SLURMCluster(cores=1, memory="4GB") and cluster.scale(200), on
Kubernetes by dask_kubernetes.operator.KubeCluster (extra `cluster`); on the command line: popcat infer --client
ADDRESS. Every worker must see the same files. What is interrupted is finished by the same call.
"""

import sys

from distributed import LocalCluster

import popcat


def main(catalog: str, output: str) -> None:
    """Infer a catalogue on the workers of a cluster, and say what came of it."""
    # security=True: without it any user of this machine could give the workers something to run
    with LocalCluster(n_workers=2, threads_per_worker=1, security=True, dashboard_address="127.0.0.1:0") as cluster:
        posteriors = popcat.infer(catalog, "sdss", output=output, draws=20, rows_per_partition=50, client=cluster)
    print(f"{len(posteriors)} galaxies in {len(posteriors.files)} parts")
    print(posteriors.to_pandas(["object_id", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84"]).head())


if __name__ == "__main__":  # workers are new processes, which import this script
    main(*sys.argv[1:3] or ("demo/catalog.parquet", "demo/on_a_cluster"))
