"""The commands that evaluate results. They need no site, no Dask and no GPU.

The arguments and options that other commands share with them are defined here, too.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hpcbench.cli import completions
from hpcbench.cli.lines import say, say_damaged
from hpcbench.cli.numbers import Number, Whole, positive
from hpcbench.cli.rows import ACCEPT, ALL, load_chosen, load_whole
from hpcbench.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame

    from hpcbench.analysis.decide.recommend import Recommendation

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
RESULTS = click.argument("results", type=click.Path(path_type=Path))


def _parse_prices(
    _context: click.Context, _option: click.Parameter, values: Iterable[str]
) -> dict[str, float]:
    """The price of an hour by pool, from strings of the form POOL=PRICE or SITE/POOL=PRICE."""
    prices = {}
    for text in values:
        name, _, price = text.rpartition("=")
        try:
            prices[name] = float(price)
        except ValueError:
            prices[name] = -1.0
        if not name or not 0 < prices[name] < float("inf"):
            raise click.BadParameter(f"{text!r} is not POOL=PRICE or SITE/POOL=PRICE, as in a100=2")
    return prices


def _parse_where(
    _context: click.Context, _option: click.Parameter, values: Iterable[str]
) -> list[tuple[str, list[str]]]:
    """Columns with their values, from strings of the form NAME=VALUE,VALUE."""
    found = []
    for text in values:
        name, equals, allowed = text.partition("=")
        if not (name and equals and allowed):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, as in instance_count=2")
        found.append((name, allowed.split(",")))
    return found


@click.command()
@RESULTS
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="HTML file to write, as in report.html.",
)
@ACCEPT
@ALL
def report(results: Path, out: Path, **chosen: Any) -> int:
    """Write a report on RESULTS as one HTML file.

    RESULTS is a results folder or a Parquet file. The report contains all figures and tables and
    needs no network, so that it can be mailed and archived.
    """
    from hpcbench.analysis.report.page import write_report
    from hpcbench.cli.console import show_progress_of

    frame, damaged = load_chosen(results, **chosen)
    say(write_report(frame, out, str(results), track=show_progress_of("drawing")))
    return say_damaged(damaged)


@click.command()
@RESULTS
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the figures.",
)
@click.option(
    "--style",
    metavar="NAME",
    default="cms",
    show_default=True,
    shell_complete=completions.styles,
    help="Style of the figures: cms, atlas, lhcb or plain.",
)
@click.option(
    "--figure",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=completions.figures,
    help="Draw only this figure. Repeat the option for several. Default: all that apply.",
)
@click.option(
    "--where",
    metavar="NAME=VALUE[,VALUE]",
    multiple=True,
    callback=_parse_where,
    help="Draw only points with this value of a column or a server axis, as in instance_count=2. "
    "Repeat the option for several columns.",
)
@click.option(
    "--series",
    metavar="TEXT",
    multiple=True,
    help="Colour the series with this in their legend, as in '2 instances, concurrency 8', and the "
    "first, which ratios refer to. Repeat the option for several. Default: the fastest of each "
    "server.",
)
@ACCEPT
@ALL
@click.option("--verbose", is_flag=True, help="Say why other figures were not drawn.")
def plot(
    results: Path,
    out: Path,
    style: str,
    names: tuple[str, ...],
    where: list[tuple[str, list[str]]],
    series: tuple[str, ...],
    verbose: bool,
    **chosen: Any,
) -> int:
    """Draw the figures of RESULTS as PNG and PDF.

    RESULTS is a results folder or a Parquet file. Each figure comes with a CSV file of its
    numbers. All figures: docs/figures.md.
    """
    from hpcbench.analysis.figures.save import save_figures
    from hpcbench.analysis.summary.choice import Choice
    from hpcbench.analysis.summary.invalid_rows import is_nothing_valid
    from hpcbench.cli.console import show_progress_of
    from hpcbench.cli.point_text import counted

    frame, damaged = load_chosen(results, **chosen)
    track = show_progress_of("drawing")
    choice = Choice(where, series)
    saved = save_figures(frame, out, style=style, names=names, choice=choice, track=track)
    for path in saved.files:
        say(path)
    if verbose or names:
        for name, reason in saved.not_drawn.items():
            say(f"not drawn: {name}: {reason}", err=True)
    elif is_nothing_valid(frame):
        say(
            "no measurement is valid, so there is little to draw: hpcbench check says why, and "
            "--accept draws them all the same",
            err=True,
        )
    elif saved.not_drawn:
        count = counted(len(saved.not_drawn), "kind") + " of figures"
        say(f"{count} not drawn, which need other axes; --verbose says why", err=True)
    return say_damaged(damaged)


@click.command()
@RESULTS
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency", "energy", "cost"]),
    default="throughput",
    show_default=True,
    help="What to optimize: highest throughput, lowest p99 latency, most inferences per joule, or "
    "lowest cost per inference.",
)
@positive("--max-latency-p99-ms", "MS", "Upper limit for the p99 latency.")
@positive("--max-gpu-memory-gib", "GIB", "Upper limit for the memory used on all GPUs together.")
@positive("--min-throughput", "INFER/S", "Lower limit for the throughput.")
@click.option(
    "--confidence",
    metavar="PROBABILITY",
    type=Number(min=0.5, max=1, max_open=True),
    default=0.95,
    show_default=True,
    help="How sure it must be that every configuration said to keep a limit does so.",
)
@click.option(
    "--limits-by-mean",
    is_flag=True,
    help="Take a limit as kept where the mean over the repeats keeps it, however far they vary.",
)
@positive("--rate", "INFER/S", "Also compute how many GPUs this rate needs.")
@click.option(
    "--headroom",
    metavar="FRACTION",
    type=Number(min=0, max=1, min_open=True),
    default=0.7,
    show_default=True,
    help="What a server is expected to serve, as part of the throughput of clients that wait for "
    "their answers. Not used where a rate with random arrivals was measured.",
)
@click.option(
    "--spares",
    metavar="N",
    type=Whole(min=0),
    default=1,
    show_default=True,
    help="Servers beyond those that the rate needs, so that as many may fail.",
)
@click.option(
    "--price",
    "prices",
    metavar="POOL=PRICE",
    multiple=True,
    callback=_parse_prices,
    help="Price per hour of one GPU of the pool (of one node, if it has no GPUs), in any currency. "
    "Write SITE/POOL if two sites have a pool of this name. Repeat the option for several pools.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write config.pbtxt of each model to this folder, with a note on its use.",
)
@click.option(
    "--for",
    "targets",
    multiple=True,
    type=click.Choice(["triton", "supersonic", "cmssw", "kubernetes"]),
    help="With --out: also write the server's command line, values of SuperSONIC's chart, a PSet "
    "of CMSSW's TritonClient, or a Deployment and a Service. Repeat the option for several.",
)
@ACCEPT
@ALL
@JSON
def recommend(
    results: Path,
    out: Path | None,
    targets: tuple[str, ...],
    accepted: tuple[str, ...],
    all_files: bool,
    as_json: bool,
    **limits: Any,
) -> int:
    """Recommend the best measured configuration per model and GPU.

    RESULTS is a results folder or a Parquet file.

    Exit codes: 0 every model has a recommendation on every GPU, 1 for some of them no
    configuration meets the limits, 2 bad input.
    """
    from hpcbench.analysis.decide import recommend_text
    from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
    from hpcbench.analysis.decide.recommend import recommend_on_all_servers
    from hpcbench.analysis.summary.limits import Requirements
    from hpcbench.cli.console import SafeConsole

    if targets and out is None:
        raise BadInput("--for: needs a folder", "name one by --out")
    given = click.get_current_context().get_parameter_source("confidence")
    if limits["limits_by_mean"] and given != ParameterSource.DEFAULT:
        raise BadInput(
            "--limits-by-mean with --confidence: the mean alone has no confidence",
            "leave one of the two out",
        )
    columns = RECOMMEND_COLUMNS
    if out is not None:
        from hpcbench.analysis.decide.production import PRODUCTION_COLUMNS

        columns = tuple(dict.fromkeys((*columns, *PRODUCTION_COLUMNS)))
    frame, damaged = load_chosen(
        results, columns, categories=True, accepted=accepted, all_files=all_files
    )
    advice = recommend_on_all_servers(frame, Requirements(**limits))
    if as_json:
        rows = [recommend_text.recommendation_json(each) for each in advice]
        click.echo(json.dumps(rows, indent=2))
    else:
        recommend_text.print_recommendations(advice, SafeConsole())
    if out is not None:
        for path in _write_deployment(results, frame, advice, out, targets):
            say(path, err=as_json)
    return say_damaged(damaged) or int(any(each.best is None for each in advice))


def _write_deployment(
    results: Path,
    frame: "DataFrame",
    advice: "list[Recommendation]",
    out: Path,
    targets: tuple[str, ...],
) -> Iterator[Path]:
    # Only here: most who ask for a recommendation write no files, and YAML takes long to import.
    from hpcbench.analysis.decide import deploy, deploy_configs, production

    # The configurations are long texts: only those of the recommended points are read.
    points = [each.best["point_id"] for each in advice if each.best]
    # What is damaged has been found before.
    texts, _ = load_whole(results, deploy_configs.DEPLOY_COLUMNS, points)
    more = deploy.ForProduction(targets, production.numbers_for_production(advice, frame))
    configs = deploy_configs.configs_to_deploy(texts)
    if names := deploy.unfit_names(advice):
        say(f"no files: {deploy.unfit_text(names)}", err=True)
    yield from deploy.write_deployment(advice, configs, out, more)


@click.command(short_help="Say which measurements may not be believed, and why.")
@RESULTS
@JSON
def check(results: Path, as_json: bool) -> int:
    """Say which measurements of RESULTS may not be believed, and which references were met.

    RESULTS is a results folder or a Parquet file, also one that was imported. The rules:
    docs/validity.md. References are those of the campaign in a results folder.

    Exit codes: 0 every measurement is valid and every reference was met, 1 some are not, 2 bad
    input.
    """
    from hpcbench.analysis.decide import check as checking
    from hpcbench.analysis.decide import references
    from hpcbench.records.references import read_expectations, read_planned

    expected = read_expectations(results)
    columns = dict.fromkeys((*checking.CHECK_COLUMNS, *references.reference_columns(expected)))
    frame, damaged = load_whole(results, [*columns], categories=True)
    found = checking.check_results(frame)
    references_check = references.check_references(
        frame, expected, read_planned(results) if expected else ()
    )
    if as_json:
        document = {"results": str(results), **checking.check_json(found)}
        document["references"] = references.references_json(references_check)
        click.echo(json.dumps(document, indent=2))
    else:
        for line in (*checking.check_lines(found), *references.reference_lines(references_check)):
            say(line)
    return max(say_damaged(damaged), int(found.invalid > 0 or references_check.is_missed))


@click.command()
@click.argument(
    "sources", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    required=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Parquet file to write, an existing one is replaced; with --partition a new folder.",
)
@click.option(
    "--partition",
    metavar="COLUMN[,COLUMN]",
    default="",
    help="Write a dataset with one level of folders per column.",
)
def aggregate(sources: tuple[Path, ...], out: Path, partition: str) -> int:
    """Merge results of any number of sites into one Parquet file.

    DIR is a results folder, a Parquet file, or an earlier output of aggregate. Of several attempts
    at the same measurement one is kept: a measured one before a failed one, then the latest.
    plot, report, recommend and compare read the merged file like a results folder.

    Exit codes: 0 all files were merged, 1 some files could not be read and were left out, 2 bad
    input.
    """
    from hpcbench.analysis import merge
    from hpcbench.cli.point_text import counted

    merged = merge.aggregate(sources, out, [name for name in partition.split(",") if name])
    say(
        f"{counted(merged.rows, 'measurement')} of {counted(len(merged.sites), 'site')} from "
        f"{counted(merged.files, 'file')} in {out}"
    )
    if merged.superseded:
        say(
            f"{counted(merged.superseded, 'row')} superseded by another attempt at the same "
            "measurement"
        )
    if merged.repeated:
        say(f"{counted(merged.repeated, 'duplicate row')} removed")
    for name, files in merged.unknown_columns.items():
        say(
            f"column {name} left out of {counted(len(files), 'file')}, as {files[0]}: it comes "
            "from a newer hpcbench",
            err=True,
        )
    if merged.set_aside:
        files_text = counted(len(merged.set_aside), "file")
        say(f"{files_text} left out of the merged results:", err=True)
    for problem in merged.set_aside:
        say(f"  {problem.message}", err=True)
    return 1 if merged.set_aside else 0


COMMANDS = (check, report, plot, recommend, aggregate)
