"""Why a configuration is recommended with reserve, or none at all, in sentences."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.candidates import Candidates
from hpcbench.analysis.decide.size import not_sized
from hpcbench.analysis.summary import statistics
from hpcbench.analysis.summary.configuration import Array, as_floats, plain_rows
from hpcbench.analysis.summary.configuration_names import beside_text, short_name
from hpcbench.analysis.summary.invalid_rows import ACCEPTABLE, accepted_text
from hpcbench.analysis.summary.limits import LATENCY, MEMORY, Limit
from hpcbench.analysis.summary.number_format import sure_text
from hpcbench.records.validity import broken_rules

MOST_NAMED = 5
"""Configurations that are named of those without the metric to optimise."""


def notes(candidates: Candidates, best: dict[str, Any]) -> tuple[str, ...]:
    """Return what a user must know before relying on a configuration.

    Parameters
    ----------
    candidates
        The configurations that it was chosen from.
    best
        The row of the configuration.

    Returns
    -------
    tuple of str
        Sentences without a full stop.
    """
    return (
        *_about_shared_server(best),
        *_about_needs(best),
        *_about_repeats(candidates, best),
        *_about_limits(candidates, best),
        *_about_others(candidates, best),
        *not_sized(candidates, best["position"]),
    )


def _about_shared_server(best: dict[str, Any]) -> Iterator[str]:
    if best["beside"] is not None:
        yield (
            "measured on a shared server, and true of such servers only: "
            f"{beside_text(json.loads(best['beside']))}"
        )


def _about_needs(best: dict[str, Any]) -> Iterator[str]:
    if best["needs"] is not None:
        yield (
            f"it calls {', '.join(json.loads(best['needs']))}: deploy that beside it, as it was "
            "served there (--out writes the files)"
        )


def _about_repeats(candidates: Candidates, best: dict[str, Any]) -> Iterator[str]:
    if not candidates.reliable[best["position"]]:
        yield (
            f"only {best['measured']} of its {best['repeats']} repeats could be measured, and "
            "nothing else is left: find out why the others failed before you deploy it"
        )
    elif best["measured"] < best["repeats"]:
        yield f"{best['repeats'] - best['measured']} of its {best['repeats']} repeats failed"
    if best["unstable"]:
        yield (
            f"{best['unstable']} of its {best['measured']} measurements did not settle: measure it "
            "again on a quiet machine, or with longer windows"
        )
    if best["measured"] == 1:
        known = best[f"{candidates.requirements.metric.column}_low"] is not None
        borrowed = "so its spread is that of the others" if known else "so its spread is not known"
        yield f"it was measured once, {borrowed}: add repeats"
    yield from candidates.warnings


def _about_limits(candidates: Candidates, best: dict[str, Any]) -> Iterator[str]:
    wanted = candidates.requirements
    requests, needed = best["requests_min"], statistics.requests_needed(99)
    if LATENCY in wanted.decisive and requests is not None and requests < needed:
        yield (
            f"its p99 comes from {requests:.0f} requests; with fewer than {needed} it says little: "
            "use longer windows"
        )
    for limit in wanted.limits if wanted.limits_by_mean else ():
        low, high = (best[f"{limit.metric.column}_{end}"] for end in ("low", "high"))
        beyond = low if limit.metric.higher_is_better else high
        if limit.metric is MEMORY:
            continue
        if beyond is None:
            yield f"{limit} is judged by the mean alone, and nothing says how far that varies"
        elif not limit.is_met(np.array([beyond]))[0]:
            yield (
                f"{limit} is judged by the mean alone: the interval of its {limit.metric.name} "
                f"extends to {beyond:.4g} {limit.metric.unit}"
            )


def _about_others(candidates: Candidates, best: dict[str, Any]) -> Iterator[str]:
    failing = int((candidates.within & ~candidates.reliable).sum())
    if failing and candidates.reliable[best["position"]]:
        yield (
            f"{_configurations(failing)} left out, of which a third or more of the repeats failed, "
            "or were not valid"
        )
    if invalid := int(candidates.table["invalid"].sum()):
        are = "measurement is" if invalid == 1 else "measurements are"
        yield f"{invalid} {are} left out, not being valid: hpcbench check says why"
    yield from _without_objective(candidates)
    if "accepted" in candidates.table and (used := int(candidates.table["accepted"].sum())):
        yield accepted_text(used)
    if candidates.overloaded.any():
        yield (
            f"{_configurations(int(candidates.overloaded.sum()))} left out, which fell behind the "
            "request rate asked for"
        )


def _without_objective(candidates: Candidates) -> Iterator[str]:
    """Yield how many measurements say that they went well, and lack the metric to optimise."""
    table, metric = candidates.table, candidates.requirements.metric
    if f"{metric.column}_n" not in table:
        return
    lacking = as_floats(table["measured"]) - as_floats(table[f"{metric.column}_n"])
    at = np.flatnonzero(lacking > 0)
    if not len(at):
        return
    names = ", ".join(f"({short_name(row)})" for row in plain_rows(table, at[:MOST_NAMED]))
    more = f" and {len(at) - MOST_NAMED} more" if len(at) > MOST_NAMED else ""
    yield f"measured without {metric.name}, and left out: {lacking.sum():.0f}: {names}{more}"


def _configurations(count: int) -> str:
    return f"{count} configuration is" if count == 1 else f"{count} configurations are"


def nearest(candidates: Candidates) -> int | None:
    """Return the configuration that exceeds the limits least.

    Parameters
    ----------
    candidates
        The configurations, none of which keeps all limits.

    Returns
    -------
    int or None
        Its position: that whose largest excess, as a factor, is smallest. None where nothing that
        is limited was measured.
    """
    limits = candidates.requirements.limits
    excess = np.max([limit.excess(_best_known(candidates, limit)) for limit in limits], axis=0)
    excess[~candidates.measured | candidates.overloaded] = np.inf
    found = int(np.argmin(excess))
    return found if np.isfinite(excess[found]) else None


def _best_known(candidates: Candidates, limit: Limit) -> Array:
    """Return what is compared with a limit, or the mean where that is all there is."""
    values = candidates.limit_values[limit.option]
    mean = as_floats(candidates.table[limit.metric.column])
    return np.where(np.isfinite(values), values, mean)


def failing(candidates: Candidates) -> tuple[str, ...]:
    """Return why there is nothing to recommend.

    Parameters
    ----------
    candidates
        The configurations, none of which keeps all limits.

    Returns
    -------
    tuple of str
        A sentence for each limit that cannot be kept.
    """
    table, wanted = candidates.table, candidates.requirements
    if not candidates.measured.any() and table["invalid"].any():
        return tuple(_not_valid(table))
    if not candidates.measured.any():
        reasons = table["reason"].dropna()
        why = f": {reasons.mode().iloc[0]}" if len(reasons) else ""
        return (f"none of its {len(table)} configurations was measured{why}",)
    usable = candidates.measured & ~candidates.overloaded
    if not usable.any():
        behind = "every configuration fell behind the request rate asked for"
        return (f"{behind}: its latency is that of a queue that grows; ask for lower rates",)
    sentences = [text for limit in wanted.limits for text in _broken(candidates, limit)]
    if not sentences and len(wanted.limits) > 1:
        limits_text = " and ".join(map(str, wanted.limits))
        sentences.append(f"no configuration meets {limits_text} together")
    if not np.isfinite(as_floats(table[wanted.metric.column])[usable]).any():
        sentences.append(
            f"--objective {wanted.objective}: the {wanted.metric.name} was not measured"
        )
    return tuple(sentences)


def _not_valid(table: pd.DataFrame) -> Iterator[str]:
    """Say which rules leave nothing to choose from, and what can be done."""
    texts = table.loc[table["invalid"] > 0, "invalid_reasons"].dropna()
    rules = [rule for rule in broken_rules(", ".join(texts)) if rule.left_out]
    yield (
        f"none of its {len(table)} configurations has a valid measurement; not valid: "
        f"{int(table['invalid'].sum())} of {int(table['repeats'].sum())}"
    )
    yield from (f"{rule.code}: {rule.meaning}" for rule in rules)
    again = "measure again where that does not happen, as on a quieter node"
    # What is there counts as done: the same command would measure nothing.
    again += ": hpcbench run with --new-session, or with another folder"
    accepting = " ".join(f"--accept {rule.code}" for rule in rules if rule.code in ACCEPTABLE)
    yield again + (f"; or use them as they are: {accepting}" if accepting else "")


def _broken(candidates: Candidates, limit: Limit) -> Iterator[str]:
    usable = candidates.measured & ~candidates.overloaded
    metric, values = limit.metric, candidates.limit_values[limit.option][usable]
    means = as_floats(candidates.table[metric.column])[usable]
    known = means[np.isfinite(means)]
    if not len(known):
        yield f"{limit}: the {metric.name} was not measured"
    elif limit.is_met(values).any():
        return
    elif (kept := int(limit.is_met(means).sum())) and np.isnan(values).all():
        yield (
            f"{limit}: {kept} of {len(means)} keep it by the mean, but all were measured once, so "
            "that nothing says how far it varies: measure with repeats, or accept "
            "--limits-by-mean"
        )
    elif kept:
        sure = sure_text(candidates.requirements.confidence)
        closest = np.nanmin(limit.excess(values)) * limit.value
        if metric.higher_is_better:
            closest = limit.value**2 / closest
        # Few repeats have no finite end at a confidence near 1.
        surest = "no end can be given"
        if np.isfinite(closest) and closest > 0:
            surest = f"the surest may reach {closest:.4g} {metric.unit}"
        yield (
            f"{limit}: {kept} of {len(means)} keep it by the mean, none with {sure} confidence: "
            f"{surest}; more repeats{' and longer windows' if metric is LATENCY else ''} narrow it"
        )
    else:
        closest, which = (
            (known.max(), "highest") if metric.higher_is_better else (known.min(), "lowest")
        )
        yield (
            f"no configuration meets {limit}: the {which} {metric.name} measured is "
            f"{closest:.4g} {metric.unit}"
        )
