"""The commands for data from elsewhere: other people's CSV files, and events as input."""

from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcbench.cli.lines import say
from hpcbench.cli.numbers import Whole

if TYPE_CHECKING:
    from hpcbench.exchange.import_csv import CsvImport


def _parse_columns(
    _context: click.Context, option: click.Parameter, values: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The columns by input, from strings of the form INPUT=COLUMN[,COLUMN...]."""
    columns = {}
    for text in values:
        name, _, listed = text.partition("=")
        columns[name] = tuple(listed.split(","))
        if not (name and all(columns[name])):
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
    return columns


def _parse_shapes(
    context: click.Context, option: click.Parameter, values: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """The sizes of the dims by input, from strings of the form INPUT=N[,N...]."""
    shapes = _parse_columns(context, option, values)
    if not all(size.isdigit() and int(size) for sizes in shapes.values() for size in sizes):
        raise click.BadParameter("sizes are integers from 1, as in pf_features=20,50")
    return {name: tuple(map(int, sizes)) for name, sizes in shapes.items()}


def _parse_values(
    _context: click.Context, option: click.Parameter, values: Iterable[str]
) -> dict[str, Any]:
    """The values by column, from strings of the form COLUMN=VALUE."""
    from hpcbench.exchange.origin import parse_column

    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        found[name] = parse_column(name, value)
    return found


@click.command("import-csv", short_help="Import files of perf_analyzer or Model Analyzer.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--results",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Results folder to add the records to.",
)
@click.option(
    "--site",
    metavar="NAME",
    default="imported",
    show_default=True,
    help="Site where the files were measured.",
)
@click.option(
    "--pool",
    metavar="NAME",
    help="Kind of node on which they were measured. Default: the path of the folders above the "
    "models' folders, or the name of DIR.",
)
@click.option("--gpu", metavar="NAME", help="GPU on which they were measured, as in nvidia-smi -L.")
@click.option(
    "--percentile",
    metavar="N",
    type=Whole(1, 99),
    help="The value of perf_analyzer --percentile, if it was used.",
)
@click.option("--model", metavar="NAME", help="The model, where no name of a file says it.")
@click.option(
    "--batch-size",
    metavar="N",
    type=Whole(min=1),
    help="The value of perf_analyzer -b, where no name of a file says it.",
)
@click.option(
    "--name",
    "pattern",
    metavar="PATTERN",
    help="How the files are named: {COLUMN} is the value of a column, an asterisk is anything, "
    "as in '{model}_b{batch_size}_c{concurrency}' or '{gpu_name}/{model}_run*_b{batch_size}'. "
    "Default: {model}_batch{batch_size}",
)
@click.option(
    "--set",
    "columns",
    multiple=True,
    metavar="COLUMN=VALUE",
    callback=_parse_values,
    help="What is so for all files and stands in none, as in --set protocol=grpc. Columns: "
    "docs/columns.md. Repeat the option for several.",
)
def import_csv(folder: Path, results: Path, columns: dict[str, Any], **given: Any) -> None:
    """Import files of perf_analyzer or Model Analyzer from DIR, a folder or one file.

    Reads what perf_analyzer -f wrote, what it printed, and what --profile-export-file wrote, and
    the tables of Model Analyzer. Values that the files do not contain stay missing; the command
    lists them. What cannot be true as it stands is imported and named.
    """
    from hpcbench.exchange.import_csv import import_csv_folder
    from hpcbench.exchange.origin import LOOP_NAME, Origin

    named = {"model": given["model"], "batch_size": given["batch_size"], "gpu_name": given["gpu"]}
    columns |= {name: value for name, value in named.items() if value is not None}
    origin = Origin(
        site=given["site"],
        pool=given["pool"],
        percentile=given["percentile"],
        columns=columns,
        name=given["pattern"] or LOOP_NAME,
    )
    _say_imported(import_csv_folder(folder, results, origin), results)


def _say_imported(imported: "CsvImport", results: Path) -> None:
    models = len({record.model_label for record in imported.records})
    say(f"{len(imported.records)} points of {models} model{'s' * (models != 1)} in {results}")
    for record in imported.records:
        if record.reason:
            say(f"{record.status}: {record.reason}")
    for path, reason in imported.skipped.items():
        say(f"left out: {path}: {reason}")
    for header, files in imported.unread.items():
        say(f"left out: the column {header!r} of {files} file{'s' * (files != 1)}: not known")
    if imported.missing:
        say("not in these files, therefore missing in the records:")
    for what in imported.missing:
        say(f"  {what}")
    _say_doubts(imported.doubts)


def _say_doubts(doubts: Sequence[str]) -> None:
    if doubts:
        say("cannot be true as it stands (docs/validity.md):")
    for doubt in doubts:
        say(f"  {doubt}")


def _parse_headers(
    _context: click.Context, option: click.Parameter, values: Iterable[str]
) -> dict[str, str]:
    """The headers by column, from strings of the form COLUMN=HEADER."""
    found = {}
    for text in values:
        name, equals, found_header = text.partition("=")
        if not equals or not found_header:
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        found[name] = found_header
    return found


@click.command("import-table", short_help="Import the tables of a README or a paper.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--results",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Results folder to add the records to.",
)
@click.option(
    "--source",
    required=True,
    metavar="TEXT",
    help="Where the table was published: an address, or how it is cited.",
)
@click.option(
    "--date",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="When it was published.",
)
@click.option(
    "--map",
    "headers",
    multiple=True,
    metavar="COLUMN=HEADER",
    callback=_parse_headers,
    help="Which header fills a column; with its unit or without. A name in a table of two columns "
    "above, and 'heading', count as headers. Those of perf_analyzer need no --map.",
)
@click.option(
    "--set",
    "columns",
    multiple=True,
    metavar="COLUMN=VALUE",
    callback=_parse_values,
    help="What is so for all rows and stands in none. Repeat the option for several.",
)
@click.option(
    "--site",
    default="published",
    show_default=True,
    metavar="NAME",
    help="Site where it was measured.",
)
@click.option(
    "--pool",
    default="published",
    show_default=True,
    metavar="NAME",
    help="Kind of node on which it was measured.",
)
@click.option(
    "--time-unit",
    type=click.Choice(["us", "ms", "s"]),
    help="Of times whose header has no unit. Default: that of the column.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=Whole(min=1),
    metavar="N",
    help="Only the Nth table of those that can be imported. Repeat the option for several.",
)
def import_table(path: Path, results: Path, **given: Any) -> None:
    """Import the tables of FILE, CSV or Markdown, as a README or a paper has them.

    Units are converted from the headers, as in "p99 latency (ms)". A recipe: docs/others.md.
    """
    from hpcbench.exchange import import_table as tables

    given["date"] = given["date"].replace(tzinfo=UTC)
    found = tables.import_table(path, results, tables.Publication(**given))
    say(f"{len(found.records)} rows in {results}")
    for place, reason in found.skipped.items():
        say(f"left out: {place}: {reason}")
    for header in found.unread:
        say(f"left out: the column {header!r}: no --map names it")
    _say_doubts(found.doubts)


@click.command("make-input")
@click.argument("repository", type=click.Path(path_type=Path), required=False)
@click.argument("model", required=False)
@click.option(
    "--from",
    "source",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with the events, one row each: .parquet, .npz or .npy.",
)
@click.option(
    "--arrivals",
    metavar="COLUMN",
    help="Write the times between arrivals instead, for load.request_intervals: FILE is CSV or "
    "Parquet, COLUMN has timestamps or seconds. Needs neither REPOSITORY nor MODEL.",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="INPUT=COLUMN[,COLUMN...]",
    callback=_parse_columns,
    help="Columns that make up this input of the model, stacked along one of its dims. Repeat the "
    "option for several inputs. Default: the column with the input's name.",
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="INPUT=N[,N...]",
    callback=_parse_shapes,
    help="Sizes of the dims that are -1 in config.pbtxt. Default: as in the events.",
)
@click.option(
    "--events",
    metavar="N",
    type=Whole(min=1),
    help="Use only the first N events. Default: all.",
)
@click.option("--pad", metavar="VALUE", type=float, help="Fill up short lists with VALUE.")
@click.option("--truncate", is_flag=True, help="Cut long lists.")
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; an existing one is replaced.",
)
def make_input(
    repository: Path | None,
    model: str | None,
    source: Path,
    arrivals: str | None,
    out: Path,
    **options: Any,
) -> None:
    """Write events as input data, or times of arrival as a load.

    Events are those of MODEL in REPOSITORY. Name the JSON file in a campaign as
    measurement.input_data. Data types and sizes are checked
    against the model's config.pbtxt. Name a file of --arrivals as load.request_intervals. Examples:
    docs/inputs.md.
    """
    if arrivals is not None:
        _make_intervals(source, arrivals, out, repository, options)
        return
    if repository is None or model is None:
        raise click.UsageError("REPOSITORY and MODEL are missing; only --arrivals needs neither")
    from hpcbench.exchange.event_columns import read_events
    from hpcbench.exchange.input_layout import InputOptions
    from hpcbench.exchange.make_input import write_input
    from hpcbench.plan.model import read_model

    found, events = read_model(repository, model), read_events(source)
    written = write_input(found, events, out, InputOptions(**options))
    for layout in written.layouts:
        shape = " x ".join("own length" if size is None else str(size) for size in layout.shape)
        kind = layout.data_type.removeprefix("TYPE_")
        say(f"{layout.name}: {kind} {shape} from {', '.join(layout.columns)}")
    for change in written.changed:
        say(change)
    say(f"{written.events} events, {written.bytes / 1e6:.1f} MB in {out}")
    if not all(layout.is_one_shape for layout in written.layouts):
        say(
            "the events differ in shape: only batch_size 1 can be measured; --pad makes the shapes "
            "equal"
        )


def _make_intervals(
    source: Path, column: str, out: Path, repository: Path | None, options: dict[str, Any]
) -> None:
    from hpcbench.exchange.make_input import write_intervals

    events = options.pop("events")
    for name, given in {"REPOSITORY": repository, **options}.items():
        if given:
            option = name if name.isupper() else f"--{_OPTIONS.get(name, name)}"
            raise click.UsageError(f"{option} has no meaning with --arrivals")
    written = write_intervals(source, column, out, events=events)
    say(
        f"{len(written.microseconds)} intervals, {written.seconds:.6g} s, "
        f"{written.rate:.4g} requests per second in the mean, in {out}"
    )


_OPTIONS = {"columns": "map", "shapes": "shape"}
"""What an option is called, where its parameter has another name."""

COMMANDS = (import_csv, import_table, make_input)
