"""The command `hpcbench`: its subcommands, exit codes and log."""

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from hpcbench._version import __version__
from hpcbench.cli import campaign, compare, exchange, follow, install, results
from hpcbench.errors import HpcbenchError, PrintableFormatter, printable

# Modules of commands import click and little else. Each command imports what it needs when it is
# called: importing Dask, pandas and matplotlib takes longer than most commands take themselves.

SECTIONS: Mapping[str, Sequence[click.Command]] = {
    "Measure": (*campaign.COMMANDS, *follow.COMMANDS),
    "Evaluate": (*results.COMMANDS, *compare.COMMANDS),
    "Exchange": exchange.COMMANDS,
    "Install": install.COMMANDS,
}
"""The subcommands in the order in which `hpcbench --help` lists them."""

NO_READER = 128 + signal.SIGPIPE
"""The exit code where nobody reads the output, as a shell gives it to other programs."""

EXTRAS: Mapping[str, str] = dict.fromkeys(("jinja2", "matplotlib", "mplhep"), "analysis")
"""Packages that a plain installation may lack, and the extra of pyproject.toml that brings each."""


class _Group(click.Group):
    """Turn errors into messages and exit codes, and list the subcommands by section."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        # What is imported stays. Python's collector would look through it at every 700 objects, and
        # once more at the end: 0.3 s of a run's start and stop.
        gc.set_threshold(100_000)
        atexit.register(gc.freeze)
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.Exit as error:
            sys.exit(error.exit_code)
        except click.Abort:
            _report("interrupted; run the same command again to continue")
            sys.exit(130)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()  # the help of the command
            sys.exit(2)
        except click.ClickException as error:
            # It names what the user typed, which may be the odd name of a file.
            text = printable(error.format_message())
            click.UsageError(text, getattr(error, "ctx", None)).show()
            sys.exit(2)
        except HpcbenchError as error:
            _report(str(error))
            sys.exit(error.exit_code)
        except ModuleNotFoundError as error:
            # Anything but an optional dependency is a bug, here or in the user's own module:
            # only the traceback says where.
            extra = EXTRAS.get(error.name or "")
            if extra is None:
                raise
            _report(
                f"the package {error.name} is not installed\n"
                f"  -> pip install 'triton-hpcbench[{extra}]'"
            )
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _silent_without_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _silent_without_reader():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, self.commands))
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [(each.name or "", each.get_short_help_str(width)) for each in commands],
                    col_max=30,
                )


@contextmanager
def _silent_without_reader() -> Iterator[None]:
    """Exit like a program that SIGPIPE ends where nobody reads the output, as after `| head`.

    click would exit with 1, which of some commands means that something got worse.
    """
    try:
        yield
    except BrokenPipeError:
        # What is still in Python's buffers goes nowhere, and without a message.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
        raise click.exceptions.Exit(NO_READER) from None


def _report(message: str) -> None:
    click.secho("hpcbench: ", fg="red", bold=True, nl=False, err=True)
    click.echo(printable(message), err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hpcbench")
@click.option("-v", "--verbose", is_flag=True, help="Log every program that is started.")
def main(verbose: bool) -> None:
    """Benchmark models on NVIDIA Triton over the nodes of an HPC site.

    A campaign file lists the models and the axes to scan. A site file describes where to run.
    Usual order: doctor, plan, run, status, report.

    \b
    Exit codes:
      0    every point was measured
      1    the run ended, but some points failed
      2    bad input
      3    the site or its batch system refused
      130  interrupted; run the same command again to continue
    """  # noqa: D301 - click wants the character \b itself: it keeps the lines of this list apart
    terminal = logging.StreamHandler()
    terminal.setFormatter(PrintableFormatter("%(levelname)s:%(name)s:%(message)s"))
    # Progress replaces most of the log on the terminal; the driver's log file gets all of it.
    terminal.setLevel(logging.DEBUG if verbose else logging.ERROR)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, handlers=[terminal])


for _commands in SECTIONS.values():
    for _command in _commands:
        main.add_command(_command)
