"""Small tables that a notebook shows. Whatever they say is text, and never markup."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_LEFT = "text-align: left; vertical-align: top"


def facts_html(title: str, facts: Mapping[str, Any]) -> str:
    """Return a table with a row for each fact.

    Parameters
    ----------
    title
        What the facts are about.
    facts
        Values by name. A list of mappings, or a mapping of them, becomes a table inside.

    Returns
    -------
    str
        HTML.
    """
    rows = "".join(
        f'<tr><th style="{_LEFT}">{escape(name)}</th><td style="{_LEFT}">{_value(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<p><b>{escape(title)}</b></p><table><tbody>{rows}</tbody></table>"


def rows_html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a heading for each column.

    Parameters
    ----------
    head
        The headings.
    rows
        The cells of each row.

    Returns
    -------
    str
        HTML.
    """
    above = "".join(f"<th>{escape(name)}</th>" for name in head)
    below = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{above}</tr></thead><tbody>{below}</tbody></table>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
        named = [{"": name, **_mapping(each)} for name, each in value.items()]
        return _records(named)
    if isinstance(value, Mapping):
        return _records([value]) if value else ""
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return _records(value)
    return escape(_text(value))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"value": value}


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    head = list(dict.fromkeys(name for record in records for name in record))
    rows = [[_text(record[name]) if name in record else "" for name in head] for record in records]
    return rows_html(head, rows)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
