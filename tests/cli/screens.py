"""What a terminal shows of one study, as `tests/data/screens` has it.

``python -m tests.cli.screens`` writes these files again; read the difference before you keep it.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from hpcbench.cli.console import print_lines
from hpcbench.cli.plan_text import print_plan
from hpcbench.cli.progress import progress
from hpcbench.cli.results_table import results_table
from hpcbench.cli.run_end import print_end
from hpcbench.cli.statuses import reason_lines
from hpcbench.cluster.driver import summarise
from hpcbench.cluster.events import Planned, point_measured
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from hpcbench.plan.initial_record import plan_rows
from hpcbench.plan.order import make_placements
from hpcbench.plan.plan import Plan
from hpcbench.records.columns import Record
from hpcbench.records.folder import Results
from hpcbench.records.frame import load_results
from hpcbench.records.store import write_plan, write_records
from tests.helpers.builders import NOON, campaign, expanded, record
from tests.helpers.paths import DATA

FOLDER = DATA / "screens"
WIDTHS = (60, 80, 120, 200)

LONG = "ParticleNet AK4 (ONNX Runtime)"
OUT_OF_MEMORY = (
    "the model did not load: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 14.58 GiB "
    "total capacity; 13.31 GiB already allocated)"
)

STUDIES: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "one_axis": ({"load": {"batch_size": [1, 8, 64], "concurrency": 4}}, ("cpu",)),
    "two_axes": (
        {
            "server": {"instance_count": ["base", 2]},
            "load": {"batch_size": [1, 64], "concurrency": 4},
        },
        ("cpu",),
    ),
    "three_axes_two_pools": (
        {
            "models": [{"name": "tagger", "label": LONG}, {"name": "jets", "label": "Jets"}],
            "server": {"instance_count": [1, 2], "preferred_batch_size": [None, [4, 8]]},
            "load": {"batch_size": [1, 64], "concurrency": 4},
        },
        ("a100-80gb-sxm4", "t4"),
    ),
    "four_axes_two_pools": (
        {
            "models": [{"name": "tagger", "label": LONG}],
            "server": {
                "instance_count": [1, 2],
                "preferred_batch_size": [[4, 8]],
                "max_queue_delay_us": [100, 5000],
            },
            "load": {"batch_size": [1, 64], "concurrency": 4},
            "measurement": {"protocol": ["grpc", "http"]},
        },
        ("a100-80gb-sxm4", "t4"),
    ),
}
"""Changes of a campaign, and the pools on which it is measured."""


_BAR = re.compile(r"\d+/\d+ \d:\d\d:\d\d|^$")


def plan_of(name: str) -> Plan:
    """The plan of a study."""
    changes, pools = STUDIES[name]
    study: Campaign = campaign(**changes)
    site = Site(name="here", container={"prefix": "/p"}, pools={pool: {} for pool in pools})
    found = expanded(study)
    placements = {
        pool: tuple(
            make_placements(
                found.points,
                campaign=study.name,
                pool=pool,
                repeats=study.repeats,
                fresh_servers=True,
            )
        )
        for pool in pools
    }
    return Plan(study, site, found, placements)


def records_of(name: str) -> list[Record]:
    """A measurement for each row of the plan: fast, but for what a small GPU cannot hold."""
    todo = plan_of(name)
    labels = [model.label or model.name for model in todo.campaign.models]
    return [
        _record(number, row, labels.index(row["model_label"]))
        for number, row in enumerate(plan_rows(todo))
    ]


def _record(number: int, row: Mapping[str, Any], position: int) -> Record:
    asked = {key: value for key, value in row.items() if key != "batch_size"}
    fixed = {**asked, "batch_size": row["batch_size"], "model_position": position}
    if row["pool"] == "t4" and row["batch_size"] == 64:
        failed = {"status": "failed", "reason": OUT_OF_MEMORY, "throughput_infer_per_s": None}
        return record(number, **fixed, **failed, ended_at=NOON)
    latency = 1234.5 + 100.0 * number
    unstable = {"status": "unstable", "reason": "did not settle: by 12 %"} if number == 1 else {}
    return record(
        number,
        **fixed,
        **unstable,
        throughput_infer_per_s=4e6 * row["batch_size"] / latency,
        cpu_name="AMD EPYC 7763 64-Core Processor",
        cpu_count=32,
        latency_avg_us=latency,
        latency_p95_us=1.2 * latency,
        latency_p99_us=1.5 * latency,
        ended_at=NOON,
    )


def write_results(name: str, folder: Path) -> Results:
    """Write the results folder that a run of the study leaves."""
    results = Results(folder)
    results.create()
    records = records_of(name)
    # As workers write them: in no order that a person would choose.
    write_records(results.records / "all.parquet", records[::2] + records[1::2])
    write_plan(results, plan_rows(plan_of(name)))
    return results


@lru_cache
def results_of(name: str) -> pd.DataFrame:
    """The measurements as they come back from a results folder."""
    with tempfile.TemporaryDirectory() as folder:
        return load_results(write_results(name, Path(folder)).folder)


def results_screen(name: str, width: int | None) -> str:
    """The table at the end of a run."""
    return printed(results_table(results_of(name)).lines(width))


def plan_screen(name: str, width: int) -> str:
    """What `hpcbench plan` prints."""
    console = terminal(width)
    print_plan(plan_of(name), console)
    return text_of(console)


def progress_screen(name: str, width: int) -> str:
    """What a run prints, without its bar."""
    console = terminal(width)
    with progress(console) as listener:
        listener(Planned(plan_of(name)))
        for entry in records_of(name)[::5]:
            listener(point_measured(entry))
    # The bar is drawn over and over, at whatever moments.
    lines = [line for line in text_of(console).splitlines() if not _BAR.search(line)]
    return re.sub(r"^\d\d:\d\d ", "12:00 ", "\n".join(lines), flags=re.MULTILINE) + "\n"


def reasons_screen(name: str, width: int | None) -> str:
    """What `hpcbench status` says of points that failed or did not settle."""
    columns = plan_rows(plan_of(name))[0]
    rows = [
        {
            **{key: getattr(each, key) for key in columns},
            "status": each.status,
            "reason": each.reason,
        }
        for each in records_of(name)
    ]
    return "".join(f"{line}\n" for line in reason_lines(rows, width))


def end_screen(name: str, width: int) -> str:
    """What a run prints below its table."""
    console = terminal(width)
    with tempfile.TemporaryDirectory() as folder:
        summary = summarise(write_results(name, Path(folder)))
        print_end(summary, Path("results/study"), terminal(width), console)
    return text_of(console)


SCREENS = {
    "plan": plan_screen,
    "progress": progress_screen,
    "results": results_screen,
    "reasons": reasons_screen,
    "end": end_screen,
}


def terminal(width: int) -> Console:
    """A terminal of this width, without colours, whose text `text_of` returns."""
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def text_of(console: Console) -> str:
    """What was printed, without the sequences that move a cursor."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")


def printed(lines: Iterable[Text]) -> str:
    """The lines as text."""
    console = terminal(80)
    print_lines(console, lines)
    return text_of(console)


def all_screens(kind: str, name: str, widths: Sequence[int] = WIDTHS) -> str:
    """One screen at every width, one below the other."""
    return "\n".join(f"=== {width} ===\n{SCREENS[kind](name, width)}" for width in widths)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for kind, study in product(SCREENS, STUDIES):
        (FOLDER / f"{kind}_{study}.txt").write_text(all_screens(kind, study))
