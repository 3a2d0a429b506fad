"""Compares the GPUs of a site: one campaign over several of its pools at once.

    python jobs/gpu_comparison.py [CAMPAIGN] [SITE] [RESULTS] [POOL ...]

Every point is measured in every pool, all of the site's by default. The table has the throughput
of each pool and GPU, and its ratio to that of the first; points without a throughput are left out.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from hpcbench import Campaign, Site, load_results, progress, run
from hpcbench.cli.point_text import variant_text

HERE = Path(__file__).parent


def compared(frame: pd.DataFrame, pools: list[str]) -> pd.DataFrame:
    """One row per point; for each pool and GPU the median of its throughputs, and the ratio."""
    gpu = frame["pool"] + ", " + frame["gpu_name"].astype(object).fillna("no GPU")
    table = frame.assign(gpu=gpu, server=frame["variant"].map(variant_text)).pivot_table(
        "throughput_infer_per_s",
        index=["model_label", "server", "batch_size", "concurrency"],
        columns="gpu",
        aggfunc="median",
    )
    table = table[sorted(table, key=lambda name: pools.index(str(name).split(", ")[0]))]
    both = {"infer/s": table, "ratio": table.div(table.iloc[:, 0], axis="index")}
    return pd.concat(both, axis="columns").swaplevel(axis="columns")[list(table)]


def main(campaign_file: str, site_name: str, results: str, *chosen: str) -> int:
    """Measures what is missing in any pool, prints the comparison; the exit code of the run."""
    campaign = Campaign.load(campaign_file)
    site = Site.load(site_name)
    pools = list(chosen or site.pools)

    with progress() as listener:
        summary = run(campaign, site, results, pools=pools, listener=listener)

    frame = load_results(results)
    frame = frame[frame["pool"].isin(pools) & (frame["campaign"] == campaign.name)]
    if frame["throughput_infer_per_s"].notna().any():
        table = compared(frame, pools)
        print(table.round(2).to_string())
        for gpu, ratio in table.xs("ratio", axis="columns", level=1).items():
            print(f"{gpu}: {np.exp(np.log(ratio).mean()):.2f} in the geometric mean")
    return summary.exit_code


if __name__ == "__main__":
    defaults = [str(HERE / "gpu_comparison.yaml"), "local", "results/gpu_comparison"]
    sys.exit(main(*[*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]))
