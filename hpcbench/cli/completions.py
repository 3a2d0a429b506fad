"""What a shell completes that click cannot know: sites, pools, styles and figures."""

from collections.abc import Iterable

from click import Context, Parameter
from click.shell_completion import CompletionItem

from hpcbench.errors import HpcbenchError

# Each imports what it needs when a shell asks: the command line itself must start fast.


def sites(context: Context, option: Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001 - click gives all
    """Return the sites that come with hpcbench, or else files.

    Parameters
    ----------
    context, option
        As click gives them; not all of them are needed.
    begun
        What the user has typed of the word.

    Returns
    -------
    list of CompletionItem
        What it may become.
    """
    from hpcbench.config.site import SHIPPED_SITES, TEMPLATE

    names = sorted(path.stem for path in SHIPPED_SITES.glob("*.yaml") if path.stem != TEMPLATE)
    return _matching(names, begun) or [CompletionItem(begun, type="file")]


def pools(context: Context, option: Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001 - click gives all
    """Return the pools of the site that the command line names so far.

    Parameters
    ----------
    context, option
        As click gives them; not all of them are needed.
    begun
        What the user has typed of the word.

    Returns
    -------
    list of CompletionItem
        What it may become.
    """
    from hpcbench.config.site import Site

    try:
        return _matching(Site.load(context.params.get("site") or "local").pools, begun)
    except HpcbenchError:
        return []


def styles(context: Context, option: Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001 - click gives all
    """Return the styles of figures.

    Parameters
    ----------
    context, option
        As click gives them; not all of them are needed.
    begun
        What the user has typed of the word.

    Returns
    -------
    list of CompletionItem
        What it may become.
    """
    from hpcbench.analysis.figures.styles import STYLES

    return _matching(STYLES, begun)


def figures(context: Context, option: Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001 - click gives all
    """Return the kinds of figures.

    Parameters
    ----------
    context, option
        As click gives them; not all of them are needed.
    begun
        What the user has typed of the word.

    Returns
    -------
    list of CompletionItem
        What it may become.
    """
    from hpcbench.analysis.figures.registry import FIGURES

    return _matching(FIGURES, begun)


def rules(context: Context, option: Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001 - click gives all
    """Return the rules that --accept takes.

    Parameters
    ----------
    context, option
        As click gives them; not all of them are needed.
    begun
        What the user has typed of the word.

    Returns
    -------
    list of CompletionItem
        What it may become.
    """
    from hpcbench.analysis.summary.invalid_rows import ACCEPTABLE

    return _matching(ACCEPTABLE, begun)


def _matching(names: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(begun)]
