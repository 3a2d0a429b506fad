"""The command that makes perf_analyzer's input of a physicist's events."""

from collections.abc import Iterable
from pathlib import Path

import click


def _named(
    _context: click.Context, option: click.Parameter, given: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """INPUT=A,B of each option, by input."""
    found = {}
    for text in given:
        name, _, values = text.partition("=")
        found[name] = tuple(values.split(","))
        if not (name and all(found[name])):
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
    return found


def _shapes(
    context: click.Context, option: click.Parameter, given: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    named = _named(context, option, given)
    if not all(size.isdigit() and int(size) for sizes in named.values() for size in sizes):
        raise click.BadParameter("a shape is whole numbers from 1, as in pf_features=20,50")
    return {name: tuple(map(int, sizes)) for name, sizes in named.items()}


@click.command("make-input")
@click.argument("repository", type=click.Path(path_type=Path))
@click.argument("model")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The events: .parquet, .npz or .npy, with one row per event.",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="INPUT=COLUMN[,COLUMN...]",
    callback=_named,
    help="Which columns make this input, side by side along one of its dims. May be given several "
    "times. Default: the column that is called like the input.",
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="INPUT=N[,N...]",
    callback=_shapes,
    help="How long this input's dims are, where config.pbtxt has -1. Default: as the events are.",
)
@click.option("--events", type=click.IntRange(min=1), help="Take the first so many. Default: all.")
@click.option("--pad", type=float, help="Fill lists that are too short with this number.")
@click.option("--truncate", is_flag=True, help="Cut lists that are too long.")
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The JSON file, replaced where it is there.",
)
def make_input(
    repository: Path,
    model: str,
    source: Path,
    columns: dict[str, tuple[str, ...]],
    shapes: dict[str, tuple[int, ...]],
    events: int | None,
    pad: float | None,
    truncate: bool,
    out: Path,
) -> None:
    """Write events as the input with which MODEL of REPOSITORY is measured.

    A campaign names the file as measurement.input_data. Types and lengths are compared with the
    model's config.pbtxt. docs/inputs.md has examples.
    """
    from hpcbench.exchange.event_columns import read_events
    from hpcbench.exchange.input_layout import InputOptions
    from hpcbench.exchange.make_input import write_input
    from hpcbench.plan.model import read_model

    options = InputOptions(
        columns=columns, shapes=shapes, events=events, pad=pad, truncate=truncate
    )
    made = write_input(read_model(repository, model), read_events(source), out, options)
    for layout in made.layouts:
        shape = " x ".join("own length" if size is None else str(size) for size in layout.shape)
        kind = layout.data_type.removeprefix("TYPE_")
        click.echo(f"{layout.name}: {kind} {shape} from {', '.join(layout.columns)}")
    for words in made.changed:
        click.echo(words)
    click.echo(f"{made.events} events, {made.bytes / 1e6:.1f} MB in {out}")
    if not all(layout.is_one_shape for layout in made.layouts):
        click.echo("events differ in shape: only batch_size 1 can be measured; --pad makes one")
