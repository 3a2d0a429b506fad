"""Write the parts of the documentation that come from code and results: `make docs`.

columns.md comes from `hpcbench.records.columns`. The images in figures/ come from the results in
results/, which were measured with campaign.yaml and cms_models.yaml on a computer without a GPU, as
does cms_models.md. Figures that need GPUs are drawn from the invented results of the tests, and say
so.
"""

import inspect
import re
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from hpcbench.analysis.figures.registry import FIGURES, PreparedFigure, prepare_figures  # noqa: E402
from hpcbench.analysis.figures.styles import DEFAULT_STYLE, STYLES, get_style  # noqa: E402
from hpcbench.analysis.summary.configuration_names import model_text  # noqa: E402
from hpcbench.analysis.summary.invalid_rows import is_left_out  # noqa: E402
from hpcbench.analysis.summary.points import summarise  # noqa: E402
from hpcbench.records.asked import Asked  # noqa: E402
from hpcbench.records.columns import COLUMNS, SCHEMA_VERSION, Record  # noqa: E402
from hpcbench.records.frame import load_results  # noqa: E402
from tests.helpers.builders_results import results  # noqa: E402
from tests.helpers.builders_scan import with_everything, with_searches  # noqa: E402

MEASURED = HERE / "results" / "jet_tagger.parquet"
CMS_MODELS = HERE / "results" / "cms_models.parquet"
OF_CMS_MODELS = ("throughput_latency_vs_batch",)
"""Figures of the scan of real models; the others are of the demo's."""
NEEDS_GPUS = {
    "throughput_latency_vs_rate",
    "capacity_search",
    "device_comparison",
    "throughput_utilisation_vs_instances",
    "gpu_scaling",
    "precision_accuracy",
}
"""Figures for which a computer without a GPU has no data."""

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
    "The outputs": "One request for each stored event, before the first load; in the unit of the "
    "outputs.",
    "The device meanwhile": "NVML, ten times a second within the counted windows; see "
    "`device_source` for where it is missing.",
    "What the programs took of the CPUs": "`/proc` of the server and of perf_analyzer, within the "
    "counted windows.",
    "Where, when and with what": "The operating system, NVML, the batch system, and the programs "
    "themselves.",
}
"""Where the columns of each part of `Record` come from."""


def columns() -> str:
    """Return the reference of columns.

    Returns
    -------
    str
        Markdown with a table for each part of `Record`.
    """
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

`make docs` writes this page from `hpcbench/records/columns.py` and `asked.py`. One row is one
measurement. A value that is not known is null, never 0. This is schema version {version}.
"""

_DERIVED = """
## Computed when a row is read

| column | type | meaning |
|---|---|---|
| `valid` | bool | whether its metrics may be believed; missing: nothing was measured |
| `invalid_reasons` | string | codes of the [rules](validity.md) that it breaks; missing: none |

## Derived in tables and figures

Over the repeats of a point each has its mean, `..._low` and `..._high` (95 % interval of Student's
t), `..._n`, `..._median`, `..._std`, `..._cv`, `..._min` and `..._max`.

| column | unit | from |
|---|---|---|
| `latency_ms` | ms | the percentile asked for, else the mean |
| `latency_avg_ms`, `latency_p50_ms`, ... | ms | the columns of the same name in us |
| `gpu_utilization_percent` | % | `gpu_utilization_avg` |
| `gpu_power_w` | W | `gpu_power_avg_w` times `gpu_count`; once `gpu_energy_j` / `perf_analyzer_s` |
| `gpu_memory_gib` | GiB | `gpu_memory_max_bytes` |
| `infer_per_j` | 1/J | 1 / `energy_j_per_infer`, else `throughput_infer_per_s` / `gpu_power_w` |
"""


def _parts() -> dict[str, list[str]]:
    """The fields of `Record`, and of what it extends, under the comments that divide them."""
    parts: dict[str, list[str]] = {}
    for line in "".join(map(inspect.getsource, (Asked, Record))).splitlines():
        if found := re.fullmatch(r"    # ([A-Z].*)", line):
            parts[found[1]] = []
        elif (found := re.match(r"    (\w+): ", line)) and parts:
            list(parts.values())[-1].append(found[1])
    return parts


def cms_models() -> str:
    """Return the page of the scan of real CMS models.

    Returns
    -------
    str
        Markdown with a row for each model and batch size.
    """
    frame = load_results(CMS_MODELS)
    points = summarise(frame)
    lines = [
        "| model | batch size | throughput [infer/s] | 95 % interval | p95 [ms] | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for point in points.to_dict("records"):
        cells = [model_text(point), point["batch_size"]]
        for name, digits in (("throughput_infer_per_s", 0), ("latency_ms", 1)):
            low, mean, high = (point[f"{name}{end}"] for end in ("_low", "", "_high"))
            known = f"{low:,.{digits}f} to {high:,.{digits}f}" if pd.notna(low) else "not known"
            cells += [f"{mean:,.{digits}f}", known]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    first = frame.iloc[0]
    facts = {
        "cpu": first["cpu_name"],
        "cores": first["cpu_count"],
        "triton": first["triton_version"],
        "sessions": frame["run_id"].nunique(),
        "rows": len(frame),
        "left_out": int(is_left_out(frame).sum()),
        "date": f"{frame['started_at'].max():%Y-%m-%d}",
    }
    return _CMS_HEAD.format(**facts) + "\n".join(lines) + "\n" + _CMS_TAIL


_CMS_HEAD = """\
# CMS models on CPUs

Four models of [sonic-models](https://github.com/fastmachinelearning/sonic-models), as they are
there. `make docs` writes this page from `docs/results/cms_models.parquet`, which has all columns of
each measurement.

![Throughput and latency of CMS models over batch size](figures/throughput_latency_vs_batch.png)

Triton {triton} on {cores} cores of a shared computer ({cpu}), without a GPU, {date}. Two requests
were in flight. Intervals are of {sessions} sessions, each with fresh servers. {left_out} of {rows}
rows are left out, and others have too few requests for a firm percentile: `hpcbench check` on the
file says which and why.

"""

_CMS_TAIL = """
## Do it again

Put a link to the models beside the checkout, as `../shared/models`.

    hpcbench native --with pytorch --with tensorflow
    hpcbench run docs/cms_models.yaml --results results/cms
    hpcbench run docs/cms_models.yaml --results results/cms --new-session    # again, another day
    hpcbench compare docs/results/cms_models.parquet results/cms

One command makes the report of these rows, with all figures:

    hpcbench report docs/results/cms_models.parquet --out cms_models.html
"""


def example_figure(name: str) -> PreparedFigure:
    """Prepare the figure on the page of a kind of figure.

    Parameters
    ----------
    name
        A key of FIGURES.

    Returns
    -------
    PreparedFigure
        The first figure of that kind.
    """
    prepared, reasons = prepare_figures(_points(name), [name])
    if not prepared:
        raise SystemExit(f"docs: {name} cannot be drawn: {reasons[name]}")
    return prepared[0]


def _points(name: str) -> pd.DataFrame:
    if name in OF_CMS_MODELS:
        return summarise(load_results(CMS_MODELS))
    if name not in NEEDS_GPUS:
        return summarise(load_results(MEASURED))
    frame = _invented()
    if name in ("precision_accuracy", "gpu_scaling"):
        frame = with_everything(frame)
    if name == "capacity_search":
        # One model on one GPU, once: so that the numbers of the steps can be read.
        one = frame["gpu_name"].str.contains("A100") & (frame["model_position"] == 0)
        frame = with_searches(frame[one & (frame["repeat"] == 0)], limit_ms=10.0)
    return summarise(frame)


def _invented() -> pd.DataFrame:
    """Return invented results of two models on three GPUs, in closed and open loop."""
    with TemporaryDirectory() as folder:
        frame = results(Path(folder), models=2, batching=(None,), concurrencies=(4, 16))
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


def _save(prepared: PreparedFigure, style: str, path: Path) -> None:
    figure = prepared.draw(style)
    stream = BytesIO()
    with get_style(style).context():
        figure.savefig(stream, dpi=_DPI)
    # A palette would be smaller still, but merges the colours of thin lines.
    Image.open(stream).convert("RGB").save(path, optimize=True)


def main() -> None:
    """Write columns.md, cms_models.md and every image."""
    (HERE / "columns.md").write_text(columns())
    (HERE / "cms_models.md").write_text(cms_models())
    for name in FIGURES:
        _save(example_figure(name), DEFAULT_STYLE, HERE / "figures" / f"{name}.png")
    curve = example_figure("latency_vs_throughput")
    for style in STYLES:
        _save(curve, style, HERE / "figures" / f"style_{style}.png")


if __name__ == "__main__":
    main()
