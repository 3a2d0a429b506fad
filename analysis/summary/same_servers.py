"""Server variants that Triton made the same server of: one configuration with several names.

An axis that is left as the model has it may come to the value that another variant asks for, as
where Triton itself chooses two instances. A gain of one over the other would be noise.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.summary.configuration import (
    MODEL,
    OBSERVED,
    PLACE,
    RESOLVED,
    SERVER,
    SOFTWARE,
    Numbers,
    group_numbers,
    ordered_variants,
    plain_rows,
)
from hpcbench.analysis.summary.configuration_names import server_text
from hpcbench.records.variants import BASE, may_be_one_server

ALSO = "also"
"""The column that says which other names the server of a row has, in words; None where none."""

# Loads and shapes say nothing about a server. What else it held does.
_MODEL_FILES = tuple(name for name in MODEL if name != "shapes")
_FLAGS = tuple(name for name in SERVER if name != "variant")
_UNTOLD = "untold"
_SERVER = (*_MODEL_FILES, *_FLAGS, _UNTOLD, "beside", *PLACE, *SOFTWARE, *OBSERVED)

# What is compared may differ in files, software and hardware.
_ASKED = (*(name for name in _MODEL_FILES if name != "model_digest"), *_FLAGS, _UNTOLD, "beside")

_NEEDED = tuple(dict.fromkeys((*_MODEL_FILES, *SERVER, "beside", *RESOLVED)))

SAME_SERVERS_COLUMNS = tuple(
    dict.fromkeys((*SERVER, *(name for name in _SERVER if name != _UNTOLD)))
)
"""The columns of `hpcbench.records.columns` that say which variants are one server."""


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
    if not may_be_one_server(texts):
        return frame.assign(**{ALSO: None})
    known = (codes >= 0) & frame["instance_count"].notna().to_numpy(dtype=bool)
    servers = group_numbers(_with_untold(frame, codes, texts), _SERVER)
    return _renamed(frame, servers, known)


def with_one_name_in_both(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two sets of results in which one server has one variant, if both have found it so.

    What is compared may differ in hardware and software, and in what Triton made of a variant. So a
    variant has another name in both or in none: where a set does not know what its server loaded,
    or two servers loaded different things, it keeps its own.

    Parameters
    ----------
    a, b
        Measurements with CONFIGURATION.

    Returns
    -------
    tuple of pandas.DataFrame
        The same rows with the column ALSO; ``variant`` is as `with_one_name` has it.
    """
    # A million rows have few variants, and most of them need no other look.
    distinct = {text for side in (a, b) for text in side["variant"].dropna().unique()}
    if not may_be_one_server(set(ordered_variants(pd.Series([*distinct], dtype="string")))):
        return a.assign(**{ALSO: None}), b.assign(**{ALSO: None})
    sides = [
        side[[*_NEEDED]].assign(variant=ordered_variants(side["variant"]).astype("string"))
        for side in (a, b)
    ]
    both = pd.concat(sides, ignore_index=True)
    codes, texts = pd.factorize(both["variant"])
    table = _with_untold(both, codes, texts)
    rows = pd.DataFrame(
        {
            "asked": group_numbers(table, [*_ASKED, "variant"]),
            "server": group_numbers(table, [*_ASKED, *RESOLVED]),
            "side": np.arange(len(both)) >= len(a),
            "known": (codes >= 0) & both["instance_count"].notna().to_numpy(dtype=bool),
        }
    )
    loaded = rows[rows["known"]].groupby("asked")["server"].agg(["first", "nunique"])
    everywhere = rows.groupby(["asked", "side"])["known"].any().groupby("asked").all()
    always = loaded.index[loaded["nunique"] == 1]
    sure = rows["asked"].isin(always.intersection(everywhere.index[everywhere]))
    # A row that failed has the server of the others of its variant.
    servers = rows["asked"].map(loaded["first"]).fillna(-1).to_numpy(np.int64)
    found = _renamed(both, servers, sure.to_numpy(dtype=bool))
    return _with_names(a, found.iloc[: len(a)]), _with_names(b, found.iloc[len(a) :])


def _with_names(frame: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: found[name].array for name in ("variant", ALSO)})


def same_servers_texts(rows: pd.DataFrame) -> list[str]:
    """Return which variants are one configuration.

    Parameters
    ----------
    rows
        Rows with CONFIGURATION and ALSO.

    Returns
    -------
    list of str
        As in ``"2 instances (the same as default instances)"``, each once.
    """
    there = rows[rows[ALSO].notna()].drop_duplicates(["variant", ALSO])
    return list(dict.fromkeys(server_text(row) for row in plain_rows(there, range(len(there)))))


def _with_untold(frame: pd.DataFrame, codes: Any, texts: Any) -> pd.DataFrame:
    """Add what a server does not tell of its variant: warm-up, fragments of a configuration."""
    axes: list[dict[str, Any]] = [json.loads(text) for text in texts]
    untold = [{k: v for k, v in each.items() if k not in RESOLVED} for each in axes]
    rest = [json.dumps(each, sort_keys=True) for each in untold]
    # Of a variant that is not known the code is -1, which picks the "" at the end.
    return frame.assign(**{_UNTOLD: np.array([*rest, ""], dtype=object)[codes]})


def _renamed(frame: pd.DataFrame, servers: Numbers, known: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Give rows the variant of their server that says most; ``known`` is where that is known."""
    codes, distinct = pd.factorize(frame["variant"])
    texts = [str(text) for text in distinct]
    names = pd.DataFrame({"server": servers, "code": codes})[known].drop_duplicates()
    names = names[names["server"].duplicated(keep=False)]
    if names.empty:
        return frame.assign(**{ALSO: None})
    # The variant that sets most axes says most; of equal ones, the first by its text.
    order = sorted(range(len(texts)), key=lambda code: (-_axes_set(texts[code]), texts[code]))
    ranks = np.argsort(order)
    chosen, also = {}, {}
    for server, found in names.groupby("server")["code"]:
        first, *others = sorted(found, key=lambda code: ranks[code])
        chosen[server] = texts[first]
        also[server] = " and ".join(_name(texts[code]) for code in others)
    where = pd.Series(servers, index=frame.index)
    variants = where.map(chosen).where(known)
    variants = variants.fillna(frame["variant"].astype(object)).astype("string")
    return frame.assign(variant=variants, **{ALSO: where.map(also).where(known)})


def _axes_set(text: str) -> int:
    return sum(value != BASE for value in json.loads(text).values())


def _name(text: str) -> str:
    return server_text({"variant": text})
