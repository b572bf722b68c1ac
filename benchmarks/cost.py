"""What a survey costs, by multiplication: measured rates times prices that are stated as options.

    core hours   galaxies x core time per galaxy
    GPU hours    galaxies / rate of one GPU; no rate is assumed: popcat's has not been measured at this size
    requests     parts x requests per part, as benchmarks/object_store.py counts them
    money        hours, requests and a month of storage at the prices given

The defaults of rates are those of docs/measured.md, each named in the table. Prices are round numbers of the size that
large clouds ask in 2026, on demand: give your own. Reading the catalogue back, traffic out of the cloud's region and
people's time are not in it.
"""

import math

from environment import conclude, parser, print_table

HOUR_S, GB = 3600.0, 1e9
OPTIONS = (
    ("galaxies", 1e10, "in the survey"),
    ("rows", 20_000, "galaxies in a part"),
    ("ms", 1.24, "core time per galaxy without --certify (survey_scale.py: a million galaxies, 2 workers)"),
    ("certified-ms", 5.8, "core time per galaxy with --certify (survey_scale.py --certify: a million mocks)"),
    ("real-certified-ms", 9.3, "the same for real galaxies (--ms, and 8.1 ms as certified.py found)"),
    ("kb", 7.1, "kB of Parquet per galaxy, 100 draws of each quantity"),
    ("puts", 2.6, "PUT requests per part (object_store.py: 51 for 20 parts)"),
    ("gets", 13.0, "GET and HEAD requests per part (object_store.py: 260 for 20 parts)"),
    ("cores", 1_000, "at work at a time, for the hours that a run takes"),
    ("core-hour", 0.05, "US dollars"),
    ("gpu-hour", 3.0, "US dollars"),
    ("put-1000", 0.005, "US dollars for 1,000 PUT requests"),
    ("get-1000", 0.0004, "US dollars for 1,000 GET or HEAD requests"),
    ("gb-month", 0.023, "US dollars for storing a GB for a month"),
)


def main():
    arguments = parser(__doc__)
    for name, value, words in OPTIONS:
        arguments.add_argument(f"--{name}", type=float, default=value, help=f"{words} ({value:g})")
    arguments.add_argument("--gpu-rate", type=float, help="galaxies per second of one GPU, as you measured it")
    arguments = arguments.parse_args()
    rows = costs(arguments)
    print_table(rows, f"{arguments.galaxies:,.0f} galaxies in {parts_of(arguments):,} parts")
    conclude(arguments.json, {"parameters": {name: getattr(arguments, name.replace("-", "_")) for name, *_ in OPTIONS},
                              "parts": parts_of(arguments), "costs": rows})  # fmt: skip


def parts_of(arguments) -> int:
    return math.ceil(arguments.galaxies / arguments.rows)


def costs(arguments) -> list[dict]:
    """One line for each thing that is paid for."""
    n, parts = arguments.galaxies, parts_of(arguments)
    lines = []
    for what, ms in (("posteriors", arguments.ms), ("with --certify, mocks", arguments.certified_ms),
                     ("with --certify, real galaxies", arguments.real_certified_ms)):  # fmt: skip
        hours = n * ms / 1e3 / HOUR_S
        lines.append(line(what, hours, "core hours", hours * arguments.core_hour, hours / arguments.cores))
    if arguments.gpu_rate:
        hours = n / arguments.gpu_rate / HOUR_S
        lines.append(line("posteriors on GPUs", hours, "GPU hours", hours * arguments.gpu_hour, None))
    puts, gets, size = parts * arguments.puts, parts * arguments.gets, n * arguments.kb * 1e3 / GB
    return [
        *lines,
        line("writing to a store", puts, "PUT requests", puts / 1e3 * arguments.put_1000, None),
        line("reading and looking", gets, "GET and HEAD requests", gets / 1e3 * arguments.get_1000, None),
        line("a month in the store", size, "GB", size * arguments.gb_month, None),
    ]


def line(what: str, amount: float, unit: str, dollars: float, hours: float | None) -> dict:
    return {"what": what, "amount": f"{amount:,.0f}", "of": unit, "hours on --cores": hours,
            "US dollars": f"{dollars:,.0f}"}  # fmt: skip


if __name__ == "__main__":
    main()
