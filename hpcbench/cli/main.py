"""One short command per stage of the line."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hpcbench import __version__
from hpcbench.cli import install, make_input
from hpcbench.cli import results as cli_results
from hpcbench.errors import HpcbenchError

if TYPE_CHECKING:
    from hpcbench.plan.plan import Plan

# Dask, pandas and matplotlib are imported by the commands that need them: --help is quick.

SITE = click.option(
    "--site",
    default="local",
    show_default=True,
    help="Name of a site in site_configs/, or the path of a site file.",
)
POOL = click.option(
    "--pool",
    "pools",
    multiple=True,
    help="Use this pool of the site only; may be given several times. Default: all.",
)
ACCOUNT = click.option(
    "--account", help="Whom the jobs are charged to. Default: HPCBENCH_ACCOUNT, if that is set."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


class _Group(click.Group):
    """Ends every error of hpcbench with its message and exit code instead of a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.Exit as error:
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("hpcbench: interrupted; the same command goes on where it stopped", err=True)
            sys.exit(130)
        except click.ClickException as error:
            error.show()
            sys.exit(2)
        except HpcbenchError as error:
            click.secho("hpcbench: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hpcbench")
@click.option("-v", "--verbose", is_flag=True, help="Log every program that is started.")
def main(verbose: bool) -> None:
    """Benchmark models on Triton, one campaign at a time.

    A campaign file names models and the axes to scan; a site file says where to run. The usual
    order of commands is: doctor, plan, run, status, plot.

    Exit codes: 0 all measured, 1 some points failed, 2 bad input, 3 the site refused, 130
    interrupted (run the same command again to go on).
    """
    terminal = logging.StreamHandler()
    # The driver's log says more than the terminal, where progress is told in other words.
    terminal.setLevel(logging.DEBUG if verbose else logging.ERROR)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, handlers=[terminal])


@main.command()
@click.argument("campaign", type=click.Path(path_type=Path))
@SITE
@POOL
@ACCOUNT
@JSON
def plan(
    campaign: Path, site: str, pools: tuple[str, ...], account: str | None, as_json: bool
) -> None:
    """Show the points and placements of CAMPAIGN, how long it takes, and the job scripts.

    Starts nothing.
    """
    from hpcbench.config.campaign import Campaign
    from hpcbench.config.site import Site
    from hpcbench.plan import plan as planning

    planned = planning.plan(Campaign.load(campaign), Site.load(site), pools=pools)
    if as_json:
        click.echo(json.dumps(_plan_json(planned, account), indent=2))
    else:
        _print_plan(planned, account)


def _job_script(planned: "Plan", pool: str, account: str | None) -> str | None:
    """What is submitted for each job of a pool; None where there is no batch system.

    Words in capitals stand for what is known in a run only.
    """
    if planned.site.scheduler == "local":
        return None
    # Imported only where a script is made: it takes Dask, whose import costs a second.
    from hpcbench.cluster import submission

    return submission.job_script(planned.site, pool, account=account)


def _plan_json(planned: Any, account: str | None) -> dict[str, Any]:
    from hpcbench.plan.initial_record import plan_rows

    return {
        "campaign": planned.campaign.name,
        "site": planned.site.name,
        "points": len(planned.grid.points),
        "repeats": planned.campaign.repeats,
        "measurements": planned.measurements,
        "merged": planned.grid.merged,
        "excluded": [{"rule": rule, "count": count} for rule, count in planned.grid.excluded],
        "idle": list(planned.grid.no_effect),
        "estimate_s": planned.estimate_s,
        "gpu_s": planned.gpu_s,
        "job_scripts": {pool: _job_script(planned, pool, account) for pool in planned.placements},
        "placements": [
            {
                "id": placement.id,
                "pool": pool,
                "repeat": placement.repeat,
                "served": [
                    [{"model": each.model.name, "server": each.axes} for each in served]
                    for served in placement.served
                ],
                "points": [point.id for point in placement.points],
                "estimate_s": placement.estimate_s,
            }
            for pool, placements in planned.placements.items()
            for placement in placements
        ],
        "not_applicable": [
            {
                "pool": each.placement.pool,
                "repeat": each.placement.repeat,
                "served": [
                    {"model": variant.model.name, "server": variant.axes}
                    for variant in each.placement.served[0]
                ],
                "points": [point.id for point in each.placement.points],
                "reason": each.reason,
            }
            for each in planned.inapplicable
        ],
        "measurement_rows": plan_rows(planned),
    }


def _loads(points: Iterable[Any]) -> list[str]:
    """The loads of some points: requests in flight, and rates with their unit."""
    loads = {(p.load.concurrency, p.load.request_rate) for p in points}
    closed = sorted(concurrency for concurrency, _ in loads if concurrency is not None)
    rates = sorted(rate for _, rate in loads if rate is not None)
    return [*map(str, closed), *(f"{rate:g}/s" for rate in rates)]


def _print_plan(planned: Any, account: str | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hpcbench.cli.point_text import served_text, variant_text
    from hpcbench.cli.progress import duration

    console = Console()
    campaign = planned.campaign
    console.print(
        f"[bold]{campaign.name}[/] on {planned.site.name}: {len(planned.grid.points)} points x "
        f"{campaign.repeats} repeats x {len(planned.placements)} pools = "
        f"{planned.measurements} measurements",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("pool", "model", "server variant", "batch sizes", "load"):
        table.add_column(name)
    table.add_column("placements", justify="right")
    table.add_column("each", justify="right")
    for pool, placements in planned.placements.items():
        groups: dict[Any, list[Any]] = {}
        for placement in placements:
            for served, member in placement.by_served:
                groups.setdefault(served, []).append(member)
        for served, members in groups.items():
            points = [point for member in members for point in member.points]
            table.add_row(
                pool,
                escape(" + ".join(map(served_text, served))),
                " + ".join(variant_text(json.dumps(variant.axes)) for variant in served),
                " ".join(str(b) for b in sorted({p.load.batch_size for p in points})),
                " ".join(_loads(points)),
                str(len(members)),
                duration(members[0].estimate_s),
            )
    console.print(table)
    _print_grid(planned.grid, console)
    _print_inapplicable(planned, console)
    gpu = f", {duration(planned.gpu_s)} of GPU time" if planned.gpu_s else ""
    console.print(f"about {duration(planned.estimate_s)}{gpu}, if every point settles at once")
    for pool in planned.placements:
        script = _job_script(planned, pool, account)
        if script:
            jobs = planned.site.pools[pool].max_jobs
            console.print(f"\n[bold]{pool}[/]: up to {jobs} jobs like this", highlight=False)
            click.echo(script)


def _print_grid(grid: Any, console: Any) -> None:
    """What became of combinations that are no points, and what in the campaign has no effect."""
    if grid.merged:
        console.print(
            f"{grid.merged} combinations are the same as another one and are measured "
            "once (without dynamic batching there is no queue delay)",
            highlight=False,
        )
    for rule, count in grid.excluded:
        text = f"{count} combinations are excluded by the rule {{{rule}}}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for text in grid.no_effect:
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _print_inapplicable(planned: Any, console: Any) -> None:
    from rich.markup import escape

    from hpcbench.cli.point_text import served_text, variant_text

    told: dict[tuple[str, str, str, str], int] = {}
    for each in planned.inapplicable:
        (served,) = each.placement.served
        axes = " + ".join(variant_text(json.dumps(variant.axes)) for variant in served)
        label = escape(" + ".join(map(served_text, served)))
        key = (each.placement.pool, label, axes, escape(each.reason))
        told[key] = told.get(key, 0) + len(each.placement.points)
    if told:
        console.print(f"not applicable, {sum(told.values())} measurements:", highlight=False)
    for (pool, label, axes, reason), count in told.items():
        console.print(
            f"  {pool}, {label}, {escape(axes)}, {count}: {reason}", highlight=False, soft_wrap=True
        )


@main.command()
@click.argument("campaign", type=click.Path(path_type=Path))
@SITE
@POOL
@ACCOUNT
@click.option(
    "--results",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results. What it already holds is not measured again.",
)
def run(
    campaign: Path, site: str, pools: tuple[str, ...], account: str | None, results: Path
) -> int:
    """Measure every point of CAMPAIGN that RESULTS does not hold yet.

    Safe to interrupt: the same command goes on where it stopped. Points that failed are tried
    again by the next run.
    """
    from rich.console import Console

    from hpcbench.cli.progress import results_table, shown
    from hpcbench.cluster import driver
    from hpcbench.config.campaign import Campaign
    from hpcbench.config.site import Site
    from hpcbench.records.store import load_results

    console = Console(stderr=True)
    chosen, where = Campaign.load(campaign), Site.load(site)
    with shown(console) as listener:
        summary = driver.run(
            chosen, where, results, pools=pools, account=account, listener=listener
        )
    frame = load_results(results)
    if len(frame) <= 200:
        Console().print(results_table(frame))
    told = ", ".join(f"{count} {status}" for status, count in sorted(summary.counts.items()))
    console.print(f"{told or 'nothing'} in {results}", highlight=False, markup=False)
    if summary.exit_code:
        console.print(f"why: hpcbench status {results}", highlight=False, markup=False)
    return summary.exit_code


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
@JSON
def status(results: Path, as_json: bool) -> None:
    """Show what of RESULTS is done, running, missing, or failed and why."""
    from hpcbench.cli import progress
    from hpcbench.cluster import ledger, run_state
    from hpcbench.records import store

    where = store.Results(results)
    found = store.read_statuses(where)
    planned = store.read_plan(where)
    state = run_state.read_state(where)
    running = {tuple(key) for key in state["running"]}
    rows = []
    for row in planned:
        key = row["point_id"], row["pool"], row["repeat"]
        its, reason = found.get(key, ("running" if key in running else "missing", None))
        rows.append({**row, "status": its, "reason": reason})
    counts = Counter(row["status"] for row in rows)
    if as_json:
        told = {
            "results": str(results),
            "active": store.is_folder_locked(where),
            "counts": dict(counts),
            "jobs": state["jobs"],
        }
        click.echo(json.dumps({**told, "measurements": rows}, indent=2))
        return
    active = "a run is at work" if store.is_folder_locked(where) else "no run is at work"
    click.echo(f"{results}: {len(rows)} measurements, {active}")
    for name, count in sorted(counts.items()):
        click.echo(f"  {count:6d} {name}")
    for pool, jobs in state["jobs"].items():
        click.echo(f"pool {pool}: {progress.jobs_text(jobs)}")
    if not store.is_folder_locked(where) and (runs := ledger.unfinished(where)):
        names = ", ".join(run.name for run in runs)
        click.echo(
            f"the last driver was killed; jobs named {names} may be left: hpcbench cancel {results}"
        )
    _print_reasons(rows)
    if counts["missing"] and not store.is_folder_locked(where):
        click.echo("run the same hpcbench run command again to measure what is missing")


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
def cancel(results: Path) -> None:
    """End the run that is at work in RESULTS, and its batch jobs; no others.

    Works from any shell that has the batch system's commands, also after the driver was killed.
    """
    from hpcbench.cluster import ledger
    from hpcbench.records import store

    ledger.cancel_run(store.Results(results), click.echo)


@main.command()
@SITE
@POOL
@ACCOUNT
@click.option(
    "--results",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder on the file system to which results will go; nothing stays in it.",
)
@click.option(
    "--wait",
    "wait_min",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Minutes after which a job that has not started is cancelled.",
)
@JSON
def doctor(
    site: str,
    pools: tuple[str, ...],
    account: str | None,
    results: Path,
    wait_min: float,
    as_json: bool,
) -> int:
    """Check a site before it costs GPU hours: this host, and one short job for each pool.

    Leaves nothing behind. Exit codes: 0 all is well, 3 something is not.
    """
    from rich.console import Console

    from hpcbench.cli.progress import examined
    from hpcbench.config.site import Site
    from hpcbench.doctor import doctor as doctors
    from hpcbench.doctor.findings import State

    where = Site.load(site)
    with examined(Console(stderr=as_json)) as tell:
        checks = doctors.examine(
            where, results, pools=pools, account=account, wait_s=60 * wait_min, tell=tell
        )
    failed = [check for check in checks if check.state is State.FAILED]
    if as_json:
        told = {"site": where.name, "ok": not failed, "checks": [asdict(each) for each in checks]}
        click.echo(json.dumps(told, indent=2))
    return 3 if failed else 0


def _print_reasons(rows: list[dict[str, Any]]) -> None:
    """Equal reasons are told once, with the points that they stopped."""
    from hpcbench.cli import point_text

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["reason"] and row["status"] != "ok":
            # Points that did not settle differ in their figures only.
            reason = row["reason"].split(":")[0] if row["status"] == "unstable" else row["reason"]
            groups.setdefault((row["status"], reason), []).append(row)
    names = point_text.differing(rows) if groups else []
    for (state, reason), members in groups.items():
        more = f" and {len(members) - 5} more" if len(members) > 5 else ""
        points = "; ".join(point_text.point_text(row, names) for row in members[:5])
        click.echo(f"{state}: {reason}\n    {points}{more}")


for _command in (*cli_results.COMMANDS, make_input.make_input, *install.COMMANDS):
    main.add_command(_command)
