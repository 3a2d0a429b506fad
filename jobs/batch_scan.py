"""Scans batch sizes of the models in a campaign file and draws the figure.

    python jobs/batch_scan.py [CAMPAIGN] [SITE] [RESULTS]

The loop that this replaces runs perf_analyzer once per model and batch size on one node. Here
the same points go to every worker of the site, each ends as a row, and after an interruption the
same command goes on.
"""

import sys
from pathlib import Path

from hpcbench import Campaign, Site, load_results, progress, run
from hpcbench.analysis.figures.save import save_figures

HERE = Path(__file__).parent


def main(campaign_file: str, site_name: str, results: str) -> int:
    """Measures what is missing, prints the throughputs, draws; the exit code of the run."""
    campaign = Campaign.load(campaign_file)
    site = Site.load(site_name)

    with progress() as listener:
        summary = run(campaign, site, results, listener=listener)

    frame = load_results(results)
    columns = ["model_label", "batch_size", "status", "throughput_infer_per_s", "latency_p95_us"]
    print(frame[columns].to_string(index=False))
    for path in save_figures(frame, Path(results) / "figures").files:
        print(path)
    return summary.exit_code


if __name__ == "__main__":
    defaults = [str(HERE / "demo" / "campaign.yaml"), "local", "results/batch_scan"]
    sys.exit(main(*[*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]))
