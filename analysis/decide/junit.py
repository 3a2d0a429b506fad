"""A comparison as JUnit XML, which systems of continuous integration show test by test."""

from collections.abc import Iterable, Iterator
from xml.etree import ElementTree as ET

import pandas as pd

from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import METRICS, Comparison
from hpcbench.analysis.summary.configuration import plain_rows
from hpcbench.analysis.summary.configuration_names import device_name, load_text, server_text
from hpcbench.analysis.summary.number_format import format_interval

_NAMES = {metric.column: metric.name for metric in METRICS}


def comparison_junit(found: Comparison) -> str:
    """Return a comparison as JUnit XML.

    Parameters
    ----------
    found
        The comparison.

    Returns
    -------
    str
        A test per metric of each configuration: a failure where it is worse, skipped where nothing
        can be told. What fails more often, no longer settles or is no longer measured, and what all
        configurations share, are tests of their own.
    """
    cases = [*_metrics(found), *_shifts(found), *_outcomes(found)]
    suite = ET.Element("testsuite", name="hpcbench compare", tests=str(len(cases)), errors="0")
    for name, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _metrics(found: Comparison) -> Iterator[ET.Element]:
    names = _configurations(found, found.rows)
    records = plain_rows(found.rows, range(len(found.rows)))
    for (device, name), row in zip(names, records, strict=True):
        ratio = f"B / A = {format_interval(row['ratio'], row['low'], row['high'])}"
        verdict = Verdict(row["verdict"])
        yield _case(device, f"{_NAMES[row['metric']]}: {name}", verdict, ratio)


def _shifts(found: Comparison) -> Iterator[ET.Element]:
    for shift in found.shifts:
        ratio = f"B / A = {format_interval(shift.ratio, shift.low, shift.high)}"
        name = f"{_NAMES[shift.metric]}: what all {shift.configurations} configurations share"
        yield _case(shift.place, name, shift.verdict, ratio)


def _outcomes(found: Comparison) -> Iterator[ET.Element]:
    for what, pairs in (
        ("no longer measured", found.lost),
        ("fails more often", found.failing),
        ("no longer settles", found.unsettled),
    ):
        for device, name in _configurations(found, pairs):
            yield _case(device, f"outcome: {name}", Verdict.WORSE, what)


def _configurations(found: Comparison, pairs: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Return the device and the name of the configuration of each pair."""
    return [
        (device_name(row), f"{row['model_label']}, {load_text(row)}, {server_text(row)}")
        for row in plain_rows(found.a_table, pairs["a"].to_numpy())
    ]


def _case(group: str, name: str, verdict: Verdict, message: str) -> ET.Element:
    # XML 1.0 has no control characters, in whatever way they are written.
    printable = ["".join(c for c in text if c.isprintable()) for text in (group, name)]
    case = ET.Element("testcase", classname=printable[0], name=printable[1])
    if verdict == Verdict.WORSE:
        ET.SubElement(case, "failure", message=f"worse: {message}")
    elif verdict == Verdict.CANNOT_TELL:
        ET.SubElement(case, "skipped", message=f"cannot tell: {message}")
    return case
