"""What the commands print on: nothing that came from elsewhere controls the terminal."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from hpcbench.cli.lines import folded
from hpcbench.errors import printable

_T = TypeVar("_T")


class SafeConsole(Console):
    """A console of rich's whose texts are printable, whatever they hold."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render something.

        Parameters
        ----------
        renderable
            A text, a table or the like.
        options
            As rich's own method takes them.

        Yields
        ------
        Segment
            Those of rich; what is no control of rich's own is printable.
        """
        for segment in super().render(renderable, options):
            own = segment.control is not None
            yield segment if own else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        """Leave it to the command line, which has an exit code for it.

        Raises
        ------
        BrokenPipeError
            Always; rich itself would exit with 1, which means that something got worse.
        """
        raise  # noqa: PLE0704 - called while the error is handled


def line_width(console: Console) -> int | None:
    """Return how wide a line may be.

    Parameters
    ----------
    console
        Where lines go.

    Returns
    -------
    int or None
        In characters; None where it is no terminal: programs that read lines want them whole.
    """
    return console.width if console.is_terminal else None


def print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Print lines that are folded already.

    Parameters
    ----------
    console
        Where to print them.
    lines
        The lines.
    """
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def print_folded(console: Console, text: str, style: str = "") -> None:
    """Print lines as they are written, folded between their words.

    Parameters
    ----------
    console
        Where to print them.
    text
        The lines. Brackets are nobody's markup: labels and messages of others may hold them.
    style
        As rich calls it.
    """
    width = line_width(console)
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip()) + 4
        print_lines(console, [Text(folded(line, width, indent), style)])


def show_progress_of(what: str) -> Callable[[Sequence[_T]], Iterable[_T]]:
    """Return what shows a bar on a terminal while a sequence is gone through.

    Parameters
    ----------
    what
        What is done with each of its items, in front of the bar.

    Returns
    -------
    callable
        Takes the sequence, and yields its items. Where stderr is no terminal it shows nothing.
    """
    from rich.progress import track

    console = SafeConsole(stderr=True)

    def shown(items: Sequence[_T]) -> Iterable[_T]:
        quiet = not console.is_terminal
        return track(items, what, console=console, transient=True, disable=quiet)

    return shown
