"""`hpcbench.run`: the driver's, which a notebook shows by itself."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from hpcbench.cli.notebook import notebook_display
from hpcbench.cli.progress import progress
from hpcbench.cluster import driver
from hpcbench.cluster.driver import Summary

P = ParamSpec("P")


def shown_in_notebooks(run: Callable[P, Summary]) -> Callable[P, Summary]:
    """Return a function that shows its progress where a notebook calls it without a listener.

    Parameters
    ----------
    run
        `hpcbench.cluster.driver.run`.

    Returns
    -------
    callable
        The same with a ``listener`` in a notebook.
    """

    @wraps(run)
    def shown(*args: P.args, **options: P.kwargs) -> Summary:
        if options.get("listener") is not None or notebook_display() is None:
            return run(*args, **options)
        with progress() as listener:
            options["listener"] = listener
            return run(*args, **options)

    return shown


run = shown_in_notebooks(driver.run)
