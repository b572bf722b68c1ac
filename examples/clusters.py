"""A catalogue on a batch system, on a Dask Gateway or on machines of Coiled: popcat takes the client of any cluster.

    python examples/clusters.py jobqueue|gateway|coiled CATALOG OUTPUT

Every worker must have popcat in the same version, and see the same files: a file system that all mount, or URLs of an
object store (`s3://BUCKET/NAME`) and credentials in the environment of each worker. What is interrupted is finished by
the same call. Numbers and names here are to be changed: what they ask for costs money.
"""

import sys
from contextlib import contextmanager
from pathlib import Path

import popcat


def jobqueue():
    """Jobs of SLURM, each a worker of one thread; dask-jobqueue has classes for PBS, SGE, LSF and HTCondor too."""
    from dask_jobqueue import SLURMCluster

    # Certificates of the cluster's own, in the home that all machines see: without them any user of the network could
    # give the workers something to run.
    cluster = SLURMCluster(cores=1, processes=1, memory="4GB", walltime="04:00:00", security=True,
                           shared_temp_directory=str(Path.home()))  # fmt: skip
    cluster.scale(jobs=200)
    return cluster


def gateway():
    """Workers of a Dask Gateway that somebody runs for you; its address and login are in Dask's configuration."""
    from dask_gateway import GatewayCluster

    cluster = GatewayCluster()
    cluster.scale(50)
    return cluster


def coiled():
    """Machines in your own account of a cloud, for as long as the block lasts, near the bucket."""
    from coiled import Cluster

    return Cluster(n_workers=50, worker_cpu=4, worker_memory="16 GiB", worker_options={"nthreads": 4},
                   region="us-east-1", idle_timeout="20 minutes")  # fmt: skip


@contextmanager
def client_of(make):
    """A client of a new cluster, which ends with the block. (A GatewayCluster is no distributed.Cluster.)"""
    with make() as cluster, cluster.get_client() as client:
        yield client


def main(kind: str, catalog: str, output: str) -> None:
    """Infer a catalogue on such a cluster, and say what came of it."""
    with client_of({"jobqueue": jobqueue, "gateway": gateway, "coiled": coiled}[kind]) as client:
        posteriors = popcat.infer(catalog, "sdss", output=output, client=client)
    print(f"{len(posteriors)} galaxies in {len(posteriors.files)} parts")


if __name__ == "__main__":
    main(*sys.argv[1:4])
