"""The commands that look after a run from any shell: how it stands, and its end."""

import json
import sys
from collections import Counter
from pathlib import Path

import click

from hpcbench.cli.lines import folded, say, say_damaged, width_of
from hpcbench.cli.results import JSON, RESULTS
from hpcbench.errors import HpcbenchError


@click.command()
@RESULTS
@JSON
def status(results: Path, as_json: bool) -> int:
    """Show which points are done, running, missing or failed.

    RESULTS is the folder that was given to hpcbench run. The points that failed are listed with
    the reason.
    """
    from hpcbench.cli.point_text import jobs_text
    from hpcbench.cli.rows import earlier_text, same_servers
    from hpcbench.cli.statuses import reason_lines, with_status
    from hpcbench.cluster import ledger, run_state
    from hpcbench.records import model_files, store
    from hpcbench.records.columns import MEASURED
    from hpcbench.records.folder import Results, is_folder_locked
    from hpcbench.records.variants import may_be_one_server

    where = Results(results)
    active = is_folder_locked(where)
    state = run_state.read_state(where)
    damaged: list[HpcbenchError] = []
    statuses = store.read_statuses(where, damaged.append)
    rows = with_status(store.read_plan(where), statuses, state["running"])
    counts = Counter(row["status"] for row in rows)
    earlier = model_files.count_earlier(where, damaged.append)
    # Where no two variants may be, it is spared pandas.
    may_be = may_be_one_server({row["variant"] for row in rows} - {None})
    same = same_servers(results) if may_be and not MEASURED.isdisjoint(counts) else []
    if as_json:
        content = {
            "results": str(results),
            "active": active,
            "counts": dict(counts),
            "earlier_files": earlier,
            "same_servers": same,
            "jobs": state["jobs"],
            "measurements": rows,
        }
        click.echo(json.dumps(content, indent=2))
        return say_damaged(damaged)
    ran = f"{'a' if active else 'no'} run is active"
    if not active and not where.campaign.is_file():
        ran = "imported or saved: no run has been started here"
    say(f"{results}: {len(rows)} measurements, {ran}")
    for name, count in sorted(counts.items()):
        say(f"  {count:6d} {name}")
    if earlier:
        say(folded(earlier_text(earlier), width_of(sys.stdout), 4))
    for text in same:
        say(folded(f"one configuration: {text}", width_of(sys.stdout), 4))
    for pool, jobs in state["jobs"].items():
        say(folded(f"pool {pool}: {jobs_text(jobs)}", width_of(sys.stdout), 4))
    if not active and (runs := ledger.unfinished(where)):
        names = ", ".join(run.name for run in runs)
        say(
            f"the last driver was killed; jobs named {names} may still be queued or running\n"
            f"  -> hpcbench cancel {results}"
        )
    for line in reason_lines(rows, width_of(sys.stdout)):
        say(line)
    if counts["missing"] and not active:
        say("to measure the missing points, repeat the same hpcbench run command")
    return say_damaged(damaged)


@click.command()
@RESULTS
def cancel(results: Path) -> None:
    """End a run and cancel its batch jobs.

    RESULTS is the folder that was given to hpcbench run. No other jobs are cancelled.

    Works from any shell that has the batch system's commands, even if the driver was killed.
    """
    from hpcbench.cluster import ledger
    from hpcbench.records.folder import Results

    ledger.cancel_run(Results(results), say)


COMMANDS = (status, cancel)
