"""Small campaigns on the real Triton and perf_analyzer, for several test files."""

from pathlib import Path
from typing import Any

import yaml

from hpcbench import Campaign, Site
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.records.columns import Record

SHAPES = {
    "pf_features": [16, 50],
    "pf_mask": [1, 50],
    "sv_features": [10, 4],
    "sv_mask": [1, 4],
}
PARTICLENET_SHAPES = {
    "pf_points": (2, 50),
    "pf_features": (20, 50),
    "pf_mask": (1, 50),
    "sv_points": (2, 4),
    "sv_features": (11, 4),
    "sv_mask": (1, 4),
}
"""Of the real particlenet_AK4: fewer particles than it may have."""

QUICK = {"measurement_interval_ms": 250, "stability_percentage": 900.0}
"""Windows as short as they may be, and a spread that every point stays within."""

UNHURRIED = {
    "instance_count": 1,
    "preferred_batch_size": [[256]],
    "max_queue_delay_us": 20_000,
}
"""A server of the demo's model that lets each request wait for others, which never come.

A closed loop then takes a tenth of a CPU, and not all that the machine has: other tests run beside.
"""


BUSY = ("LITTLE", "PERCENTILES", "CLIENT", "DISTURBED", "SHORT_WINDOW")
"""The rules that a short measurement may break because of what else the machine does."""


def campaign_file(folder: Path, models: Path, /, **changes: Any) -> Path:
    """A campaign of the demo's model on an unhurried server, with some of its keys replaced."""
    content = {
        "name": "test",
        "model_repository": str(models),
        "models": [{"name": "jet_tagger", "label": "jets", "shapes": SHAPES}],
        "load": {"batch_size": [1, 2, 4], "concurrency": 2},
        "measurement": QUICK,
        **({} if "models" in changes else {"server": UNHURRIED}),
        **changes,
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def site_file(folder: Path, prefix: Path, *, max_jobs: int = 1, **container: Any) -> Path:
    """A site of this computer's processors."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    content = {
        "name": "here",
        "scheduler": "local",
        "container": {"runtime": "native", "prefix": str(prefix), "scratch": str(scratch)}
        | container,
        "pools": {"cpu": {"max_jobs": max_jobs}},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def quick_run(folder: Path, prefix: Path, models: Path, /, **changes: Any) -> tuple[Campaign, Site]:
    """The campaign and the site of the two files, read."""
    return (
        Campaign.load(campaign_file(folder, models, **changes)),
        Site.load(site_file(folder, prefix)),
    )


def in_flight(record: Record) -> float:
    """How many requests a row amounts to have been in flight, by Little's law.

    Of a closed loop that is its concurrency. Where a machine holds server or client up, it is that
    within a factor of two or three; where a metric was misread, it is off by the batch size.
    """
    rate = (record.throughput_infer_per_s or 0) / (record.batch_size or 1)
    return rate * (record.latency_avg_us or 0) / 1e6


def measured(campaign: Campaign, site: Site, logs: Path) -> list[Record]:
    """Measure what is applicable here, without Dask, its workers, and the seconds they take."""
    placements = plan.plan(campaign, site).placements["cpu"]
    return [record for placement in placements for record in measure(placement, site, logs)]
