"""The commands that read results only: they need no site, no Dask and no GPU."""

import json
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcbench.errors import BadInput

if TYPE_CHECKING:
    from hpcbench.analysis.decide.compare import Comparison

# pandas and matplotlib are imported by the commands that need them: --help is quick.


def _lacks(error: ImportError) -> BadInput:
    return BadInput(
        f"this needs a package that is not installed: {error.name}",
        "pip install 'triton-hpcbench[analysis]'",
    )


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for the figures."
)
@click.option(
    "--style",
    default="cms",
    show_default=True,
    help="How they look: cms, atlas, lhcb or plain.",
)
@click.option(
    "--figure",
    "names",
    multiple=True,
    metavar="NAME",
    help="Draw this figure only; may be given several times. Default: all that apply.",
)
def plot(results: Path, out: Path, style: str, names: tuple[str, ...]) -> None:
    """Draw the figures of RESULTS, a folder or a Parquet file, as PNG and PDF.

    A CSV of the numbers in it stands beside each. Figures that do not apply to the results are
    told, with the reason. docs/figures.md shows them all.
    """
    try:
        from hpcbench.analysis.figures.save import save_figures
    except ImportError as error:
        raise _lacks(error) from error
    from hpcbench.records.frame import load_results

    saved = save_figures(load_results(results), out, style=style, names=names)
    for path in saved.files:
        click.echo(path)
    for name, reason in saved.not_drawn.items():
        click.echo(f"not drawn: {name}: {reason}", err=True)


_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Number(click.FloatRange):
    """Click takes nan for a number in any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number", param, ctx) if isnan(number) else number


def _above_zero(name: str, meaning: str) -> Callable[[_Command], _Command]:
    return click.option(name, type=_Number(min=0, min_open=True, max=1e15), help=meaning)


def _prices(_context: click.Context, _option: click.Parameter, given: Any) -> dict[str, float]:
    prices = {}
    for text in given:
        name, _, price = text.rpartition("=")
        try:
            prices[name] = float(price)
        except ValueError:
            prices[name] = -1.0
        if not name or not 0 < prices[name] < float("inf"):
            raise click.BadParameter(f"{text!r} is not POOL=PRICE or SITE/POOL=PRICE, as in a100=2")
    return prices


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency", "energy", "cost"]),
    default="throughput",
    show_default=True,
    help="What to make best: the most infer/s, the lowest p99 latency, the most infer/J, the "
    "lowest cost per inference.",
)
@_above_zero("--max-latency-p99-ms", "The p99 latency must not be above this.")
@_above_zero("--max-gpu-memory-gib", "The memory used, over all GPUs, must not be above this.")
@_above_zero("--min-throughput", "The throughput in infer/s must not be below this.")
@_above_zero("--rate", "Tell how many GPUs this many infer/s need.")
@click.option(
    "--price",
    "prices",
    metavar="POOL=PRICE",
    multiple=True,
    callback=_prices,
    help="Price of one GPU of the pool (or node without GPUs) for an hour, in any currency; "
    "SITE/POOL where two sites have a pool of that name. May be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for config.pbtxt of each model, with a note on how to use it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def recommend(results: Path, out: Path | None, as_json: bool, **wanted: Any) -> int:
    """Find the best measured configuration of RESULTS for each model on each GPU.

    RESULTS is a folder or a Parquet file. Exit codes: 0 every model has a recommendation on every
    GPU, 1 for some of them nothing keeps to the limits, 2 bad input.
    """
    try:
        from hpcbench.analysis.decide import deploy, recommend_text
        from hpcbench.analysis.decide.recommend import RECOMMEND_COLUMNS, recommend_configurations
        from hpcbench.analysis.summary.limits import Requirements
    except ImportError as error:
        raise _lacks(error) from error
    from rich.console import Console

    from hpcbench.records.frame import load_results

    advice = recommend_configurations(
        load_results(results, RECOMMEND_COLUMNS, categories=True), Requirements(**wanted)
    )
    if as_json:
        click.echo(
            json.dumps([recommend_text.recommendation_json(one) for one in advice], indent=2)
        )
    else:
        recommend_text.print_recommendations(advice, Console())
    if out is not None:
        points = [one.best["point_id"] for one in advice if one.best]
        texts = load_results(results, ["point_id", "server_config"], points)
        known = texts.dropna().drop_duplicates("point_id")
        configs = dict(zip(known["point_id"], known["server_config"], strict=True))
        for path in deploy.write_deployment(advice, configs, out):
            click.echo(path, err=as_json)
    return int(any(one.best is None for one in advice))


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=_Number(min=0, max=1, max_open=True),
    default=0.05,
    show_default=True,
    help="How much worse a figure may get, as a fraction.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the comparison: .md, .json, .png or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def compare(a: Path, b: Path, tolerance: float, out: Path | None, as_json: bool) -> int:
    """Compare results B with the reference A: each a folder or a Parquet file.

    Configurations that do the same work are compared: the same model, server variant, load and
    input. Where they were measured, and with what, may differ. Exit codes: 0 nothing got worse, 1
    something did by more than the tolerance and beyond the noise, or cannot be measured any more,
    2 bad input.
    """
    try:
        from hpcbench.analysis.decide import compare_text
        from hpcbench.analysis.decide.compare import COMPARE_COLUMNS, compare_results
    except ImportError as error:
        raise _lacks(error) from error
    from rich.console import Console

    from hpcbench.records.frame import load_results

    names = str(a), str(b)
    compare_text.check_output(out)
    reference, other = (load_results(path, COMPARE_COLUMNS, categories=True) for path in (a, b))
    found = compare_results(reference, other, tolerance)
    if as_json:
        click.echo(json.dumps(compare_text.comparison_json(found, names), indent=2))
    else:
        compare_text.print_comparison(found, names, Console())
    if out is not None:
        write_comparison(found, names, out)
        click.echo(out, err=as_json)
    return int(found.is_worse)


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML file, as in report.html.",
)
def report(results: Path, out: Path) -> None:
    """Write all of RESULTS, a folder or a Parquet file, into one HTML file.

    The file needs no network and no other file: it can be sent and kept.
    """
    try:
        from hpcbench.analysis.report.page import write_report
    except ImportError as error:
        raise _lacks(error) from error
    from hpcbench.records.frame import load_results

    click.echo(write_report(load_results(results), out, source=str(results)))


@click.command()
@click.argument(
    "sources", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The Parquet file, replaced where it is there; with --partition a new folder.",
)
@click.option(
    "--partition",
    metavar="COLUMN[,COLUMN]",
    default="",
    help="Write a dataset with a level of folders for each of these columns.",
)
def aggregate(sources: tuple[Path, ...], out: Path, partition: str) -> int:
    """Merge the results in DIR..., of any number of sites, into one Parquet file.

    DIR is a results folder, a Parquet file, or what aggregate made before. Each measurement is
    kept once: measured before failed, then the later. Files that cannot be read are named and
    left out, and the exit code is 1. plot, report, recommend and compare read the result as they
    read a results folder.
    """
    try:
        from hpcbench.analysis import merge
    except ImportError as error:
        raise _lacks(error) from error
    merged = merge.aggregate(sources, out, [name for name in partition.split(",") if name])
    rows, sites = _counted(merged.rows, "measurement"), _counted(len(merged.sites), "site")
    click.echo(f"{rows} of {sites} from {_counted(merged.files, 'file')} in {out}")
    if merged.superseded:
        click.echo(
            f"{merged.superseded} rows superseded by another attempt at the same measurement"
        )
    if merged.repeated:
        click.echo(f"{merged.repeated} rows that were there more than once")
    for name, files in merged.unknown_columns.items():
        click.echo(
            f"column {name} of {len(files)} files left out, as {files[0]}: this hpcbench does not "
            "know it; a newer one does",
            err=True,
        )
    if merged.set_aside:
        aside = _counted(len(merged.set_aside), "file")
        click.echo(f"{aside} set aside; the result does not hold what is in there:", err=True)
    for problem in merged.set_aside:
        click.echo(f"  {problem.message}", err=True)
    return 1 if merged.set_aside else 0


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


@click.command("import-csv")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--results", required=True, type=click.Path(path_type=Path), help="Results folder to add to."
)
@click.option("--site", default="imported", show_default=True, help="Where they were measured.")
@click.option(
    "--pool", help="On which kind of node. Default: the folders above the models', or DIR."
)
@click.option("--gpu", help="On which GPU, as nvidia-smi -L names it.")
@click.option(
    "--percentile",
    type=click.IntRange(1, 99),
    help="What perf_analyzer --percentile was given, where it was.",
)
def import_csv(
    folder: Path,
    results: Path,
    site: str,
    pool: str | None,
    gpu: str | None,
    percentile: int | None,
) -> None:
    """Make records of the CSV files in DIR that perf_analyzer or Model Analyzer left.

    Known are {model}_batch{N}.csv, as a loop over perf_analyzer -f writes them, and
    metrics-model-inference.csv. What they do not say stays missing, and is told.
    """
    from hpcbench.exchange.import_csv import CsvOrigin, import_csv_folder

    origin = CsvOrigin(site=site, pool=pool, gpu=gpu, percentile=percentile)
    found = import_csv_folder(folder, results, origin)
    models = len({record.model_label for record in found.records})
    click.echo(f"{len(found.records)} points of {models} model{'s' * (models != 1)} in {results}")
    for record in found.records:
        if record.reason:
            click.echo(f"failed: {record.reason}")
    for path, reason in found.skipped.items():
        click.echo(f"left out: {path}: {reason}")
    if found.missing:
        click.echo("not in these files, and so missing in the records:")
    for words in found.missing:
        click.echo(f"  {words}")


COMMANDS = (aggregate, import_csv, plot, recommend, compare, report)


def write_comparison(found: "Comparison", names: tuple[str, str], out: Path) -> None:
    """The comparison as a file, of the kind that its suffix says: one of `compare_text.KINDS`."""
    from hpcbench.analysis.decide import compare_text

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".md":
            out.write_text(compare_text.comparison_markdown(found, names), encoding="utf-8")
        elif out.suffix == ".json":
            text = json.dumps(compare_text.comparison_json(found, names), indent=2)
            out.write_text(text + "\n", encoding="utf-8")
        else:
            # Only here, for matplotlib takes its time.
            from hpcbench.analysis.figures.results_comparison import save_results_comparison

            save_results_comparison(found, names, out)
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a file in a folder in which you may create files",
        ) from error
