"""Makes what the documentation shows from the code and from results: `make docs`.

columns.md is written from `hpcbench.records.columns`, and the pictures in figures/ from the
results in
results/ (of campaign.yaml, measured on a computer without a GPU). What such a computer cannot
show is drawn from the invented results of the tests, whose pictures say so.
"""

import inspect
import re
import sys
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from hpcbench.analysis.figures.kinds import KINDS, Picture, pictures  # noqa: E402
from hpcbench.analysis.figures.styles import PRESETS, preset  # noqa: E402
from hpcbench.analysis.summary.points import summarise  # noqa: E402
from hpcbench.records.columns import COLUMNS, SCHEMA_VERSION, Record  # noqa: E402
from hpcbench.records.frame import load_results  # noqa: E402
from tests.helpers.builders_results import results  # noqa: E402
from tests.helpers.builders_scan import with_everything  # noqa: E402

MEASURED = HERE / "results" / "jet_tagger.parquet"
NEEDS_GPUS = {
    "throughput_latency_vs_rate",
    "device_comparison",
    "throughput_utilisation_vs_instances",
    "gpu_scaling",
    "precision_accuracy",
}
"""What a computer without a GPU has nothing to show of."""

_DPI = 55

_SOURCES = {
    "What it is": "hpcbench, the campaign and the site file.",
    "What was asked for": "The campaign file; digests are of the files that it names.",
    "What the server says that it loaded": "Triton's answer to a request for the configuration "
    "of the model, after it was loaded.",
    "Throughput and latency, as perf_analyzer saw them": "perf_analyzer: its CSV where a header is "
    "given, else its printed report.",
    "Time inside the server, mean per request": "Triton's statistics of the model, as "
    "perf_analyzer reports them.",
    "Stability": "perf_analyzer's line for each window.",
    "The device meanwhile": "Triton's metrics through perf_analyzer; the energy is NVML's counter.",
    "Where, when and with what": "The operating system, NVML, the batch system, and the programs "
    "themselves.",
}
"""Where the columns of each part of `Record` come from."""


def columns() -> str:
    """The reference of columns as Markdown, in the parts of `Record`."""
    parts = _parts()
    lines = _HEAD.format(version=SCHEMA_VERSION).splitlines()
    for title, names in parts.items():
        lines += ["", f"## {title}", "", _SOURCES.get(title, ""), ""]
        lines += ["| column | type | unit | meaning | header in perf_analyzer's CSV |"]
        lines += ["|---|---|---|---|---|"]
        for column in (column for column in COLUMNS if column.name in names):
            meaning = column.meaning.replace("|", "\\|")
            header = column.header and f"`{column.header}`"
            unit = "number" if column.unit == "1" else column.unit
            lines.append(f"| `{column.name}` | {column.type} | {unit} | {meaning} | {header} |")
    return "\n".join(lines) + "\n" + _DERIVED


_HEAD = """\
# Columns of a result

Made from `hpcbench/records/columns.py` by `make docs`; change it there. One row is one
measurement; a
figure that is missing is missing (null), never 0. This is schema version {version}.
"""

_DERIVED = """
## Derived in tables and figures

Over the repeats of a point each has its mean, `..._low` and `..._high` (95 % interval of Student's
t), `..._n`, `..._median`, `..._std`, `..._cv`, `..._min` and `..._max`.

| column | unit | from |
|---|---|---|
| `latency_ms` | ms | the percentile asked for, else the mean |
| `latency_avg_ms`, `latency_p50_ms`, ... | ms | the columns of the same name in us |
| `gpu_utilization_percent` | % | `gpu_utilization_avg` |
| `gpu_power_w` | W | `gpu_energy_j` / `perf_analyzer_s`, else `gpu_power_avg_w` times `gpu_count` |
| `gpu_memory_gib` | GiB | `gpu_memory_max_bytes` |
| `infer_per_j` | 1/J | `throughput_infer_per_s` / `gpu_power_w` |

hpcbench does not compare outputs; the columns that a frame needs for the figure of precision
against accuracy stand in [its page](figures/precision_accuracy.md).
"""


def _parts() -> dict[str, list[str]]:
    """The fields of `Record` under the comments that divide it."""
    parts: dict[str, list[str]] = {}
    for line in inspect.getsource(Record).splitlines():
        if found := re.fullmatch(r"    # ([A-Z].*)", line):
            parts[found[1]] = []
        elif (found := re.match(r"    (\w+): ", line)) and parts:
            list(parts.values())[-1].append(found[1])
    return parts


def picture_of(name: str) -> Picture:
    """The picture that the page of a figure shows."""
    found, left_out = pictures(_points(name), [name])
    if not found:
        raise SystemExit(f"docs: {name} cannot be drawn: {left_out[name]}")
    return found[0]


def _points(name: str) -> pd.DataFrame:
    if name not in NEEDS_GPUS:
        return summarise(load_results(MEASURED))
    frame = invented()
    if name in ("precision_accuracy", "gpu_scaling"):
        frame = with_everything(frame)
    return summarise(frame)


def invented() -> pd.DataFrame:
    """Results of two models on three GPUs that nobody measured, with loads in open loop, too."""
    folder = HERE / "results" / ".invented"
    folder.mkdir(parents=True, exist_ok=True)
    frame = results(folder, models=2, batching=(None,), concurrencies=(4, 16))
    (folder / "results.parquet").unlink()
    folder.rmdir()
    open_loop = frame[(frame["concurrency"] == 4) & (frame["batch_size"] == 8)]
    rated = []
    for rate in (50.0, 100.0, 200.0, 400.0, 800.0):
        capacity = open_loop["throughput_infer_per_s"]
        asked = (rate * open_loop["batch_size"]).astype(float)
        busy = (asked / capacity).clip(upper=0.98)
        waiting = open_loop["latency_percentile_us"] * (0.5 + 0.5 / (1 - busy))
        rated.append(
            open_loop.assign(
                concurrency=pd.NA,
                request_rate=rate,
                throughput_infer_per_s=capacity.where(capacity < asked, asked),
                latency_percentile_us=waiting,
            )
        )
    return pd.concat([frame, *rated], ignore_index=True).assign(campaign="invented numbers")


def draw(picture: Picture, style: str, path: Path) -> None:
    """Writes the picture, small enough for a repository."""
    figure = picture.draw(style)
    stream = BytesIO()
    with preset(style).active():
        figure.savefig(stream, dpi=_DPI)
    # A palette would be smaller still, but merges the colours of thin lines.
    Image.open(stream).convert("RGB").save(path, optimize=True)


def main() -> None:
    """Writes columns.md and every picture."""
    (HERE / "columns.md").write_text(columns())
    for kind in KINDS:
        draw(picture_of(kind.name), "cms", HERE / "figures" / f"{kind.name}.png")
    scan = picture_of("latency_vs_throughput")
    for style in PRESETS:
        draw(scan, style, HERE / "figures" / f"style_{style}.png")


if __name__ == "__main__":
    main()
