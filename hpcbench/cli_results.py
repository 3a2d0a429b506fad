"""The commands that read results only: they need no site, no Dask and no GPU."""

from pathlib import Path

import click

from hpcbench.errors import BadInput

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
def plot(results: Path, out: Path) -> None:
    """Draw the figures of RESULTS, a folder or a Parquet file, as PNG and PDF."""
    try:
        from analysis import figures
    except ImportError as error:
        raise _lacks(error) from error
    from hpcbench.store import load_results

    for path in figures.draw_all(load_results(results), out):
        click.echo(path)


COMMANDS = (plot,)
