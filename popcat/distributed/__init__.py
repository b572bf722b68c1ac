"""Dask, and only here: stages mapped over partitions, lazily as Dask dataframes or from files to files (doors.py).

Names are resolved when first used: a scheduler unpickles what it passes on, and must not import torch for that.
"""

import importlib

_HOME = {
    "SYNCHRONOUS": "cluster",
    "build_fsps_grid": "grids",
    "connect": "cluster",
    "fit_noise": "doors",
    "fit_population": "populations",
    "infer": "doors",
    "infer_catalog": "doors",
    "read_catalog": "doors",
    "reweight_catalog": "doors",
    "simulate": "doors",
    "simulate_library": "doors",
    "train_ensemble": "ensembles",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'popcat.distributed' has no attribute '{name}'")
    return getattr(importlib.import_module(f"popcat.distributed.{_HOME[name]}"), name)
