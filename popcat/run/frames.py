"""Lazy Dask dataframes: a function mapped over partitions, for ad hoc work beside runs from files to files."""

from collections.abc import Callable, Iterable
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd

Frame = dd.DataFrame
"""A Dask dataframe."""


def frame_of(make: Callable[..., pd.DataFrame], *arguments: Iterable, meta: pd.DataFrame, **options) -> Frame:
    """A lazy frame with one partition for each element of `arguments`, which are as long as each other.

    >>> frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]})).compute()["x"].tolist()
    [0, 1, 0, 1, 2]
    """
    return dd.from_map(make, *arguments, meta=meta, **options)


def map_frame(frame: Frame, call: Callable[..., pd.DataFrame], *arguments, meta: pd.DataFrame) -> Frame:
    """A lazy frame of call(partition, *arguments); `meta` is what `call` gives, and is not checked again.

    >>> frame = frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]}))
    >>> map_frame(frame, lambda part, by: part * by, 2, meta=pd.DataFrame({"x": [0]})).compute()["x"].tolist()
    [0, 2, 0, 2, 4]
    """
    return frame.map_partitions(call, *arguments, meta=meta, enforce_metadata=False)


def sum_of(frame: Frame, count: Callable, *arguments) -> Any:
    """The sum of count(partition, *arguments) over the partitions, computed.

    >>> int(sum_of(frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]})), len))
    5
    """
    parts = [dask.delayed(count)(part, *arguments) for part in frame.to_delayed()]
    return dask.delayed(sum)(parts).compute()
