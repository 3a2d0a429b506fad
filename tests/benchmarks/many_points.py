"""Drives 2,000 points of 20 ms through four workers: what hpcbench itself costs.

    python tests/benchmarks/many_points.py --site box-slurm [--points-per-server 50] [--jobs 4]

The servers are real, perf_analyzer is replaced by a program that sleeps for 20 ms and prints what
a real one printed. Told are the share of time in which workers had nothing to do between their
first and their last placement, the time per point beside those 20 ms, and the driver's peak
memory. Run it where the site's batch system is; files go to results/many-points.
"""

import argparse
import resource
import shutil
import subprocess
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from hpcbench import Campaign, Site, load_results, run
from hpcbench.cluster.events import Event, PlacementEnded, PlacementStarted

CHECKOUT = Path(__file__).resolve().parents[2]
PRINTED = CHECKOUT / "tests/data/perf_analyzer/grpc_async"
SLEEP_S = 0.02

FAKE = """#!/bin/sh
here={here}
case "$*" in
--version) cat "$here/version.txt"; exit ;;
"") cat "$here/usage.txt"; exit 1 ;;
esac
while [ $# -gt 0 ]; do
    if [ "$1" = -f ]; then cp "$here/result.csv" "$2"; fi
    shift
done
sleep {sleep}
cat "$here/stdout.txt"
"""


def fake_prefix(real: Path, folder: Path) -> Path:
    """The real prefix with another perf_analyzer in it."""
    prefix = folder / "prefix"
    (prefix / "bin").mkdir(parents=True)
    for entry in real.iterdir():
        if entry.name != "bin":
            (prefix / entry.name).symlink_to(entry)
    (prefix / "bin/tritonserver").symlink_to(real / "bin/tritonserver")
    tool = real / "bin/perf_analyzer"
    for name, words in (("version", ["--version"]), ("usage", [])):
        said = subprocess.run([tool, *words], capture_output=True, text=True, check=False)
        (folder / f"{name}.txt").write_text(said.stdout + said.stderr)
    for name in ("result.csv", "stdout.txt"):
        shutil.copy(PRINTED / name, folder)
    fake = prefix / "bin/perf_analyzer"
    fake.write_text(FAKE.format(here=folder, sleep=SLEEP_S))
    fake.chmod(0o755)
    return prefix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", default="box-slurm")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--points-per-server", type=int, default=50)
    options = parser.parse_args()

    folder = CHECKOUT / "results/many-points"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    servers = options.points // options.points_per_server
    campaign = Campaign.load(CHECKOUT / "jobs/demo/campaign.yaml")
    row = next(line for line in (PRINTED / "result.csv").read_text().splitlines()[1:] if line)
    settings: dict[str, Any] = campaign.model_dump(by_alias=True) | {
        "name": "many-points",
        "server": {"max_queue_delay_us": list(range(1, servers + 1))},
        "load": {
            "batch_size": list(range(1, options.points_per_server + 1)),
            "concurrency": int(row.split(",")[0]),
        },
        "measurement": {"measurement_interval_ms": 10},
    }
    site = Site.load(options.site)
    prefix = fake_prefix(site.container.prefix, folder)
    container = site.container.model_copy(update={"prefix": prefix})
    (name, pool), *_ = site.pools.items()
    pools = {name: pool.model_copy(update={"max_jobs": options.jobs})}
    site = site.model_copy(update={"container": container, "pools": pools})

    spans: dict[str, list[tuple[float, bool]]] = defaultdict(list)

    def listen(event: Event) -> None:
        if isinstance(event, PlacementStarted | PlacementEnded):
            spans[event.worker].append((event.at, isinstance(event, PlacementEnded)))

    begun = time.monotonic()
    summary = run(Campaign.model_validate(settings), site, folder / "out", listener=listen)
    wall_s = time.monotonic() - begun

    frame = load_results(folder / "out")
    idle = busy = 0.0
    for events in spans.values():
        for (begin, is_idle), (end, _) in pairwise(sorted(events)):
            idle += end - begin if is_idle else 0.0
            busy += 0.0 if is_idle else end - begin
    longest = frame.sort_values("started_at").groupby("placement_id")["started_at"].diff()
    own_s = longest.dt.total_seconds() - frame["perf_analyzer_s"]
    print(f"{len(frame)} points, {dict(summary.counts)}, {len(spans)} workers, {wall_s:.0f} s")
    print(f"workers idle between placements: {100 * idle / (idle + busy):.2f} % of their time")
    print(f"own time per point: median {1000 * own_s.median():.0f} ms")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"the driver's peak memory: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
