"""Stores as Arrow's datasets read them: the paths are URLs, and nothing is written."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from popcat.paths import arrow_source, is_url, path_of


class _Handler(pa_fs.FileSystemHandler):
    """The part of a filesystem that reading needs."""

    def get_type_name(self) -> str:
        return "popcat-stores"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(arrow_source(path), mode="r")

    open_input_stream = open_input_file

    def get_file_info(self, paths: list[str]) -> list[pa_fs.FileInfo]:
        return [pa_fs.FileInfo(path, pa_fs.FileType.File, size=path_of(path).stat().st_size) for path in paths]

    def _refuse(self, *arguments: object) -> Any:
        raise NotImplementedError("stores are only read")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse


def filesystem_of(files: Sequence[str]) -> pa_fs.FileSystem | None:
    """The filesystem of files that are all in stores, whose paths are URLs; None if they are on the disk."""
    return pa_fs.PyFileSystem(_Handler()) if files and is_url(files[0]) else None
