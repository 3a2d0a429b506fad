"""The commands that look at the rows of results themselves: check them, merge them."""

import json
from pathlib import Path

import click

from hpcbench.cli.results import JSON, RESULTS
from hpcbench.cli.say import say, say_damaged
from hpcbench.errors import HpcbenchError


@click.command()
@RESULTS
@JSON
def check(results: Path, as_json: bool) -> int:
    """Say which measurements of RESULTS may not be believed, and why.

    RESULTS is a results folder or a Parquet file, also one that was imported. The rules:
    docs/validity.md.

    Exit codes: 0 every measurement is valid, 1 some are not, 2 bad input.
    """
    from hpcbench.analysis.decide import check as checking
    from hpcbench.records.frame import load_results

    damaged: list[HpcbenchError] = []
    columns = checking.CHECK_COLUMNS
    frame = load_results(results, columns, categories=True, on_damage=damaged.append)
    found = checking.check_results(frame)
    if as_json:
        click.echo(json.dumps({"results": str(results), **checking.check_json(found)}, indent=2))
    else:
        for line in checking.check_lines(found):
            say(line)
    return max(say_damaged(damaged), int(found.invalid > 0))


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


COMMANDS = (check, aggregate)
