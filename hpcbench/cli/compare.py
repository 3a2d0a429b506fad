"""The command that compares results: two of them, or the latest with all before."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcbench.cli.lines import say, say_damaged
from hpcbench.cli.numbers import Number
from hpcbench.cli.results import JSON
from hpcbench.cli.rows import load_chosen, load_whole
from hpcbench.errors import BadInput

if TYPE_CHECKING:
    from hpcbench.analysis.decide.compare import Comparison
    from hpcbench.analysis.decide.history import History

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("results", metavar="A B", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    metavar="FRACTION",
    type=Number(min=0, max=1, max_open=True),
    default=0.05,
    show_default=True,
    help="How much worse a metric may get before it counts.",
)
@click.option(
    "--against-history",
    is_flag=True,
    help="Compare the latest session of all results that are named with all earlier ones.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=_FILE,
    help="Also write the comparison to this file: .md, .json, .png or .pdf. With "
    "--against-history a figure shows each configuration session by session.",
)
@click.option(
    "--junit", metavar="FILE", type=_FILE, help="Also write it as JUnit XML to this file."
)
@click.option(
    "--components",
    is_flag=True,
    help="Also print how much metrics vary within a run, between repeats, nodes and sessions.",
)
@JSON
def compare(
    results: tuple[Path, ...],
    tolerance: float,
    against_history: bool,
    out: Path | None,
    junit: Path | None,
    components: bool,
    as_json: bool,
) -> int:
    """Compare the results B with the reference A.

    Each is a results folder or a Parquet file. Compared are configurations with the same model,
    server variant, load and input. Node, GPU and software may differ.

    Also says which references of the campaign of B were met.

    Exit codes: 0 nothing got worse and every reference was met; 1 something got worse by more than
    the tolerance and the noise, fails more often or no longer settles, or a reference was not met;
    2 bad input.
    """
    from hpcbench.analysis.decide import compare_text, references
    from hpcbench.analysis.decide.compare import COMPARE_COLUMNS, compare_results
    from hpcbench.analysis.decide.compare_components import (
        WINDOWS,
        components_of_results,
        print_components,
    )
    from hpcbench.analysis.decide.history import HISTORY_COLUMNS, SAME_WORK, split_history
    from hpcbench.analysis.decide.junit import comparison_junit
    from hpcbench.cli.console import SafeConsole
    from hpcbench.records.references import read_expectations, read_planned

    if not against_history and len(results) != 2:
        raise BadInput(
            f"{len(results)} results to compare",
            "name two, A and B, or give --against-history",
        )
    compare_text.check_output(out)
    columns = [*COMPARE_COLUMNS]
    columns += WINDOWS if components else []
    columns += HISTORY_COLUMNS if against_history else []
    expected = {path: read_expectations(path) for path in results}
    columns += references.reference_columns([*chain.from_iterable(expected.values())])
    # Over the nights models may change: that is what a history is to show.
    load = load_whole if against_history else load_chosen
    loaded = [load(path, [*dict.fromkeys(columns)], categories=True) for path in results]
    frames = [frame for frame, _ in loaded]
    if against_history:
        history = split_history(list(zip(results, frames, strict=True)))
        reference, other = history.earlier, history.latest
        names = f"{len(history.names) - 1} earlier sessions", history.names[-1]
        latest = history.latest_path
        compared = compare_results(reference, other, tolerance, SAME_WORK)
    else:
        history = None
        reference, other = frames
        names = str(results[0]), str(results[1])
        latest = results[1]
        compared = compare_results(reference, other, tolerance)
    found = {
        name: components_of_results(frame)
        for name, frame in (("A", reference), ("B", other))
        if components
    }
    references_check = references.check_references(
        other, expected[latest], read_planned(latest) if expected[latest] else ()
    )
    if as_json:
        document = compare_text.comparison_json(compared, names)
        document["references"] = references.references_json(references_check)
        click.echo(json.dumps(document | ({"components": found} if found else {}), indent=2))
    else:
        compare_text.print_comparison(compared, names, SafeConsole())
        if found:
            print_components(found, SafeConsole())
        for line in references.reference_lines(references_check):
            say(line)
    if junit is not None:
        text = comparison_junit(compared, references_check)
        _write("--junit", junit, lambda path: path.write_text(text, encoding="utf-8"))
        say(junit, err=as_json)
    if out is not None:
        write_comparison(compared, names, out, history)
        say(out, err=as_json)
    damaged = say_damaged([*chain.from_iterable(errors for _, errors in loaded)])
    return damaged or int(compared.is_worse or references_check.is_missed)


def write_comparison(
    compared: "Comparison",
    names: tuple[str, str],
    out: Path,
    history: "History | None" = None,
) -> None:
    """Write a comparison to a file.

    Parameters
    ----------
    compared
        The comparison.
    names
        What to call the reference and the other results.
    out
        The file; its suffix, one of `compare_text.OUTPUT_FORMATS`, says of which kind it is.
    history
        The sessions, whose trend a figure then shows instead of the ratios.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    _write("--out", out, lambda path: _write_as(compared, names, path, history))


def _write_as(
    compared: "Comparison", names: tuple[str, str], out: Path, history: "History | None"
) -> None:
    from hpcbench.analysis.decide import compare_text

    if out.suffix == ".md":
        out.write_text(compare_text.comparison_markdown(compared, names), encoding="utf-8")
    elif out.suffix == ".json":
        text = json.dumps(compare_text.comparison_json(compared, names), indent=2)
        out.write_text(text + "\n", encoding="utf-8")
    elif history is not None:
        # Only here and below: the other kinds need no matplotlib, which is slow to import.
        from hpcbench.analysis.figures.session_trend import save_session_trend

        save_session_trend(history, out)
    else:
        from hpcbench.analysis.figures.results_comparison import save_results_comparison

        save_results_comparison(compared, names, out)


def _write(option: str, out: Path, write: Callable[[Path], object]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out)
    except OSError as error:
        raise BadInput(
            f"{option} {out}: cannot be written: {error.strerror}",
            "name a file in a folder in which you may create files",
        ) from error


COMMANDS = (compare,)
