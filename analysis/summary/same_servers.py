"""Server variants that Triton made the same server of: one configuration with several names.

An axis that is left as the model has it may come to the value that another variant asks for, as
where Triton itself chooses two instances. A gain of one over the other would be noise.
"""

import json
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.configuration import (
    BASE,
    MODEL,
    OBSERVED,
    PLACE,
    RESOLVED,
    SERVER,
    SOFTWARE,
    Numbers,
    group_numbers,
)
from hpcbench.analysis.summary.configuration_names import server_text

ALSO = "also"
"""The column that says which other names the server of a row has, in words; None where none."""

# Loads and shapes say nothing about a server. What else it held does.
_MODEL_FILES = tuple(name for name in MODEL if name != "shapes")
_FLAGS = tuple(name for name in SERVER if name != "variant")
_SERVER = (*_MODEL_FILES, *_FLAGS, "untold", "beside", *PLACE, *SOFTWARE, *OBSERVED)


def with_one_name(frame: pd.DataFrame) -> pd.DataFrame:
    """Return measurements in which one server has one variant, whatever the campaign called it.

    Parameters
    ----------
    frame
        n measurements, from `configuration.normalised`.

    Returns
    -------
    pandas.DataFrame
        The same rows with the column ALSO. Variants are the same server where they differ only in
        axes whose values the server told, and it told the same: then ``variant`` is that which
        says most. Where the server told nothing, they stay apart.
    """
    codes, texts = pd.factorize(frame["variant"])
    axes: list[dict[str, Any]] = [json.loads(text) for text in texts]
    # Two values that were asked for are no one server. So most results need no look at their rows.
    if len({frozenset(name for name, value in each.items() if value != BASE) for each in axes}) < 2:
        return frame.assign(**{ALSO: None})
    # Warm-up and fragments of a configuration are what a server does not tell.
    untold = [{k: v for k, v in each.items() if k not in RESOLVED} for each in axes]
    rest = [json.dumps(each, sort_keys=True) for each in untold]
    known = (codes >= 0) & frame["instance_count"].notna().to_numpy(dtype=bool)
    # Of a variant that is not known the code is -1, which picks the "" at the end.
    with_rest = frame.assign(untold=np.array([*rest, ""], dtype=object)[codes])
    servers = group_numbers(with_rest, _SERVER)
    names = pd.DataFrame({"server": servers, "code": codes})[known].drop_duplicates()
    names = names[names["server"].duplicated(keep=False)]
    if names.empty:
        return frame.assign(**{ALSO: None})
    return _renamed(frame, servers, names, list(texts))


def _renamed(
    frame: pd.DataFrame, servers: Numbers, names: pd.DataFrame, texts: list[str]
) -> pd.DataFrame:
    # The variant that sets most axes says most; of equal ones, the first by its text.
    order = sorted(range(len(texts)), key=lambda code: (-_axes_set(texts[code]), texts[code]))
    ranks = np.argsort(order)
    chosen, also = {}, {}
    for server, codes in names.groupby("server")["code"]:
        first, *others = sorted(codes, key=lambda code: ranks[code])
        chosen[server] = texts[first]
        also[server] = " and ".join(_name(texts[code]) for code in others)
    where = pd.Series(servers, index=frame.index)
    known = frame["instance_count"].notna() & frame["variant"].notna()
    variants = where.map(chosen).where(known)
    found = variants.fillna(frame["variant"].astype(object)).astype("string")
    return frame.assign(variant=found, **{ALSO: where.map(also).where(known)})


def _axes_set(text: str) -> int:
    return sum(value != BASE for value in json.loads(text).values())


def _name(text: str) -> str:
    return server_text({"variant": text})
