"""Models on the pools of a site: a frame, a figure of one's own, the best under a limit.

    python docs/two_pools.py CAMPAIGN SITE RESULTS MAX_P99_MS [RULE ...]

RULE: as of `hpcbench recommend --accept`; DISTURBED takes in what a busy computer measured.
"""

import sys
from pathlib import Path

from hpcbench import Campaign, Site, load_results, progress, recommend, run
from hpcbench.analysis.summary.invalid_rows import accept_rules

campaign, site, results, limit_ms, *accepted = sys.argv[1:]
with progress() as listener:
    run(Campaign.load(campaign), Site.load(site), results, listener=listener)

frame = accept_rules(load_results(results), accepted)  # a row for each measurement
curves = frame.pivot_table("throughput_infer_per_s", "batch_size", ["model_label", "pool"])
axes = curves.plot(marker="o", xlabel="batch size", ylabel="inferences per second")
axes.figure.savefig(Path(results) / "throughput.png")

for advice in recommend(frame, max_latency_p99_ms=float(limit_ms)):
    if advice.best:
        print(f"{advice.title}: batch size {advice.best['batch_size']}")
        name = f"{advice.best['model']}-{advice.best['pool']}.pbtxt"
        (Path(results) / name).write_text(advice.config_pbtxt or "")
