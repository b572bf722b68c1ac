"""Files and folders appear whole or not at all; one function says where built files are kept."""

from pathlib import Path

import numpy as np
import pytest

from popcat import diagnosis, files
from popcat.errors import DiskFullError, PopcatError
from popcat.files import cache_folder, folder_atomic, kept_array, write_bytes_atomic, write_json_atomic
from popcat.forward import tables


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        write_bytes_atomic(path, content)
        assert path.read_bytes() == content
    assert names(path.parent) == ["file"]


def test_a_file_that_cannot_be_written_says_so_and_leaves_the_old_one(tmp_path, monkeypatch):
    write_bytes_atomic(tmp_path / "file", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(DiskFullError, match=r"cannot write .*file: the disk is full"):
        write_bytes_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_below_a_file_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PopcatError, match=r"cannot write .*below"):
        write_json_atomic(tmp_path / "file" / "below", {})


def test_a_folder_appears_when_it_is_full(tmp_path):
    with folder_atomic(tmp_path / "cache" / "made") as building:
        (building / "part").touch()
        assert not (tmp_path / "cache" / "made").exists()
        assert building.name.startswith(".")
    assert names(tmp_path / "cache") == ["made"]
    assert names(tmp_path / "cache" / "made") == ["part"]


def test_a_folder_that_is_not_finished_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), folder_atomic(tmp_path / "made"):
        raise KeyError
    assert names(tmp_path) == []


def test_the_first_of_two_folders_is_kept(tmp_path):
    with folder_atomic(tmp_path / "made") as second:
        (second / "of the second").touch()
        with folder_atomic(tmp_path / "made") as first:
            (first / "of the first").touch()
    assert names(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["of the first"]


CACHES = {
    "named": ({"POPCAT_CACHE": "/somewhere", "XDG_CACHE_HOME": "/xdg"}, Path("/somewhere")),
    "empty": ({"POPCAT_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, Path("/xdg/popcat")),
    "not set": ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/popcat")),
    "both empty": ({"POPCAT_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/x"}, Path("/x/.cache/popcat")),
}


@pytest.mark.parametrize("case", CACHES)
def test_the_cache_is_where_the_environment_says(monkeypatch, case):
    variables, expected = CACHES[case]
    for name in ("POPCAT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == expected


def test_the_tables_and_the_doctor_mean_the_same_cache():
    assert tables.cache_folder is diagnosis.cache_folder is cache_folder


def test_only_one_module_renames_what_it_has_written():
    root = Path(files.__file__).parent
    assert [path for path in root.rglob("*.py") if "os.replace(" in path.read_text()] == [root / "files.py"]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """How often an array was made, of an empty cache folder."""
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "cache"))
    return []


def make(made):
    made.append(True)
    return np.arange(500.0) + len(made) - 1


def test_an_array_is_made_once_and_then_read(made):
    first, second, other = (kept_array(key, lambda: make(made)) for key in ("one", "one", "two"))
    np.testing.assert_array_equal(first, second)
    assert len(made) == 2 and other[0] == 1
    assert len(names(cache_folder())) == 2


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: b"", lambda content: content[::-1]])
def test_a_damaged_array_is_made_again_and_mended(made, damage):
    kept_array("one", lambda: make(made))
    (path,) = cache_folder().iterdir()
    path.write_bytes(damage(path.read_bytes()))
    again = kept_array("one", lambda: make(made))
    np.testing.assert_array_equal(kept_array("one", lambda: make(made)), again)
    assert len(made) == 2


def test_a_cache_folder_that_cannot_be_written_costs_the_making_alone(made):
    cache_folder().write_text("a file where the folder should be")
    for _ in range(2):
        assert kept_array("one", lambda: make(made)).shape == (500,)
    assert len(made) == 2
