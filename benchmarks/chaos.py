"""What runs live through: a seed draws an operation, a fault and a moment; then the same command is given again.

Held: the second command gives the bytes of an undisturbed run, or one line says why not; no row is lost or doubled;
`popcat verify` finds nothing. Real processes, on files of this machine; a disk that fills needs leave to mount.

    recovered   the rerun ended well, with the bytes of an undisturbed run
    refused     the command, or the rerun, ended with one line that says why, and that is right: the input had changed,
                another run wrote there, the folder was of other settings

Exit status 1 if anything else happened. A seed that failed is tried again with `--first SEED --seeds 1`.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.catalog.manifest import is_output, read_manifest
from popcat.catalog.verification import verify

from environment import conclude, parser, print_table

PATIENCE_S = 600
GALAXIES = 2000
TRAINING = """
n_blocks = 1
hidden = 16
n_layers = 1
batch = 256
max_epochs = 4
redshift_hidden = 16
redshift_epochs = 3
"""
PRIOR = """
[tau_ism]
family = "normal"
mean = 1.5
sigma = 0.3
"""


@dataclass
class Operation:
    """A command that writes to a folder, or a file, whose name comes last."""

    name: str
    words: list
    is_parallel: bool = False
    reads: Path | None = None
    """The catalogue that it reads."""
    reference: dict = field(default_factory=dict)
    seconds: float = 0.0

    def command(self, output: Path, *more) -> list[str]:
        return [sys.executable, "-m", "popcat", *map(str, [*self.words, *more, "-o", output])]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="how many (20)")
    options.add_argument("--first", type=int, default=0, help="the first seed (0)")
    options.add_argument("--only", nargs="*", help="operations, by name")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        operations = prepared(Path(scratch), arguments.only)
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        results = [tried(seed, operations, Path(scratch)) for seed in seeds]
    counts = Counter(one["outcome"] for one in results)
    for what in ("operation", "fault"):
        print_table(counted(results, what), f"Outcomes by {what}")
    summary = {"tried": len(results), "recovered": counts["recovered"], "refused": counts["refused"],
               "rows_lost": sum(one["rows_lost"] for one in results),
               "digest_differs": sum(one["differs"] for one in results)}  # fmt: skip
    print(json.dumps(summary))
    for one in (one for one in results if one["outcome"] == "WRONG"):
        print(json.dumps(one))
    conclude(arguments.json, {**summary, "results": results})
    sys.exit(1 if counts["WRONG"] else 0)


def counted(results: list[dict], what: str) -> list[dict]:
    """Numbers of outcomes by operation or by fault."""
    outcomes = Counter((one[what], one["outcome"]) for one in results)
    return [{what: name, **{outcome: outcomes[name, outcome] for outcome in ("recovered", "refused", "WRONG")}}
            for name in sorted({one[what] for one in results})]  # fmt: skip


def prepared(folder: Path, only: list[str] | None) -> list[Operation]:
    """The operations, each with the result of an undisturbed run and the seconds that it took."""
    galaxies = pq.read_table(files("popcat") / "data" / "galaxies_sdss.parquet")
    catalogue, few = folder / "galaxies.parquet", folder / "few.parquet"
    pq.write_table(galaxies.slice(0, GALAXIES), catalogue)
    pq.write_table(galaxies.slice(0, 60), few)
    settings, prior = folder / "training.toml", folder / "prior.toml"
    settings.write_text(TRAINING)
    prior.write_text(PRIOR)
    posteriors, library = folder / "posteriors", folder / "library"
    here, two = ["--client", "synchronous"], ["--workers", 2]
    infer = ["infer", catalogue, "--draws", 20, "--rows-per-partition", 50]
    subprocess.run(Operation("", [*infer, *here]).command(posteriors), check=True, capture_output=True)
    simulate = ["simulate", "--survey", "sdss", "-n", 200_000, "--rows-per-partition", 10_000]
    subprocess.run(Operation("", ["simulate", "-n", 6000, *here]).command(library), check=True, capture_output=True)
    population = ["population", "fit", posteriors, "--members", 1, "--samples", 1000, *here]
    made = [
        Operation("infer", [*infer, *here], reads=catalogue),
        Operation("infer on workers", [*infer, *two], is_parallel=True, reads=catalogue),
        Operation("certify", ["infer", few, "--draws", 20, "--rows-per-partition", 5, "--certify", "--budget-ms", 100,
                              "--target-ess", 50, *here], reads=few),
        Operation("simulate", [*simulate, *here]),
        Operation("simulate on workers", [*simulate, *two], is_parallel=True),
        Operation("reweight", ["reweight", posteriors, "--prior", prior, *here]),
        Operation("train", ["train", "--library", library, "--settings", settings, "--no-calibrate", *here]),
        Operation("population fit", population),
        Operation("export", ["export", posteriors, "--to", "fits"]),
    ]  # fmt: skip
    chosen = [one for one in made if only is None or one.name in only]
    for operation in chosen:
        output, start = folder / f"whole-{operation.name.replace(' ', '-')}", time.monotonic()
        done = subprocess.run(operation.command(output), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{operation.name} fails undisturbed: {done.stderr}")
        operation.seconds, operation.reference = time.monotonic() - start, contents(output)
    return chosen


def contents(output: Path) -> dict:
    """Hash of each file that holds numbers; records, and checkpoints in folders with "_", hold times."""
    found = [file for file in sorted(output.rglob("*")) if file.suffix in (".parquet", ".safetensors", ".fits")]
    named = {file.relative_to(output).as_posix(): file for file in found}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in named.items()
            if not name.startswith("_") and not file.name.startswith(".")}  # fmt: skip


def rows_in(folder: Path) -> int:
    return read_manifest(folder).rows if is_output(folder) else 0


def tried(seed: int, operations: list[Operation], scratch: Path) -> dict:
    """One seed: its operation, fault, moment, and what came of it."""
    draw = random.Random(seed)
    operation = draw.choice(operations)
    fault = draw.choice([name for name, one in FAULTS.items() if one.fits(operation)])
    case = Case(operation, scratch / f"seed-{seed}", draw, draw.uniform(0.05, 1.0) * operation.seconds)
    case.folder.mkdir()
    wrong = []
    try:
        first = FAULTS[fault].run(case)
        case.was_whole = case.out.exists() and contents(case.out) == operation.reference
        again = case.finished(case.start(*FAULTS[fault].again))
        outcome, differs, lost = judged(case, fault, again, wrong)
        if "Traceback" in first + again.said:
            wrong.append("a traceback")
    except Exception as error:
        outcome, differs, lost = "WRONG", False, 0
        wrong.append(f"{type(error).__name__}: {error}")
    finally:
        case.clean()
    outcome = "WRONG" if wrong else outcome
    result = {"seed": seed, "operation": operation.name, "fault": fault, "after_s": round(case.moment, 2),
              "outcome": outcome, "differs": differs, "rows_lost": lost, "why": wrong}  # fmt: skip
    print(json.dumps(result), flush=True)
    return result


def judged(case: "Case", fault: str, again: "Done", wrong: list) -> tuple[str, bool, int]:
    """The outcome of a rerun, whether its bytes differ, and the rows that are lost or doubled."""
    if FAULTS[fault].may_refuse and again.status == 2 and again.said.strip().splitlines()[-1].startswith("Error:"):
        if fault == "changed input" and (case.out / "_popcat" / "manifest.json").exists() and not case.was_whole:
            wrong.append("refused, and yet there is a manifest")
        return "refused", False, 0
    if again.status and not (case.was_whole and operation_is_done_once(case, again)):
        wrong.append(f"the rerun ended with status {again.status}: {again.said[-300:]}")
        return "WRONG", False, 0
    found = contents(case.out)
    differs = found != case.operation.reference
    if differs:
        wrong.append("other bytes than an undisturbed run")
    lost = 0
    if is_output(case.out):
        whole = case.folder.parent / f"whole-{case.operation.name.replace(' ', '-')}"
        lost = abs(rows_in(whole) - rows_in(case.out))
        wrong += [f"verify: {one.where}: {one.what}" for one in verify(case.out).problems]
    return "recovered", differs, lost


def operation_is_done_once(case: "Case", again: "Done") -> bool:
    """Whether a second command after a whole first one is refused, as a training and a FITS table are."""
    return case.operation.name in ("train", "export") and again.status == 2 and "Error:" in again.said


@dataclass
class Done:
    status: int
    said: str


@dataclass
class Case:
    """One operation in a folder of its own, a random number generator, and the moment of the fault."""

    operation: Operation
    folder: Path
    draw: random.Random
    moment: float
    was_whole: bool = False
    processes: list = field(default_factory=list)
    mounted: Path | None = None
    input: Path | None = None

    @property
    def out(self) -> Path:
        return (self.mounted or self.folder) / "out"

    def start(self, *more) -> subprocess.Popen:
        command = self.operation.command(self.out, *more)
        if self.input is not None:
            command = [str(self.input) if word == str(self.operation.reads) else word for word in command]
        log = open(self.folder / f"{len(self.processes)}.log", "w+")  # noqa: SIM115  closed by clean
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder)
        self.processes.append((process, log))
        return process

    def wait(self, process: subprocess.Popen) -> None:
        """Until the moment of the fault, or the end of the process."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.moment)

    def finished(self, process: subprocess.Popen) -> Done:
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise RuntimeError(f"it did not end within {PATIENCE_S} s") from None
        log = next(log for one, log in self.processes if one is process)
        log.seek(0)
        return Done(status, log.read())

    def signalled(self, process: subprocess.Popen, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    def clean(self) -> None:
        for process, log in self.processes:
            self.signalled(process, signal.SIGKILL)
            log.close()
        if self.mounted is not None:
            subprocess.run(["umount", "-l", self.mounted], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Fault:
    """What happens to a run: gives what the disturbed command said; `again` are options of the rerun."""

    run: object
    again: tuple = ()
    may_refuse: bool = False
    needs: str = ""

    def fits(self, operation: Operation) -> bool:
        is_folder = operation.name not in ("export",)
        return {"": True, "workers": operation.is_parallel, "input": operation.reads is not None, "folder": is_folder,
                "parts": operation.name.split()[0] in ("infer", "certify", "simulate"),
                "mount": is_folder and can_mount()}[self.needs]  # fmt: skip


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


def killed(number: int):
    def run(case: Case) -> str:
        process = case.start()
        case.wait(process)
        case.signalled(process, number)
        return case.finished(process).said if number != signal.SIGKILL else str(process.wait())

    return run


def stopped(case: Case) -> str:
    process = case.start()
    case.wait(process)
    case.signalled(process, signal.SIGSTOP)
    time.sleep(case.draw.uniform(1.0, 8.0))
    case.signalled(process, signal.SIGCONT)
    return case.finished(process).said


def worker_killed(case: Case) -> str:
    process = case.start()
    case.wait(process)
    with suppress(psutil.Error, IndexError):
        all_of_them = psutil.Process(process.pid).children(recursive=True)
        children = [one for one in all_of_them if "spawn_main" in " ".join(one.cmdline())]
        case.draw.choice(children).kill()
    return case.finished(process).said


def parts_of(case: Case) -> list[Path]:
    return sorted(case.out.glob("part-*.parquet"))


def part_deleted(case: Case) -> str:
    process = case.start()
    case.wait(process)
    for part in case.draw.sample(parts_of(case), min(2, len(parts_of(case)))):
        part.unlink()
    return case.finished(process).said


def bit_flipped(case: Case) -> str:
    """In a part, whose time of change stays, after the run was killed."""
    said = killed(signal.SIGKILL)(case)
    for part in parts_of(case)[:1]:
        status, content = part.stat(), bytearray(part.read_bytes())
        content[case.draw.randrange(len(content))] ^= 1 << case.draw.randrange(8)
        part.write_bytes(content)
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    return said


def renamed(case: Case) -> str:
    process = case.start()
    case.wait(process)
    moved = case.folder / "elsewhere"
    if case.out.exists():
        case.out.rename(moved)
    said = case.finished(process).said
    if moved.exists():
        shutil.rmtree(case.out, ignore_errors=True)
        moved.rename(case.out)
    return said


def disk_full(case: Case) -> str:
    disk = case.folder / "disk"
    disk.mkdir()
    size = case.draw.randrange(50, 2000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
    case.mounted = disk
    said = case.finished(case.start()).said
    subprocess.run(["mount", "-o", "remount,size=500m", disk], check=True)
    return said


def read_only(case: Case) -> str:
    disk = case.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", disk], check=True)
    case.mounted = disk
    process = case.start()
    case.wait(process)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=False)
    said = case.finished(process).said
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    return said


def input_changed(case: Case) -> str:
    """One flux of one row, in place, at the moment."""
    case.input = case.folder / "input.parquet"
    shutil.copyfile(case.operation.reads, case.input)
    process = case.start()
    case.wait(process)
    table = pq.read_table(case.input)
    flux = table["modelflux_r"].to_numpy().copy()
    flux[case.draw.randrange(len(flux))] *= 1.01
    changed = table.set_column(table.schema.get_field_index("modelflux_r"), "modelflux_r", pa.array(flux))
    pq.write_table(changed, case.input)
    return case.finished(process).said


def twice(case: Case) -> str:
    """The same command at the same time: one of them writes."""
    first, second = case.start(), case.start()
    done = [case.finished(one) for one in (first, second)]
    if any(one.status not in (0, 2) for one in done):
        raise RuntimeError(f"two runs at once: {[one.said[-200:] for one in done]}")
    return "".join(one.said for one in done)


def other_settings(case: Case) -> str:
    """Another run is begun in the folder first, and killed."""
    words = case.operation.words
    case.operation.words = [*words, "--seed", 99]
    try:
        said = killed(signal.SIGKILL)(case)
    finally:
        case.operation.words = words
    return said


def clock_back(case: Case) -> str:
    said = killed(signal.SIGKILL)(case)
    for file in [*case.out.rglob("*")] if case.out.exists() else []:
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns - 400 * 86400 * 10**9))
    return said


FAULTS = {
    "SIGKILL": Fault(killed(signal.SIGKILL)),
    "SIGTERM": Fault(killed(signal.SIGTERM)),
    "SIGINT": Fault(killed(signal.SIGINT)),
    "SIGSTOP": Fault(stopped),
    "worker killed": Fault(worker_killed, needs="workers"),
    "part deleted": Fault(part_deleted, needs="parts"),
    "bit flipped": Fault(bit_flipped, again=("--check",), needs="parts"),
    "folder renamed": Fault(renamed, needs="parts"),
    "disk full": Fault(disk_full, needs="mount"),
    "read-only": Fault(read_only, needs="mount"),
    "changed input": Fault(input_changed, may_refuse=True, needs="input"),
    "second client": Fault(twice, needs="folder"),
    "other settings": Fault(other_settings, may_refuse=True, needs="parts"),
    "clock set back": Fault(clock_back, needs="folder"),
}


if __name__ == "__main__":
    main()
