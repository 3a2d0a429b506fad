"""The cases of ``hpcbench compare`` and of what its tables say of repeats."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.changes import Verdict
from hpcbench.analysis.decide.compare import compare_results
from hpcbench.analysis.summary.assumptions import check_repeats
from hpcbench.analysis.summary.statistics import group_statistics
from tests.benchmarks.synthetic import Night, results

TOLERANCE = 0.05
Chance = np.random.Generator


def _found_worse(night: Night, chance: Chance) -> float:
    """Whether the slow configuration is found worse in some metric."""
    a = results(replace(night, slow=1.0), chance)
    found = compare_results(a, results(replace(night, name="b"), chance), TOLERANCE)
    worse = found.rows[found.rows["verdict"] == Verdict.WORSE]
    return float((found.a_table["concurrency"].iloc[worse["a"]] == 1).any())


def _only_worse(night: Night, chance: Chance) -> float:
    """Whether some of many that changed are found worse, and none that did not change better."""
    a = results(replace(night, slow=1.0, gradient=1.0), chance)
    found = compare_results(a, results(replace(night, name="b"), chance), TOLERANCE)
    better = found.rows[found.rows["verdict"] == Verdict.BETTER]
    changed = round(night.share * night.configurations)
    same = found.a_table["concurrency"].iloc[better["a"]] > changed
    return float(found.count(Verdict.WORSE) > 0 and not same.any())


def _none_the_same(night: Night, chance: Chance) -> float:
    """Whether none that changed is the same or better, and none that did not change better."""
    a = results(replace(night, slow=1.0), chance)
    found = compare_results(a, results(replace(night, name="b"), chance), TOLERANCE)
    changed = found.a_table["concurrency"].iloc[found.rows["a"]] <= night.share * len(found.a_table)
    verdict = found.rows["verdict"].reset_index(drop=True)
    wrong = (verdict == Verdict.SAME).to_numpy() & changed.to_numpy(dtype=bool)
    return float(not (wrong | (verdict == Verdict.BETTER)).any())


def _more_failing(night: Night, chance: Chance) -> float:
    """Whether something is worse, where a share of A's measurements fails by chance."""
    a = results(replace(night, failing=0.01, dead=False), chance)
    return float(compare_results(a, results(replace(night, name="b"), chance), TOLERANCE).is_worse)


def _alarm(night: Night, chance: Chance) -> float:
    """Whether anything is worse, where nothing changed."""
    b = results(replace(night, name="b"), chance)
    return float(compare_results(results(night, chance), b, TOLERANCE).is_worse)


def _alarm_of_better(night: Night, chance: Chance) -> float:
    """Whether anything is worse, where some got better."""
    a = results(replace(night, slow=1.0), chance)
    return float(compare_results(a, results(replace(night, name="b"), chance), TOLERANCE).is_worse)


def _alarm_of_nights_apart(night: Night, chance: Chance) -> float:
    """Whether anything is worse, where nothing changed and each session measured others."""

    def side(name: str) -> pd.DataFrame:
        frame = results(replace(night, name=name), chance)
        session = frame["run_id"].astype(str).str.removeprefix(name).astype(int)
        own = (frame["concurrency"] - 1) * night.sessions // night.configurations
        return frame[(session == own).to_numpy(dtype=bool)].reset_index(drop=True)

    return float(compare_results(side("a"), side("b"), TOLERANCE).is_worse)


def _detectable_is_found(night: Night, chance: Chance) -> float:
    """Whether the smallest change that is said to be found is found: POWER of them are."""
    same = compare_results(results(night, chance), results(night, chance), TOLERANCE).rows
    of = same["metric"] == "throughput_infer_per_s"
    return _found_worse(replace(night, slow=float(same["detectable"][of].median())), chance)


def _throughputs(night: Night, chance: Chance) -> tuple[np.ndarray, np.ndarray]:
    frame = results(night, chance)
    return frame["throughput_infer_per_s"].to_numpy(float), frame["concurrency"].to_numpy(int) - 1


def _warned(night: Night, word: str, chance: Chance) -> float:
    """Whether a warning with this word is given."""
    return float(any(word in text for text in check_repeats(*_throughputs(night, chance)).warnings))


def _covered_or_warned(night: Night, chance: Chance) -> float:
    """The share of intervals that hold the true mean; all, where a warning is given."""
    values, numbers = _throughputs(night, chance)
    if any("not normal" in text for text in check_repeats(values, numbers).warnings):
        return 1.0
    found = group_statistics(values, numbers, night.configurations)
    truth = np.geomspace(100, 20_000, night.configurations) * (1 - night.outliers / 2)
    return float(((found["_low"] <= truth) & (found["_high"] >= truth)).mean())


def _case(name: str, function: Any, *words: Any, **promise: Any) -> dict[str, Any]:
    return {"name": name, "trial": partial(function, *words), **promise}


MANY = {
    "half of 100 at 91 %": Night(slow=0.91, share=0.5),
    "45 of 100 at 91 %": Night(slow=0.91, share=0.45),
    "half of 100 at 91 %, in nights (SD 5 %), 3 sessions": Night(
        slow=0.91, share=0.5, sessions=3, night_sd=0.05
    ),
    "55 of 100 at 91 %, in nights (SD 5 %), 3 sessions": Night(
        slow=0.91, share=0.55, sessions=3, night_sd=0.05
    ),
    "18 of 30 at 90 %, in nights (SD 5 %), 3 sessions": Night(
        configurations=30, slow=0.9, share=0.6, sessions=3, night_sd=0.05
    ),
    "30 of 100 at 80 %": Night(slow=0.8, share=0.3),
    "from 100 % to 80 % over the grid": Night(gradient=0.8),
}
"""What many configurations did, so that their median is not what the night did."""

FEW = {
    "5 of 9 at 85 %": Night(configurations=9, slow=0.85, share=5 / 9),
    "5 of 9 at 90 %": Night(configurations=9, slow=0.90, share=5 / 9),
    "5 of 9 at 93 %": Night(configurations=9, slow=0.93, share=5 / 9),
    "6 of 9 at 90 %, in nights (SD 5 %), 3 sessions": Night(
        configurations=9, slow=0.9, share=6 / 9, sessions=3, night_sd=0.05
    ),
    "20 of 30 at 90 %, in nights (SD 5 %), 3 sessions": Night(
        configurations=30, slow=0.9, share=2 / 3, sessions=3, night_sd=0.05
    ),
    "80 of 100 at 90 %, in nights (SD 5 %), 3 sessions": Night(
        slow=0.9, share=0.8, sessions=3, night_sd=0.05
    ),
}
"""What half of few configurations did, or most of all, so that the others may have changed."""

CASES = (
    _case(
        "compare: one of 100 at 50 %, 2 repeats, found worse",
        *(_found_worse, Night(repeats=2, slow=0.5)),
        least=0.95,
    ),
    _case(
        "compare: one of 100 at 70 %, 2 repeats, found worse",
        *(_found_worse, Night(repeats=2, slow=0.7)),
        least=0.9,
    ),
    _case(
        "compare: one of 100 at 90 %, 5 repeats, found worse",
        *(_found_worse, Night(repeats=5, slow=0.9)),
        least=0.8,
    ),
    *(
        _case(f"compare: {what}, found worse, others not better", _only_worse, night, least=0.95)
        for what, night in MANY.items()
    ),
    *(
        _case(
            f"compare: {what}, these not the same, none better",
            *(_none_the_same, night),
            least=0.95,
            trials=60,
        )
        for what, night in FEW.items()
    ),
    *(
        _case(f"compare: nothing changed, {n} repeats, alarms", _alarm, Night(repeats=n), most=0.05)
        for n in (1, 2, 3, 5, 10)
    ),
    *(
        _case(
            f"compare: 1 % of measurements fail on both sides, {n} repeats, alarms",
            *(_alarm, Night(repeats=n, failing=0.01)),
            most=0.05,
        )
        for n in (2, 3, 10)
    ),
    *(
        _case(
            f"compare: {rate:.1%} of measurements fail on both sides, 1 repeats, alarms",
            *(_alarm, Night(repeats=1, failing=rate)),
            most=0.05,
            trials=60,
        )
        for rate in (0.002, 0.01)
    ),
    _case(
        "compare: one of 100 fails in all of 3 repeats, found worse",
        *(_more_failing, Night(failing=0.01, dead=True)),
        least=0.95,
    ),
    _case(
        "compare: 1 % of measurements fail in A and 6 % in B, 3 repeats, found worse",
        *(_more_failing, Night(failing=0.06)),
        least=0.8,
    ),
    *(
        _case(
            f"compare: nothing but the night (SD {sd:.0%}), 3 sessions, {n} repeats, alarms",
            *(_alarm, Night(repeats=n, sessions=3, night_sd=sd)),
            most=0.05,
        )
        for sd in (0.05, 0.08)
        for n in (3, 10)
    ),
    *(
        _case(
            f"compare: {k} nights (SD 5 %) that share no configuration, 3 repeats, alarms",
            *(_alarm_of_nights_apart, Night(configurations=40, sessions=k, night_sd=0.05)),
            most=0.05,
        )
        for k in (2, 10)
    ),
    _case(
        "compare: 10 of 30 at 110 %, in nights (SD 5 %), 3 sessions, alarms",
        *(
            _alarm_of_better,
            Night(configurations=30, slow=1.1, share=1 / 3, sessions=3, night_sd=0.05),
        ),
        most=0.05,
    ),
    _case(
        "compare: the smallest change that 3 repeats are said to find, found",
        *(_detectable_is_found, Night(configurations=40)),
        least=0.75,
    ),
    _case(
        "repeats: 10 % twice as slow, n = 5, covered or told",
        *(_covered_or_warned, Night(configurations=50, repeats=5, outliers=0.1)),
        least=0.85,
        trials=300,
    ),
    _case(
        "repeats: AR(1) of 0.6, n = 5, told as not independent",
        *(_warned, Night(configurations=50, repeats=5, rho=0.6), "not independent"),
        least=0.8,
        trials=300,
    ),
    _case(
        "repeats: independent and normal, n = 5, warned for nothing",
        *(_warned, Night(configurations=50, repeats=5), "repeats are"),
        most=0.05,
        trials=300,
    ),
)
