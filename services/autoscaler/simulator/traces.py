"""Makes loads of published traces: `python -m autoscaler.simulator.traces azure FILE > load.csv`.

`azure` is the conversation trace of Azure's LLM inference of 2023, `genai` the image generation jobs
(`lora_request_trace`) of Alibaba's cluster-trace-v2026-GenAI. Neither is part of this repository.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random

from autoscaler.simulator.loads import (
    MINUTE,
    PROMISE,
    WIDE_PROMISE,
    Load,
    Maker,
    Row,
    load_of,
    rows,
    seconds,
    write_csv,
)
from autoscaler.simulator.setting import Setting

SECONDS_PER_TOKEN = 0.05
LEAST_SECONDS = 0.2
GENAI_DAY = "2024-12-03"
GENAI_REPEATS = 10
GENAI_JITTER_SECONDS = MINUTE


def azure(path: Path) -> Load:
    """Take each request as a task whose service time is in proportion to the tokens it generates."""
    times, services = [], []
    for where, row in rows(path, ("TIMESTAMP", "GeneratedTokens")):
        times.append(_time(row, "TIMESTAMP", where))
        services.append(max(LEAST_SECONDS, SECONDS_PER_TOKEN * _count(row, "GeneratedTokens", where)))
    if not times:
        raise ValueError(f"{path}: there are no requests; every line after the header must be one")
    start = min(times)
    return load_of(
        "azure",
        (((time - start).total_seconds(), service) for time, service in zip(times, services, strict=True)),
    )


def genai(path: Path, day: str = GENAI_DAY, seed: int = 0) -> Load:
    """Take the jobs of a day that succeeded, each ten times with a jitter, as one day has too few."""
    random = Random(f"genai {seed}")
    midnight = datetime.fromisoformat(day)
    tasks = []
    for where, row in rows(path, ("gmt_create", "predict_status", "exec_time_seconds")):
        time = _time(row, "gmt_create", where)
        if time.date() == midnight.date() and row["predict_status"] == "SUCCEED":
            arrival = (time - midnight).total_seconds()
            service = seconds(row, "exec_time_seconds", where)
            tasks += [
                (arrival + random.uniform(0, GENAI_JITTER_SECONDS), service) for _ in range(GENAI_REPEATS)
            ]
    if not tasks:
        raise ValueError(f"{path}: there are no jobs that succeeded on {day}; take the trace that has them")
    return load_of("genai", tasks)


def _time(row: Row, field: str, where: str) -> datetime:
    text = row[field]
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=None)
    except ValueError:
        raise ValueError(
            f"{where}: {field} is {text!r}; it must be a time like 2024-12-03 00:00:06"
        ) from None


def _count(row: Row, field: str, where: str) -> int:
    text = row[field] or ""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{where}: {field} is {text!r}; it must be a whole number, 0 or more")
    return int(text)


CONVERTERS: Mapping[str, Callable[[Path], Load]] = {"azure": azure, "genai": genai}
FILES: Mapping[str, str] = {"azure": "azure_llm_conv.csv", "genai": "genai_jobs.csv"}
SETTINGS: Mapping[str, Setting] = {"azure": PROMISE, "genai": WIDE_PROMISE}


def common(folder: Path) -> Mapping[str, tuple[Maker, Setting]]:
    """Name the traces of a folder as `loads.COMMON` names the made-up loads."""
    for file in FILES.values():
        if not (folder / file).is_file():
            raise ValueError(f"{folder}: {file} is missing; the folder must have {', '.join(FILES.values())}")
    return {name: (partial(CONVERTERS[name], folder / file), SETTINGS[name]) for name, file in FILES.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the load of a trace to the standard output; bad files end it with one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m autoscaler.simulator.traces", description="Make a load of a published trace."
    )
    parser.add_argument("kind", choices=CONVERTERS, help="which trace it is")
    parser.add_argument("file", type=Path, metavar="FILE", help="the CSV file, as it was published")
    given = parser.parse_args(arguments)
    try:
        write_csv(CONVERTERS[given.kind](given.file), sys.stdout)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
