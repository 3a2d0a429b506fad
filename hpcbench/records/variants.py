"""Server variants as records write them: JSON of axes and values."""

import json
from collections.abc import Collection

BASE = "base"
"""The value of an axis that is left as the model's own configuration has it."""


def may_be_one_server(texts: Collection[str]) -> bool:
    """Return whether Triton may have made one server of some of these variants.

    Two values that were asked for are no one server. So most results need no look at what the
    servers loaded.

    Parameters
    ----------
    texts
        Different variants.

    Returns
    -------
    bool
        Whether some differ in which axes are set, or in words only.
    """
    if len(texts) < 2:
        return False
    each_set = [
        tuple(sorted(name for name, value in json.loads(text).items() if value != BASE))
        for text in texts
    ]
    return len(set(each_set)) > 1 or each_set.count(()) > 1
