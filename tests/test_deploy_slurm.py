"""Jobs on SLURM, of fake commands: each run has its own folder, of any name, and no job idles on after the run."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
DEPLOY = Path(__file__).parents[1] / "deploy"
ODD = "a & b's | c%d \\1"
"""Of what sed, YAML and sbatch make something else."""


def command(folder, name, text):
    """A command of that name, which a shell script stands for; what it is called with is appended to a file."""
    (folder / name).write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "{name} $*" >>{folder.parent}/called\n{text}\n')
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path):
    """The environment of a user whose sbatch only counts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "bin").mkdir()
    command(tmp_path / "bin", "sbatch", f"wc -l <{tmp_path}/called")
    return {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "POPCAT_RUN": str(tmp_path / "run"),
            "HOME": str(tmp_path)}  # fmt: skip


@pytest.fixture
def job(slurm, tmp_path):
    """Start a job of a run whose commands do nothing; `called` is what they were called with."""
    commands, run = tmp_path / "bin", tmp_path / "run"
    run.mkdir()
    (run / "jobs").write_text("11 12\n")
    (run / "client").write_text("13\n")
    for name in ("scancel", "squeue", "dask", "popcat"):
        command(commands, name, "echo 13 RUNNING" if name == "squeue" else "")
    environment = {**slurm, "POPCAT_DEPLOY": str(DEPLOY), "POPCAT_ENV": str(tmp_path / "no"), "POPCAT_WAIT": "30",
                   "POPCAT_POLL": "0.1", "SLURM_CPUS_PER_TASK": "4"}  # fmt: skip

    def started(name, *arguments, scheduler=True, **variables):
        if scheduler:
            (run / "scheduler.json").write_text("{}")
        with open(tmp_path / "log", "w") as log:
            begun.append(subprocess.Popen(["bash", DEPLOY / "slurm" / name, *arguments], stdout=log, stderr=log,
                                          env={**environment, **variables}))  # fmt: skip
        return begun[-1]

    begun: list[subprocess.Popen] = []
    started.commands, started.run, started.said = commands, run, lambda: (tmp_path / "log").read_text()
    started.called = lambda: (tmp_path / "called").read_text().splitlines() if (tmp_path / "called").exists() else []
    yield started
    for process in begun:
        process.kill()
        process.wait()


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["plain", ODD, 'with "quotes": # no comment'])
def test_a_configuration_names_any_folder(tmp_path, name):
    config = subprocess.run([DEPLOY / "config.sh", tmp_path / name], check=True, capture_output=True, text=True).stdout
    tls = yaml.safe_load(config)["distributed"]["comm"]["tls"]
    assert tls["ca-file"] == str(tmp_path / name / "ca.pem")
    assert {tls[role]["key"] for role in ("scheduler", "worker", "client")} == {str(tmp_path / name / "node.key")}


def test_submit_works_in_a_folder_of_any_name(slurm, tmp_path):
    deploy = tmp_path / ODD / "deploy"
    shutil.copytree(DEPLOY, deploy)
    run = tmp_path / ODD / "run"
    command = [deploy / "slurm" / "submit.sh", "my galaxies & yours.parquet", "-o", "out"]
    subprocess.run(command, env={**slurm, "POPCAT_RUN": str(run)}, check=True, capture_output=True)
    comm = yaml.safe_load((run / "dask.yaml").read_text())["distributed"]["comm"]
    assert Path(comm["tls"]["ca-file"]).is_file() and Path(comm["tls"]["client"]["key"]).is_file()
    calls = (tmp_path / "called").read_text()
    assert f"--output={str(run).replace('%', '%%')}/%x-%j.log" in calls
    assert calls.splitlines()[2].endswith("infer.sbatch my galaxies & yours.parquet -o out")


def test_each_run_has_a_folder_of_its_own(slurm, tmp_path):
    environment = {name: value for name, value in slurm.items() if name != "POPCAT_RUN"}
    for _ in range(2):
        submit = [DEPLOY / "slurm" / "submit.sh", "catalog.parquet", "-o", "out"]
        subprocess.run(submit, env=environment, check=True, capture_output=True)
    runs = list((tmp_path / "popcat-runs").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert {path.name for path in run.iterdir()} == {"tls", "dask.yaml", "jobs", "client"}
        assert run.stat().st_mode & 0o077 == 0
    assert all("--export=ALL" in call for call in (tmp_path / "called").read_text().splitlines())


@pytest.mark.parametrize("status", [0, 3])
def test_however_the_client_ends_so_do_scheduler_and_workers(job, status):
    command(job.commands, "popcat", f"exit {status}")
    assert job("infer.sbatch", "my catalog.parquet", "-o", "out").wait() == status
    popcat, scancel = job.called()
    assert popcat.startswith("popcat infer my catalog.parquet -o out --client ") and scancel == "scancel 11 12"


def test_a_client_at_its_time_limit_stops_in_order_and_ends_the_others(job):
    command(job.commands, "popcat", 'trap "echo popcat was told >>$POPCAT_RUN/told; exit 130" TERM; '
                                    "touch $POPCAT_RUN/begun; while true; do sleep 0.05; done")  # fmt: skip
    process = job("infer.sbatch", "catalog.parquet", "-o", "out")
    wait_for((job.run / "begun").exists)
    process.terminate()  # as #SBATCH --signal=B:TERM does, to the script alone
    assert process.wait(30) == 130
    assert (job.run / "told").exists() and job.called()[-1] == "scancel 11 12"


@pytest.mark.parametrize("name", ["infer.sbatch", "cpu-workers.sbatch", "gpu-workers.sbatch"])
def test_a_job_whose_scheduler_never_comes_ends(job, name):
    process = job(name, "catalog.parquet", scheduler=False, POPCAT_WAIT="0")
    assert process.wait(30) == 1
    assert "no scheduler wrote" in job.said() and "popcat-scheduler" in job.said()
    assert job.called() == (["scancel 11 12"] if name == "infer.sbatch" else [])


def test_a_scheduler_ends_when_its_client_is_over_and_takes_its_file_along(job):
    command(job.commands, "dask", 'echo "{}" >"$POPCAT_RUN/scheduler.json"; exec sleep 60')
    process = job("scheduler.sbatch", scheduler=False)
    wait_for(lambda: sum(call.startswith("squeue") for call in job.called()) >= 2)
    assert process.poll() is None, "as long as the client waits or runs"
    command(job.commands, "squeue", "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    calls = len(job.called())
    wait_for(lambda: len(job.called()) >= calls + 3)
    assert process.poll() is None, "and while nobody knows"
    command(job.commands, "squeue", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    process.wait(30)
    assert "the client's job is over" in job.said() and not (job.run / "scheduler.json").exists()


@pytest.mark.parametrize("name", ["cpu-workers.sbatch", "gpu-workers.sbatch"])
def test_workers_end_with_their_scheduler(job, name):
    command(job.commands, "dask", "exit 4")
    assert job(name).wait(30) == 4
    (call,) = job.called()
    assert "--death-timeout 600" in call and "--nworkers 4" in call


def test_every_job_has_a_time_limit_and_is_told_before_it():
    for path in (DEPLOY / "slurm").glob("*.sbatch"):
        text = path.read_text()
        assert re.search(r"^#SBATCH --time=[\d:]+$", text, re.M), path.name
        assert re.search(r"^#SBATCH --signal=B:TERM@\d+$", text, re.M), path.name


def test_jobs_of_a_submission_that_fails_halfway_are_cancelled(job, slurm, tmp_path):
    command(job.commands, "sbatch", f"[[ $* == *infer.sbatch* ]] && exit 1; wc -l <{tmp_path}/called")
    (job.run / "client").unlink()
    submit = [DEPLOY / "slurm" / "submit.sh", "catalog.parquet", "-o", "out"]
    assert subprocess.run(submit, env=slurm, capture_output=True).returncode == 1
    assert job.called()[-1] == "scancel 1 2"


def test_a_folder_of_a_run_that_is_not_over_is_refused(job, slurm):
    submit = [DEPLOY / "slurm" / "submit.sh", "catalog.parquet", "-o", "out"]
    done = subprocess.run(submit, env=slurm, capture_output=True, text=True)
    assert done.returncode == 2 and "a run that is not over (job 13)" in done.stderr
    assert not any(call.startswith("sbatch") for call in job.called())
