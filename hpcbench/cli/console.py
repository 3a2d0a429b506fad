"""What the commands print on: nothing that came from elsewhere controls the terminal."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hpcbench.errors import printable


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
