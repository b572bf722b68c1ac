"""Lazy Dask dataframes: a function mapped over partitions, for ad hoc work beside runs from files to files."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ForwardRef, TypeGuard

import pandas as pd

from popcat.errors import PopcatError

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as Frame
else:
    Frame = ForwardRef("dask.dataframe.DataFrame")
"""A Dask dataframe."""


def is_frame(source: Any) -> "TypeGuard[Frame]":
    """Whether it is a Dask dataframe, without the import, which takes a second: who has one has imported it.

    >>> is_frame("galaxies.parquet")
    False
    """
    module = sys.modules.get("dask.dataframe")
    return module is not None and isinstance(source, module.DataFrame)


def frame_of(make: Callable[..., pd.DataFrame], *arguments: Iterable, meta: pd.DataFrame, **options) -> Frame:
    """A lazy frame with one partition for each element of `arguments`, which are as long as each other.

    >>> frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]})).compute()["x"].tolist()
    [0, 1, 0, 1, 2]
    """
    import dask.dataframe as dd

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
    import dask

    parts = [dask.delayed(count)(part, *arguments) for part in frame.to_delayed()]
    return dask.delayed(sum)(parts).compute()


def each_of(frame: Frame, call: Callable, *arguments) -> list:
    """call(partition, *arguments) of every partition, in order, computed.

    >>> each_of(frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]})), len)
    [2, 3]
    """
    import dask

    return list(dask.compute(*(dask.delayed(call)(part, *arguments) for part in frame.to_delayed())))


def take(frame: Frame, pieces: Iterable[tuple[int, int, int]]) -> pd.DataFrame:
    """Rows of a lazy frame, computed: of each piece (partition, first row, end), one after the other.

    >>> frame = frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]}))
    >>> take(frame, [(0, 1, 2), (1, 0, 2)])["x"].tolist()
    [1, 0, 1]
    """
    import dask

    parts = frame.to_delayed()
    return pd.concat(dask.compute(*(parts[i].iloc[start:stop] for i, start, stop in pieces)))


def meta_of(frame: Frame) -> pd.DataFrame:
    """The empty frame that says what a lazy frame's partitions are like; what `attrs` it was made with stay in it."""
    return frame._meta


@dataclass(frozen=True)
class Part:
    """A partition of a Dask frame that any process can make, without the rest of the frame.

    >>> frame = frame_of(lambda n: pd.DataFrame({"x": range(n)}), [2, 3], meta=pd.DataFrame({"x": [0]}))
    >>> parts_of(frame)[1].make()["x"].tolist()
    [0, 1, 2]
    """

    graph: dict
    key: Any

    def make(self) -> pd.DataFrame:
        """The partition, made in this process."""
        import dask

        return dask.get(self.graph, self.key)


def parts_of(frame: Frame) -> list[Part]:
    """The partitions of a frame, each with what it needs to be made.

    Raises PopcatError for a frame that a cluster holds (`persist`): its partitions cannot be made elsewhere.
    """
    import distributed
    from dask.optimization import cull

    frame = frame.optimize()
    graph = dict(frame.__dask_graph__())
    if any(isinstance(one, distributed.Future) for task in graph.values() for one in (task, *_inside(task))):
        raise PopcatError("expected a frame whose partitions can be made again, got one that a cluster holds: leave "
                          "out persist(), or infer it without output and write it with to_parquet")
    return [Part(cull(graph, [key])[0], key) for key in frame.__dask_keys__()]


def _inside(task: Any) -> list:
    """What a node of a graph that is no task holds."""
    return [task.value] if hasattr(task, "value") else []
