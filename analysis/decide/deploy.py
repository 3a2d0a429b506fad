"""Write recommendations into a folder: a config.pbtxt for each, and how to use it.

The layout is OUT/MODEL/config.pbtxt, so that OUT can be copied over a model repository. A model
with several recommendations has OUT/DIFFERENCE/MODEL/config.pbtxt, named by the device, the label
or the shapes.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hpcbench.analysis.decide.production import Production
from hpcbench.analysis.decide.production_files import TARGETS, production_file
from hpcbench.analysis.decide.recommend import Recommendation, Row
from hpcbench.analysis.decide.recommend_text import (
    recommendation_distinctions,
    recommendation_json,
    recommendation_title,
    result_sentences,
)
from hpcbench.analysis.summary.axis_names import file_name_part
from hpcbench.analysis.summary.configuration_names import (
    beside_text,
    describe_configuration,
    device_name,
    load_text,
    loads_beside,
    server_text,
    version_text,
)
from hpcbench.analysis.summary.number_format import format_with_error
from hpcbench.errors import BadInput

LIST = "recommendation.json"
README = "README.md"

MOST_LETTERS = 120
"""Of a folder's name: file systems allow 255 bytes."""


@dataclass(frozen=True)
class ForProduction:
    """What else to write for production.

    Attributes
    ----------
    targets
        Keys of `production_files.TARGETS`.
    numbers
        Those of each recommendation, in their order; None where nothing is recommended.
    """

    targets: tuple[str, ...] = ()
    numbers: tuple[Production | None, ...] = ()


@dataclass(frozen=True)
class Config:
    """A config.pbtxt to deploy.

    Attributes
    ----------
    text
        Its content; empty where the model goes without one.
    as_measured
        Whether it is the one of the measurement, which serves the measured version only. Results of
        before hpcbench 0.2 have no other.
    needs
        The config.pbtxt of each model that it calls, by its name; empty where one has none.
    """

    text: str
    as_measured: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)


DEPLOY_COLUMNS = ("point_id", "deploy_config", "server_config", "needs")
"""The columns that `configs_to_deploy` needs."""


def configs_to_deploy(frame: pd.DataFrame) -> dict[str, Config]:
    """Return what to deploy for each point.

    Parameters
    ----------
    frame
        Measurements with DEPLOY_COLUMNS.

    Returns
    -------
    dict of str to Config
        By ``point_id``; imported results have none.
    """
    found: dict[str, Config] = {}
    rows = frame.dropna(subset="server_config")[[*DEPLOY_COLUMNS]]
    for point, own, served, called in rows.itertuples(index=False):
        needs = {} if pd.isna(called) else json.loads(called)
        as_measured = bool(pd.isna(own))
        found.setdefault(point, Config(served if as_measured else own, as_measured, needs))
    return found


def write_deployment(
    advice: list[Recommendation],
    configs: Mapping[str, Config],
    out: Path,
    production: ForProduction | None = None,
) -> list[Path]:
    """Write the recommendations into a folder.

    Parameters
    ----------
    advice
        The recommendations.
    configs
        The configurations by ``point_id``. A recommendation without one is listed without a file.
    out
        The folder. An earlier recommendation in it is replaced.
    production
        What to write for production, each into a folder of the target's name; None for nothing.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    BadInput
        The folder holds anything else, or cannot be written.
    """
    _check(advice)
    try:
        _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        listed, written = [], []
        asked = production or ForProduction()
        numbers = asked.numbers or (None,) * len(advice)
        folders = _folders(advice)
        for one, folder, known in zip(advice, folders, numbers, strict=True):
            config = _config(one, configs)
            path = None
            if config and config.text:
                path = out / folder / "config.pbtxt"
                path.parent.mkdir(parents=True)
                path.write_text(config.text, encoding="utf-8")
                written.append(path)
            files = _write_for_production(asked.targets, one, known, out, folder)
            written += files
            listed.append(
                recommendation_json(one)
                | {
                    "config": str(path.relative_to(out)) if path else None,
                    "production": known.json if known else None,
                    "files": [str(each.relative_to(out)) for each in files],
                }
            )
        # Last: what is recommended for one of these models itself comes first.
        for one, folder, entry in zip(advice, folders, listed, strict=True):
            files = _write_needed(_config(one, configs), out / folder.parent)
            written += files
            entry["files"] += [str(each.relative_to(out)) for each in files]
        (out / LIST).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
        (out / README).write_text(_readme(advice, configs, listed), encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"--out {out}: cannot be written: {error.strerror}",
            "name a folder in which you may create files",
        ) from error
    return [*written, out / LIST, out / README]


def _config(one: Recommendation, configs: Mapping[str, Config]) -> Config | None:
    return configs.get(one.best["point_id"]) if one.best else None


def _write_needed(config: Config | None, folder: Path) -> list[Path]:
    """Write the models that one calls beside it, as they were served with it."""
    written = []
    for name, text in config.needs.items() if config else ():
        path = folder / name / "config.pbtxt"
        if text and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _write_for_production(
    targets: tuple[str, ...], one: Recommendation, known: Production | None, out: Path, folder: Path
) -> list[Path]:
    written = []
    for target in targets:
        file = production_file(target, one, known)
        if file is not None:
            path = out / target / folder / file[0]
            path.parent.mkdir(parents=True)
            path.write_text(file[1], encoding="utf-8")
            written.append(path)
    return written


_WRITTEN = {"config.pbtxt", *(name for name, _ in TARGETS.values())}


def _check(advice: list[Recommendation]) -> None:
    for one in advice:
        model = str(one.identity["model"])
        if not re.fullmatch(r"\w[\w.+-]*", model):
            raise BadInput(
                f"the model's name {model!r} cannot be the name of a folder",
                "leave out --out: the recommendations are printed",
            )


def _clear(out: Path) -> None:
    """Remove the files of an earlier recommendation, and nothing else."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / LIST).is_file():
        raise BadInput(
            f"--out {out}: is not empty, and holds no earlier recommendation",
            "name a new folder",
        )
    try:
        paths = [
            Path(name)
            for entry in json.loads((out / LIST).read_text())
            for name in (entry["config"], *entry.get("files", ()))
            if name
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{out / LIST}: was not written by hpcbench", "name a new folder") from error
    for path in paths:
        # The list is a file that anybody may have edited: it must not make us delete other files.
        if path.is_absolute() or ".." in path.parts or path.name not in _WRITTEN:
            raise BadInput(f"{out / LIST}: names the file {path}", "name a new folder")
        (out / path).unlink(missing_ok=True)
        for folder in (out / path).parents:
            if folder == out or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def _folders(advice: list[Recommendation]) -> list[Path]:
    """Return where each recommendation goes, relative to the folder: named by what differs."""
    taken: Counter[Path] = Counter()
    folders = []
    for one, more in zip(advice, recommendation_distinctions(advice), strict=True):
        model = one.identity["model"]
        alike = [other for other in advice if other.best and other.identity["model"] == model]
        named = [
            text
            for text, texts in (
                (device_name(one.identity), {device_name(other.identity) for other in alike}),
                (one.identity["model_label"], {other.identity["model_label"] for other in alike}),
                (version_text(one.identity), {version_text(other.identity) for other in alike}),
                (_beside(one), {_beside(other) for other in alike}),
            )
            if len(texts) > 1
        ]
        above = file_name_part(filter(None, [*named, more]))[:MOST_LETTERS]
        place = Path(above, str(model))
        if one.best:
            taken[place] += 1
            if taken[place] > 1:
                place = Path(f"{above}_{taken[place]}", str(model))
        folders.append(place)
    return folders


def _beside(one: Recommendation) -> str:
    others = one.identity["beside"]
    return beside_text(loads_beside(others)) if others else ""


def _readme(
    advice: list[Recommendation], configs: Mapping[str, Config], listed: list[dict[str, Any]]
) -> str:
    sections = [
        _section(
            one,
            recommendation_title(one, more),
            _file_lines(one, configs, entry["config"]),
        )
        for one, more, entry in zip(
            advice, recommendation_distinctions(advice), listed, strict=True
        )
    ]
    return "\n".join(
        [
            "# Recommended configurations",
            "",
            "Each config.pbtxt is that of the model, changed in the axes of the campaign and in",
            "nothing else. Copy it over that of the model in your repository. recommendation.json",
            "holds all numbers.",
            "",
            *_versions(advice),
            *sections,
        ]
    )


def _versions(advice: list[Recommendation]) -> list[str]:
    """Return what to know where several versions of a model have a configuration each."""
    versions: dict[str, set[Any]] = {}
    for one in advice:
        if one.best:
            versions.setdefault(one.identity["model"], set()).add(one.identity["model_version"])
    several = sorted(model for model, known in versions.items() if len(known) > 1)
    return [
        line
        for model in several
        for line in (
            f"A config.pbtxt holds for all versions of {model}: copy one of them, or serve each",
            "version as a model of its own name.",
            "",
        )
    ]


def _section(one: Recommendation, heading: str, files: list[str]) -> str:
    head = f"## {heading}\n"
    if one.best is None:
        return f"{head}\nNothing is recommended: {'; '.join(one.failing)}.\n"
    lines = [head, *files, *_use(one.best), f"- chosen for its {one.requirements.metric.name}"]
    if one.requirements.limits:
        lines[-1] += f", within {', '.join(map(str, one.requirements.limits))}"
    lines += [f"- {sentence}" for sentence in result_sentences(one)]
    lines += [f"- note: {note}" for note in one.notes]
    return "\n".join(lines) + "\n"


def _file_lines(
    one: Recommendation, configs: Mapping[str, Config], written: str | None
) -> list[str]:
    """Return what to do with the file of a recommendation."""
    config = _config(one, configs)
    if config is None:
        return ["- configuration: not known: these results hold no config.pbtxt"]
    needs = (
        f"- needs: {', '.join(config.needs)}, on the same server, each as in your repository: so "
        "it was measured, whatever is recommended for them alone"
        if config.needs
        else None
    )
    if not written:
        return [
            "- configuration: none, as in your repository; Triton completes it",
            *filter(None, [needs]),
        ]
    version = one.identity["model_version"]
    lines = [f"- configuration: `{written}`", *filter(None, [needs])]
    if version is not None and config.as_measured:
        lines.append(
            f"- version: the file serves version {version} only; put the version_policy of your "
            "own file into it"
        )
    elif version is not None:
        lines.append(
            f"- version: {version}; the version_policy is that of your model, and has to serve "
            "this version"
        )
    return lines


def _use(best: Row) -> list[str]:
    latency = format_with_error(best, "latency_p99_ms")
    times = "once" if best["measured"] == 1 else f"{best['measured']} times"
    return [
        f"- server: {server_text(best)}",
        f"- clients: {', '.join(filter(None, [load_text(best), _calls(best)]))}",
        f"- throughput: {format_with_error(best, 'throughput_infer_per_s')} infer/s",
        f"- p99 latency: {latency} ms" if latency != "-" else "- p99 latency: not measured",
        f"- measured {times} on {best['site']}, pool {best['pool']}",
    ]


def _calls(best: Row) -> str:
    return describe_configuration(best).get("protocol", "")
