"""Swapped variants beside fresh servers, in one run: the wall time that is saved, and the metrics.

The same campaign is measured both ways in turn, repeat after repeat. Whoever quotes the numbers
lets nothing else run meanwhile.

    python -m tests.benchmarks.swapping [REPEATS]
"""

import sys
import tempfile
import time
from pathlib import Path

from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.records.columns import Record
from tests.helpers import ratios
from tests.helpers.real import SHAPES, campaign_file, site_file

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SERVER = {"instance_count": [1, 2], "preferred_batch_size": [None, [4, 8]]}
MEASUREMENT = {"measurement_interval_ms": 1000, "stability_percentage": 900.0}


def measured(campaign: Campaign, site: Site, repeat: int, logs: Path) -> tuple[float, list[Record]]:
    """The wall time of all placements of a repeat, and their records."""
    placements = plan.plan(campaign, site).placements["cpu"]
    mine = [placement for placement in placements if placement.repeat == repeat]
    started = time.monotonic()
    records = [record for placement in mine for record in measure(placement, site, logs)]
    return time.monotonic() - started, records


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="hpcbench-") as name:
        folder = Path(name)
        site = Site.load(site_file(folder, CHECKOUT / ".native"))
        path = campaign_file(
            folder,
            CHECKOUT / "jobs" / "demo" / "models",
            models=[{"name": "jet_tagger", "shapes": SHAPES}],
            server=SERVER,
            load={"batch_size": 8, "concurrency": 4},
            measurement=MEASUREMENT,
            repeats=repeats,
            fresh_servers=False,
        )
        shared = Campaign.load(path)
        fresh = shared.model_copy(update={"fresh_servers": True})
        spent: dict[str, list[float]] = {"fresh servers": [], "swapped": []}
        found: dict[str, list[Record]] = {"fresh servers": [], "swapped": []}
        for repeat in range(repeats):
            ways = [("fresh servers", fresh), ("swapped", shared)]
            for way, campaign in ways if repeat % 2 else reversed(ways):
                seconds, records = measured(campaign, site, repeat, folder / "logs")
                spent[way].append(seconds)
                found[way] += records
                print(f"repeat {repeat}, {way}: {seconds:.1f} s for {len(records)} points")
        pairs = ratios.pairs(found["swapped"], found["fresh servers"])
        for column in ("throughput_infer_per_s", "latency_p50_us"):
            low, middle, high = ratios.interval(ratios.of(pairs, column))
            print(
                f"{column}, swapped / fresh: {middle:.3f}, 95 % interval {low:.3f} to {high:.3f} "
                f"({len(pairs)} pairs)"
            )
        inside = {way: sum(r.perf_analyzer_s or 0 for r in each) for way, each in found.items()}
        for way, seconds_each in spent.items():
            total = sum(seconds_each)
            print(f"{way}: {total:.1f} s, of it {inside[way]:.1f} s inside perf_analyzer")
        saved = 1 - sum(spent["swapped"]) / sum(spent["fresh servers"])
        around = {way: sum(spent[way]) - inside[way] for way in spent}
        print(f"saved: {saved:.0%} of the wall time; of what is not measuring: ", end="")
        print(f"{1 - around['swapped'] / around['fresh servers']:.0%}")


if __name__ == "__main__":
    main()
