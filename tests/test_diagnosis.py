"""The doctor: says what works, never falls over itself, and names a remedy for everything that fails."""

import socket
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from popcat import diagnosis


def fail(*_):
    raise metadata.PackageNotFoundError


def test_every_check_runs_and_every_failure_has_a_remedy(monkeypatch):
    monkeypatch.delenv("SPS_HOME", raising=False)
    found = {check.name: check for check in diagnosis.doctor().checks}
    assert {"python", "packages", *diagnosis.DATA, "numba", "cache", "machine", "gpu", "fsps", "plugins"} == set(found)
    assert all(check.ok is True or check.remedy for check in found.values())
    assert all(check.detail and "\n" not in check.detail for check in found.values())
    assert [name for name in ("python", "numba", "cache", "machine") if not found[name].ok] == []


@pytest.mark.parametrize("name", diagnosis.DATA)
def test_embedded_data_are_readable(name):
    check = diagnosis._read_data(name, diagnosis.DATA[name])
    assert check.ok, check.detail


def test_the_scheduler_is_tried_only_if_named(monkeypatch):
    monkeypatch.setattr(diagnosis, "DATA", {})
    assert "scheduler" not in {check.name for check in diagnosis.doctor().checks}
    assert diagnosis.doctor(client="nowhere").checks[-1].name == "scheduler"


def test_an_exception_in_a_check_is_a_finding():
    check = diagnosis._guarded("broken", lambda: 1 / 0)
    assert (check.name, check.ok, check.detail) == ("broken", False, "ZeroDivisionError: division by zero")


def test_only_the_first_line_of_an_exception_is_shown():
    assert diagnosis._one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert diagnosis._one_line(ValueError()) == "ValueError: no message"


def test_unreadable_data_are_reported_with_a_remedy():
    check = diagnosis._read_data("grids", lambda: diagnosis._listing(iter(())))
    assert check.ok is False
    assert "none found" in check.detail and "reinstall" in check.remedy


def test_an_old_python_is_refused(monkeypatch):
    monkeypatch.setattr(diagnosis, "sys", SimpleNamespace(version_info=(3, 10, 1), executable=sys.executable))
    check = diagnosis.check_python()
    assert check.ok is False and "3.11" in check.remedy


def test_packages_are_held_to_the_declared_ranges(monkeypatch):
    lines = ["numpy>=1", "nosuchpackage>=1", "pandas>=999", 'alsomissing>=1; extra == "test"']
    monkeypatch.setattr(diagnosis.metadata, "requires", lambda _: lines)
    check = diagnosis.check_packages()
    assert check.ok is False
    assert check.detail == f"nosuchpackage is missing; pandas>=999, got {metadata.version('pandas')}"


def test_running_from_source_is_no_failure(monkeypatch):
    monkeypatch.setattr(diagnosis.metadata, "requires", fail)
    check = diagnosis.check_packages()
    assert check.ok is None and "pip install" in check.remedy


def test_the_cache_may_not_exist_yet(monkeypatch, tmp_path):
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "new" / "cache"))
    assert diagnosis.check_cache() == diagnosis.Check("cache", True, str(tmp_path / "new" / "cache"))
    assert list(tmp_path.iterdir()) == []


def test_a_cache_below_a_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "file" / "cache"))
    check = diagnosis.check_cache()
    assert check.ok is False and str(tmp_path / "file") in check.remedy


def test_sps_home_is_optional_but_must_be_right(monkeypatch, tmp_path):
    monkeypatch.delenv("SPS_HOME", raising=False)
    assert diagnosis.check_fsps().ok is None
    monkeypatch.setenv("SPS_HOME", str(tmp_path))
    check = diagnosis.check_fsps()
    assert check.ok is False and "lacks ISOCHRONES" in check.detail


def test_no_gpu_is_no_failure(monkeypatch):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), __version__="2")
    monkeypatch.setattr(diagnosis.importlib, "import_module", lambda _: torch)
    assert diagnosis.check_gpu().ok is None


def test_a_gpu_is_named(monkeypatch):
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, get_device_name=lambda _: "A GPU")
    monkeypatch.setattr(diagnosis.importlib, "import_module", lambda _: SimpleNamespace(cuda=cuda, __version__="2"))
    assert diagnosis.check_gpu() == diagnosis.Check("gpu", True, "A GPU")


def test_a_broken_torch_is_a_finding(monkeypatch):
    def broken(_):
        raise OSError("libcudart.so: no such file")

    monkeypatch.setattr(diagnosis.importlib, "import_module", broken)
    check = diagnosis.check_gpu()
    assert check.ok is False and "libcudart" in check.detail


def test_too_little_memory_is_a_finding(monkeypatch):
    monkeypatch.setattr(diagnosis, "_memory_bytes", lambda: 1_000_000_000)
    check = diagnosis.check_machine()
    assert check.ok is False and "1.0 GB" in check.detail


def test_a_listening_scheduler_is_found():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert diagnosis.check_scheduler(f"tcp://127.0.0.1:{port}").ok
        assert diagnosis.check_scheduler(f"tls://127.0.0.1:{port}").ok
    check = diagnosis.check_scheduler(f"tcp://127.0.0.1:{port}")
    assert check.ok is False and str(port) in check.remedy


@pytest.mark.parametrize("address", ["localhost:8786", "http://localhost:8786", "tcp://", "tcp://host:notaport", ""])
def test_what_is_no_address_is_refused_with_what_was_expected(address):
    check = diagnosis.check_scheduler(address)
    assert check.ok is False
    assert check.detail == f'expected tcp://HOST:PORT or tls://HOST:PORT, got "{address}"'


@pytest.mark.parametrize(
    "address, expected", [("tcp://host", ("host", 8786)), ("tls://[::1]:9000", ("::1", 9000)), ("tcp://h:1", ("h", 1))]
)
def test_addresses_are_parsed(address, expected):
    assert diagnosis._host_and_port(address) == expected
