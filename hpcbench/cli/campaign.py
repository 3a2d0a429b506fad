"""The commands that measure: check a site, plan a campaign, run it."""

import importlib
import json
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcbench.cli import completions
from hpcbench.cli.inputs import (
    CAMPAIGN,
    SDK_IMAGE,
    SERVER_IMAGE,
    SITE,
    SITE_OR_THAT_OF_A_LOCK,
    read_inputs,
    with_images,
)
from hpcbench.cli.lines import say
from hpcbench.cli.numbers import Number, Whole
from hpcbench.cli.results import JSON
from hpcbench.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame

    from hpcbench.cluster.events import Event, Listener
    from hpcbench.config.campaign import Campaign

POOL = click.option(
    "--pool",
    "pools",
    metavar="NAME",
    multiple=True,
    shell_complete=completions.pools,
    help="Use only this pool of the site. Repeat the option for several. Default: all pools.",
)
ACCOUNT = click.option(
    "--account",
    metavar="NAME",
    help="Account that is charged for the batch jobs. Default: the environment variable "
    "HPCBENCH_ACCOUNT.",
)


YES = click.option(
    "--yes", is_flag=True, help="The campaign is meant to have more than a million measurements."
)


@click.command(short_help="Check a site: this host, and a short job in every pool.")
@SITE
@SERVER_IMAGE
@SDK_IMAGE
@POOL
@ACCOUNT
@click.option(
    "--results",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder on the file system where the results will be stored. Nothing stays in it.",
)
@click.option(
    "--wait",
    "wait_min",
    metavar="MINUTES",
    default=5.0,
    show_default=True,
    type=Number(min=0),
    help="Cancel a job that has not started by then.",
)
@JSON
def doctor(
    site: str,
    server_image: str | None,
    sdk_image: str | None,
    pools: tuple[str, ...],
    account: str | None,
    results: Path,
    wait_min: float,
    as_json: bool,
) -> int:
    """Check a site: this host, and one short job in every pool.

    Leaves no job, process or file behind.

    Exit codes: 0 all checks passed, 3 a check failed.
    """
    from hpcbench.cli.console import SafeConsole
    from hpcbench.cli.progress import show_checks
    from hpcbench.config.site import Site
    from hpcbench.doctor.doctor import check_site
    from hpcbench.doctor.findings import State

    where = with_images(Site.load(site), server_image, sdk_image)
    with show_checks(SafeConsole(stderr=as_json)) as report:
        checks = check_site(
            where, results, pools=pools, account=account, wait_s=60 * wait_min, report=report
        )
    failed = [check for check in checks if check.state is State.FAILED]
    if as_json:
        content = {
            "site": where.name,
            "ok": not failed,
            "checks": [asdict(check) for check in checks],
        }
        click.echo(json.dumps(content, indent=2))
    return 3 if failed else 0


@click.command()
@CAMPAIGN
@SITE_OR_THAT_OF_A_LOCK
@SERVER_IMAGE
@SDK_IMAGE
@POOL
@ACCOUNT
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with results: what it holds is left out, and how long it took is expected again.",
)
@YES
@JSON
def plan(
    campaign: Path,
    site: str | None,
    server_image: str | None,
    sdk_image: str | None,
    pools: tuple[str, ...],
    account: str | None,
    results: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Show the points, the time and the job scripts of CAMPAIGN.

    CAMPAIGN is a campaign file or the lock of a session; of a lock, it says first what is different
    this time. Measures nothing, and works on any computer that has the models: it says what of the
    site it could not check from there. Models without inputs in config.pbtxt are loaded once where
    this computer is the site and has Triton: it says what they take.
    """
    from hpcbench.cli import plan_output
    from hpcbench.plan import plan as planning
    from hpcbench.plan.grid_axes import check_size

    given = read_inputs(campaign, site, pools, (server_image, sdk_image))
    charged = plan_output.charged_account(account, given.site)
    chosen, number = given.campaign, len(planning.chosen_pools(given.site, given.pools))
    check_size(chosen, pools=number, yes=yes, all_points=given.only is None)
    # What a lock says is compared with what there is, and not with what there may be.
    todo = planning.plan(
        chosen,
        given.site,
        pools=given.pools,
        results=results,
        only=given.only,
        anywhere=given.lock is None,
    )
    different = given.differences(todo)
    completed = plan_output.completed_models(todo)
    scripts = plan_output.job_scripts(todo, charged)
    to_do = plan_output.to_do_before_run(todo, charged)
    if as_json:
        said = {"different": [asdict(each) for each in different]} if given.lock else {}
        click.echo(
            json.dumps(said | plan_output.plan_json(todo, scripts, completed, to_do), indent=2)
        )
        return
    from hpcbench.cli.console import SafeConsole
    from hpcbench.cli.plan_text import print_checks, print_completed, print_plan

    if given.lock:
        from hpcbench.plan.lock_differences import differences_text

        say(f"{differences_text(given.lock, different)}\n")
    console = SafeConsole()
    print_plan(todo, console)
    print_completed(completed, console)
    print_checks(todo, to_do, plan_output.not_checked(todo), console)
    for pool, script in scripts.items():
        if script:
            jobs = todo.site.pools[pool].max_jobs
            say(f"\njob script of pool {pool}, submitted at most {jobs} times at once:")
            say(script)


@click.command("campaign", short_help="Write a first campaign file for a model repository.")
@click.argument("repository", type=click.Path(path_type=Path))
@click.argument("file", default="campaign.yaml", type=click.Path(path_type=Path))
def write_campaign(repository: Path, file: Path) -> None:
    """Write a first campaign for the models of REPOSITORY into FILE.

    FILE is campaign.yaml by default. It scans batch size, concurrency and the number of instances
    of each model. Shapes that config.pbtxt leaves open are marked: fill them in.
    """
    from hpcbench.plan.first_campaign import first_campaign

    # Encoded before there is a file: what cannot be written leaves none behind.
    content = first_campaign(repository.resolve(), file.parent.resolve()).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as out:
            try:
                out.write(content)
                out.flush()
            except OSError:
                file.unlink(missing_ok=True)  # a full disk
                raise
    except FileExistsError:
        raise BadInput(f"{file} exists already", "name another file, or remove it") from None
    except OSError as error:
        raise BadInput(f"{file}: cannot be written: {error.strerror}") from error
    say(f"{file}\nnext: hpcbench plan {shlex.quote(str(file))}")


_CTRL_C = b"\x1b[?25h\nhpcbench: interrupted; run the same command again to continue\n"
"""A bar hides the cursor."""


@contextmanager
def _exits_on_ctrl_c() -> Iterator[None]:
    """Exit at Ctrl-C while the block lasts; the run itself has handlers of its own.

    Python's KeyboardInterrupt gets lost now and then in compiled code, above all in imports.
    """

    def leave(*_: object) -> None:
        os.write(2, _CTRL_C)
        os._exit(130)

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not is_main or before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _import_end() -> None:
    for name in ("hpcbench.cli.run_end", "hpcbench.analysis.decide.recommend_text"):
        importlib.import_module(name)


def _import_at_the_end(report: "Listener") -> "Listener":
    """A listener that imports what the end needs while the last server stops, which takes long."""
    from hpcbench.cluster.events import Planned, PointMeasured

    waiting: set[Any] = set()

    def listener(event: "Event") -> None:
        report(event)
        if isinstance(event, Planned):
            placements = chain.from_iterable(event.plan.placements.values())
            waiting.update(key for placement in placements for key in placement.keys)
        elif isinstance(event, PointMeasured) and not event.is_part:
            waiting.discard(event.key)
            if not waiting:
                # In a thread: Ctrl-C is answered meanwhile.
                threading.Thread(target=_import_end, daemon=True).start()

    return listener


@click.command()
@CAMPAIGN
@SITE_OR_THAT_OF_A_LOCK
@SERVER_IMAGE
@SDK_IMAGE
@POOL
@ACCOUNT
@YES
@click.option(
    "--results",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results. Points that it already contains are not measured again.",
)
@click.option(
    "--new-session",
    is_flag=True,
    help="Measure all points again, beside the results of earlier sessions.",
)
@click.option(
    "--confirm",
    metavar="N RESULTS",
    type=(Whole(min=2), click.Path(path_type=Path)),
    help="Measure only what is recommended in RESULTS, its rivals and the base, N times each, on "
    "fresh servers. RESULTS may be the folder of recommend --out, for its limits to count.",
)
@_exits_on_ctrl_c()
def run(
    campaign: Path,
    site: str | None,
    server_image: str | None,
    sdk_image: str | None,
    pools: tuple[str, ...],
    account: str | None,
    yes: bool,
    results: Path,
    new_session: bool,
    confirm: tuple[int, Path] | None,
) -> int:
    """Measure the points of CAMPAIGN that have no result yet.

    It is safe to interrupt a run: the same command continues it, and tries failed points again.
    With --new-session it measures all of them once more, as on another night. At the end it says
    which references of the campaign were met.

    CAMPAIGN may be the lock of a session, campaign.lock.yaml in its folder: that session is
    repeated in one of its own, after a word on what is different this time.

    Exit codes: 0 every point has its record, none failed and every reference was met, 1 some did
    not, 2 bad input, 3 the site or the batch system refused, 130 interrupted.
    """
    from hpcbench.cluster.fork_server import delete_sockets_of_killed, start_fork_server

    given = read_inputs(campaign, site, pools, (server_image, sdk_image))
    if given.site.scheduler == "local":
        # Before the other imports, which take about as long as its own.
        delete_sockets_of_killed()
        start_fork_server()
    chosen, only = given.campaign, given.only
    from hpcbench.cli.console import SafeConsole
    from hpcbench.cli.progress import progress
    from hpcbench.cluster import driver

    if confirm is not None:
        chosen, only = _to_confirm(chosen, results, *confirm)
    # Progress goes to stderr, so that the table alone can be piped.
    console = SafeConsole(stderr=True)
    with progress(console) as report:
        listener = _import_at_the_end(report)
        summary = driver.run(
            chosen,
            given.site,
            results,
            pools=given.pools,
            account=account,
            listener=listener,
            only=only,
            new_session=new_session,
            lock=given.lock,
            yes=yes,
        )
    from hpcbench.cli.run_end import print_end

    frame = print_end(summary, results, SafeConsole(), console)
    return max(summary.exit_code, _say_references(chosen, results, frame))


def _say_references(campaign: "Campaign", results: Path, frame: "DataFrame") -> int:
    """Say which references were met, and return the exit code."""
    if not campaign.references:
        return 0
    from hpcbench.analysis.decide import references
    from hpcbench.records.references import expectations, read_planned

    references_check = references.check_references(
        frame, expectations(campaign), read_planned(results)
    )
    for line in references.reference_lines(references_check):
        say(line, err=True)
    return int(references_check.is_missed)


def _to_confirm(
    campaign: "Campaign", results: Path, repeats: int, source: Path
) -> tuple["Campaign", frozenset[str]]:
    """Return the campaign with so many repeats on fresh servers, and the points to measure."""
    from hpcbench.analysis.decide.confirm import points_to_confirm

    if results.resolve() == source.resolve():
        raise BadInput(
            f"--confirm {source}: is the folder of --results, too",
            "name a new folder: what led to the choice says nothing about it",
        )
    fresh = {"repeats": repeats, "fresh_servers": True}
    points = points_to_confirm(source, lambda note: say(note, err=True))
    return campaign.model_copy(update=fresh), points


COMMANDS = (doctor, write_campaign, plan, run)
