"""A comparison as JUnit XML, which systems of continuous integration show test by test."""

from collections.abc import Iterable, Iterator
from xml.etree import ElementTree as ET

import pandas as pd

from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import METRIC_NAMES, Comparison
from hpcbench.analysis.decide.compare_summary import DOUBTFUL
from hpcbench.analysis.decide.references import ReferenceOutcome, ReferencesCheck, reference_text
from hpcbench.analysis.summary.configuration import plain_rows
from hpcbench.analysis.summary.configuration_names import device_name, short_name
from hpcbench.analysis.summary.number_format import format_interval


def comparison_junit(found: Comparison, check: ReferencesCheck) -> str:
    """Return a comparison as JUnit XML.

    Parameters
    ----------
    found
        The comparison.
    check
        What became of the references of B.

    Returns
    -------
    str
        A test per metric of each configuration: a failure where it is worse, skipped where nothing
        can be told. What fails more often, no longer settles or is no longer measured, what all
        configurations share, and what the campaign expects, are tests of their own.
    """
    cases = [*_metrics(found), *_shifts(found), *_outcomes(found), *_references(check)]
    suite = ET.Element("testsuite", name="hpcbench compare", tests=str(len(cases)), errors="0")
    for name, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _references(check: ReferencesCheck) -> Iterator[ET.Element]:
    for each in check.checked:
        name = f"{each.expected.metric}: {short_name(each.row)}"
        failure = "" if each.outcome == ReferenceOutcome.MET else reference_text(each)
        yield _case(device_name(each.row), f"reference: {name}", failure=failure)
    for expected in check.absent:
        failure = f"{ReferenceOutcome.NOT_MEASURED}: nothing in the results is what it is about"
        yield _case("references", f"reference: {expected.name}", failure=failure)


def _metrics(found: Comparison) -> Iterator[ET.Element]:
    names = _configurations(found, found.rows)
    records = plain_rows(found.rows, range(len(found.rows)))
    for (device, name), row in zip(names, records, strict=True):
        ratio = f"B / A = {format_interval(row['ratio'], row['low'], row['high'])}"
        title = f"{METRIC_NAMES[row['metric']]}: {name}"
        yield _verdict_case(device, title, Verdict(row["verdict"]), ratio)


def _shifts(found: Comparison) -> Iterator[ET.Element]:
    for shift in found.shifts:
        ratio = f"B / A = {format_interval(shift.ratio, shift.low, shift.high)}"
        name = f"{METRIC_NAMES[shift.metric]}: what all {shift.configurations} configurations share"
        yield _verdict_case(shift.place, name, shift.verdict, ratio)


def _outcomes(found: Comparison) -> Iterator[ET.Element]:
    for what, pairs in found.outcomes.items():
        for device, name in _configurations(found, pairs):
            yield _case(device, f"outcome: {name}", failure=f"worse: {what}")
    for device, name in _configurations(found, found.perhaps_lost):
        yield _case(device, f"outcome: {name}", skipped=f"{DOUBTFUL}: no longer measured")


def _configurations(found: Comparison, pairs: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Return the device and the name of the configuration of each pair."""
    rows = plain_rows(found.a_table, pairs["a"].to_numpy())
    return [(device_name(row), short_name(row)) for row in rows]


def _verdict_case(group: str, name: str, verdict: Verdict, message: str) -> ET.Element:
    text = f"{verdict}: {message}"
    return _case(
        group,
        name,
        failure=text if verdict == Verdict.WORSE else "",
        skipped=text if verdict == Verdict.INCONCLUSIVE else "",
    )


def _case(group: str, name: str, *, failure: str = "", skipped: str = "") -> ET.Element:
    case = ET.Element("testcase", classname=_plain(group), name=_plain(name))
    for tag, message in (("failure", failure), ("skipped", skipped)):
        if message:
            ET.SubElement(case, tag, message=_plain(message))
    return case


def _plain(text: str) -> str:
    # XML 1.0 has no control characters, in whatever way they are written.
    return "".join(c for c in text if c.isprintable())
