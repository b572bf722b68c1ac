"""Local workers: nobody else gives them work; where they cannot start, one line says what to do."""

import asyncio
import os
import subprocess
import sys
import textwrap

import psutil
import pytest
from distributed import Security
from distributed.comm import CommClosedError, connect

from popcat.run.local import local_client

BODY = """
from popcat.run.runner import How, run
{call}
"""
CALL = 'outcomes = run(pow, {0: (2, 3), 1: (2, 4)}, verb="computing", how=How(workers=1))\nprint(len(outcomes), "done")'
GUARDED = "if __name__ == '__main__':\n" + textwrap.indent(CALL, "    ")


def script(path, text, **environment):
    path.write_text(BODY.format(call=text))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment}, check=False)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_script_that_its_own_workers_would_run_again_is_refused_before_one_starts(tmp_path):
    status, out, err = script(tmp_path / "plain.py", CALL)
    assert status == 1 and "done" not in out
    last = err.strip().splitlines()[-1]
    assert "line 3 of plain.py starts processes" in last and 'under `if __name__ == "__main__":`' in last
    assert err.count("popcat.errors.PopcatError") == 1 and "bootstrapping" not in err


IN_FUNCTION = f"def main():\n{textwrap.indent(CALL, '    ')}\nif '__main__' == __name__: main()"


@pytest.mark.parametrize("text", [GUARDED, IN_FUNCTION])
def test_a_script_with_a_guard_runs(tmp_path, text):
    status, out, err = script(tmp_path / "guarded.py", text)
    assert (status, out) == (0, "2 done\n"), err


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "scratch")
    status, _, err = script(tmp_path / "guarded.py", GUARDED, DASK_TEMPORARY_DIRECTORY=folder)
    last = err.strip().splitlines()[-1]
    assert status == 1 and "no local workers can be started" in last
    assert folder in last and "DASK_TEMPORARY_DIRECTORY" in last


def test_nobody_without_the_certificates_gives_local_workers_work():
    """A scheduler runs what it is sent, and every user of a machine reaches its ports on 127.0.0.1."""
    with local_client(1) as client:
        addresses = [client.scheduler.address]
        for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
            addresses += [address, worker["nanny"]]
        assert len(addresses) == 3 and all(address.startswith("tls://127.0.0.1:") for address in addresses)
        for address in addresses:
            asyncio.run(asked(address, client.security))
            for other in (None, Security.temporary()):
                plain = address if other else address.replace("tls", "tcp")
                with pytest.raises((OSError, CommClosedError)):
                    asyncio.run(asked(plain, other))
        assert client.submit(pow, 2, 3).result() == 8


async def asked(address, security):
    """An answer of whatever listens there, to the handshake that comes before any work."""
    options = {} if security is None else security.get_connection_args("client")
    comm = await connect(address, timeout=2, **options)
    comm.abort()


def test_the_dashboard_is_on_the_loopback_interface_and_nothing_else_listens_elsewhere():
    with local_client(1) as client:
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [one.laddr.ip for process in processes for one in process.net_connections("inet")
                     if one.status == psutil.CONN_LISTEN]  # fmt: skip
        assert listening and set(listening) == {"127.0.0.1"}


NO_PORT = """
import psutil
from popcat.run.runner import How, run
run(pow, {0: (2, 3), 1: (2, 4)}, verb="computing", how=How(%s), seconds=0.1)
print([one.status for one in psutil.Process().net_connections("inet")])
"""


@pytest.mark.parametrize("how", ["'synchronous'", ""])
def test_work_in_this_process_opens_no_port(tmp_path, how):
    (tmp_path / "here.py").write_text(NO_PORT % how)
    done = subprocess.run([sys.executable, tmp_path / "here.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


FAILING = """
from popcat.errors import PopcatError
from popcat.run.runner import How, run

def refused(i):
    raise PopcatError(f"part {i} is refused in a line")

if __name__ == "__main__":
    print([str(one.error) for one in run(refused, {0: (0,), 1: (1,)}, verb="refusing", how=How(workers=1)).values()])
"""


def test_what_popcat_refuses_on_a_worker_shows_no_traceback(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    done = subprocess.run([sys.executable, tmp_path / "failing.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "['part 0 is refused in a line', 'part 1 is refused in a line']\n"
    assert "Traceback" not in done.stderr and "Compute Failed" not in done.stderr
