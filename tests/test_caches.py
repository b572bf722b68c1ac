"""popcat starts where neither its own folder nor the home can be written, as in containers; kernels stay private."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import popcat
from popcat import caches, cli, diagnosis
from popcat.caches import can_be_made, place_caches
from popcat.errors import PopcatError
from popcat.forward import tables
from popcat.galaxy_model import GalaxyModel
from popcat.survey import load_survey

PACKAGE = Path(popcat.__file__).parent
NOBODY = 65534


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Place caches of a package and a home that can be written or not: what the variables then say."""
    monkeypatch.setattr(caches, "sys", SimpleNamespace(modules={}))
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    real = can_be_made

    def placed(*read_only):
        def made(folder):
            return not any(folder.is_relative_to(tmp_path / name) for name in read_only) and real(folder)

        monkeypatch.setattr(caches, "can_be_made", made)
        (tmp_path / "package" / "forward").mkdir(parents=True, exist_ok=True)
        (tmp_path / "package" / "forward" / "__init__.py").touch()
        place_caches(tmp_path / "package")
        return os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("MPLCONFIGDIR")

    return placed


@pytest.mark.parametrize("read_only", [(), ("package",), ("home",)])
def test_where_numba_finds_a_folder_nothing_is_set(place, read_only):
    assert place(*read_only)[0] is None


def test_one_folder_of_the_package_that_cannot_be_written_counts(place, tmp_path):
    assert place("package/forward", "home")[0] == str(tmp_path / "cache" / "numba")


def test_else_kernels_go_to_popcats_cache_which_they_leave_private(place, tmp_path):
    assert place("package", "home") == (str(tmp_path / "cache" / "numba"), str(tmp_path / "cache" / "matplotlib"))
    assert (tmp_path / "cache" / "numba").stat().st_mode & 0o777 == 0o700


def test_else_to_a_private_folder_for_temporary_files(place, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    own = tmp_path / f"popcat-{os.geteuid()}"
    assert place("package", "home") == (str(own / "numba"), str(own / "matplotlib"))
    assert own.stat().st_mode & 0o777 == 0o700
    os.environ.pop("NUMBA_CACHE_DIR")
    assert place("package", "home")[0] == str(own / "numba"), "and again to the same"


def make_open(folder):
    folder.mkdir()
    folder.chmod(0o777)


def make_link(folder):
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


def make_foreign(folder):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


@pytest.mark.parametrize("make", [make_open, make_link, make_foreign])
def test_a_folder_that_others_can_write_is_not_trusted(place, tmp_path, make):
    """numba runs what it finds there."""
    (tmp_path / "cache").write_text("no folder")
    make(tmp_path / f"popcat-{os.geteuid()}")
    assert place("package", "home") == (None, None)


def test_a_variable_that_is_set_stays(place, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/of/the/user")
    assert place("package", "home")[0] == "/of/the/user"


def test_a_numba_that_is_imported_already_is_told(place, monkeypatch, tmp_path):
    config = SimpleNamespace(CACHE_DIR="")
    monkeypatch.setattr(caches, "sys", SimpleNamespace(modules={"numba": SimpleNamespace(config=config)}))
    place("package", "home")
    assert str(tmp_path / "cache" / "numba") == config.CACHE_DIR


def test_an_account_without_a_home_is_one_whose_home_cannot_be_written(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(caches.Path, "home", homeless)
    for name in ("POPCAT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert caches.cache_folder() == Path("/nonexistent/.cache/popcat")


def test_the_doctor_says_where_kernels_are_kept():
    check = diagnosis.check_numba()
    assert check.ok and "keeps kernels in /" in check.detail


def test_the_doctor_says_what_helps_where_numba_finds_no_folder(monkeypatch):
    class NoFolder:
        @property
        def philox4x32(self):
            raise RuntimeError("cannot cache function 'philox4x32': no locator available for file 'rng.py'")

    monkeypatch.setitem(sys.modules, "popcat.rng", NoFolder())
    check = diagnosis.check_numba()
    assert check.ok is False and "no locator" in check.detail and "NUMBA_CACHE_DIR" in check.remedy


def test_the_command_line_says_so_in_one_line(monkeypatch, capsys):
    def fails():
        raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.startswith("Error: numba has no folder") and "NUMBA_CACHE_DIR" in line


def test_band_tables_that_cannot_be_kept_are_not_made(monkeypatch, tmp_path):
    def made(*_, **__):
        raise AssertionError("minutes, for nothing")

    (tmp_path / "file").touch()
    monkeypatch.setattr(tables, "cache_folder", lambda: tmp_path / "file" / "popcat")
    monkeypatch.setattr(tables, "_table_key", lambda *_: "0" * 64)
    monkeypatch.setattr(tables, "build_tables", made)
    said = r"cannot keep band tables in .*file/popcat: it cannot be written; .*POPCAT_CACHE"
    with pytest.raises(PopcatError, match=said):
        tables.load_tables(load_survey("sdss"), GalaxyModel())


@pytest.fixture
def as_nobody(tmp_path):
    """Run Python with a copy of the package that cannot be written, as a user whose home is not there."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "popcat", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [site, *site.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    user = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        # it may read everything, as root's own Python is where nobody else looks, and write nothing
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]  # fmt: skip

    def run(code, **variables):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POPCAT", "NUMBA_C", "XDG"))}
        environment = {**kept, "HOME": "/nonexistent", "PYTHONPATH": str(site), **variables}
        command = [*user, sys.executable, "-c", code]
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)

    yield run
    for path in [site, *site.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


@pytest.mark.slow
def test_a_package_and_a_home_that_cannot_be_written_start_all_the_same(as_nobody, tmp_path):
    code = "import popcat; from popcat.rng import philox4x32; print(popcat.__file__, philox4x32.stats.cache_path)"
    done = as_nobody(code)
    if "Operation not permitted" in done.stderr:
        pytest.skip(f"this user cannot become another: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    source, kernels = done.stdout.split()
    assert source.startswith(str(tmp_path / "site"))
    assert f"/popcat-{os.geteuid() or NOBODY}/numba/" in kernels
    blind = as_nobody(code, TMPDIR="/proc", NUMBA_CACHE_DIR="/proc/none")
    assert "no locator available" in blind.stderr, "a folder that the user named is not replaced"
