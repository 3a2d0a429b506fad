"""Write recommendations into a folder: a config.pbtxt for each, and how to use it.

The layout is OUT/MODEL/config.pbtxt, so that OUT can be copied over a model repository. A model
with several recommendations has OUT/DIFFERENCE/MODEL/config.pbtxt, named by the device, the label
or the shapes. The other models that a server has to hold stand beside it, each as it was served
there. Where something else is recommended for one of them, these are a folder of their own.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from hpcbench.analysis.decide.deploy_configs import Config, config_to_deploy, deployment_folders
from hpcbench.analysis.decide.production import Production
from hpcbench.analysis.decide.production_files import TARGETS, production_file
from hpcbench.analysis.decide.recommend import Recommendation, Row
from hpcbench.analysis.decide.recommend_text import (
    recommendation_distinctions,
    recommendation_json,
    recommendation_title,
    result_sentences,
)
from hpcbench.analysis.summary.configuration_names import (
    describe_configuration,
    load_text,
    server_text,
)
from hpcbench.analysis.summary.number_format import format_with_error
from hpcbench.errors import BadInput, one_line

LIST = "recommendation.json"
README = "README.md"


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
        The folder holds anything else, or cannot be written; or no model's name can be that of a
        folder. Where only some cannot, theirs are the recommendations without files.
    """
    names = unfit_names(advice)
    if names and all(one.identity["model"] in names for one in advice):
        raise BadInput(
            unfit_text(names),
            "leave out --out: the recommendations are printed",
        )
    known_configs = (config_to_deploy(one, configs) for one in advice)
    others = _unfit(name for config in known_configs if config for name in config.others)
    if others:
        raise BadInput(unfit_text(others), "these results were not written by hpcbench")
    try:
        _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        listed, written = [], []
        asked = production or ForProduction()
        numbers = asked.numbers or (None,) * len(advice)
        fits = [str(one.identity["model"]) not in names for one in advice]
        places = iter(deployment_folders([*compress(advice, fits)], configs))
        folders = [next(places) if fit else None for fit in fits]
        for one, folder, known in zip(advice, folders, numbers, strict=True):
            config = config_to_deploy(one, configs)
            path = None
            if folder and config and config.text:
                path = out / folder / "config.pbtxt"
                path.parent.mkdir(parents=True)
                path.write_text(config.text, encoding="utf-8")
                written.append(path)
            files = _write_for_production(asked.targets, one, known, out, folder) if folder else []
            written += files
            listed.append(
                recommendation_json(one)
                | {
                    "config": str(path.relative_to(out)) if path else None,
                    "production": known.json if known else None,
                    "files": [str(each.relative_to(out)) for each in files],
                }
            )
        for one, folder, entry in zip(advice, folders, listed, strict=True):
            if folder is None:
                continue
            files = _write_others(config_to_deploy(one, configs), out / folder.parent)
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


def _write_others(config: Config | None, folder: Path) -> list[Path]:
    """Write the other models of a server beside one, as they were served with it."""
    written = []
    for name, text in config.others.items() if config else ():
        # Where it is there, it is the same: what is different is in a folder of its own.
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


def unfit_names(advice: list[Recommendation]) -> list[str]:
    """Return the models that get no files, because their names cannot be those of folders.

    Parameters
    ----------
    advice
        The recommendations.

    Returns
    -------
    list of str
        Each once.
    """
    return _unfit(str(one.identity["model"]) for one in advice)


def _unfit(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if not re.fullmatch(r"\w[\w.+-]*", name)]


def unfit_text(names: list[str]) -> str:
    """Say that some models get no files.

    Parameters
    ----------
    names
        From `unfit_names`, one at least.

    Returns
    -------
    str
        A sentence without a full stop.
    """
    named = ", ".join(map(repr, names))
    if len(names) == 1:
        return f"the model's name {named} cannot be the name of a folder"
    return f"the models' names {named} cannot be the names of folders"


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
    several = sorted(one_line(model) for model, known in versions.items() if len(known) > 1)
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
    head = f"## {one_line(heading)}\n"
    if one.best is None:
        return f"{head}\nNothing is recommended: {one_line('; '.join(one.failing))}.\n"
    lines = [*files, *_use(one.best), f"- chosen for its {one.requirements.metric.name}"]
    if one.requirements.limits:
        lines[-1] += f", within {', '.join(map(str, one.requirements.limits))}"
    lines += [f"- {sentence}" for sentence in result_sentences(one)]
    lines += [f"- note: {note}" for note in one.notes]
    return "\n".join([head, *map(one_line, lines)]) + "\n"


def _file_lines(
    one: Recommendation, configs: Mapping[str, Config], written: str | None
) -> list[str]:
    """Return what to do with the file of a recommendation."""
    if names := unfit_names([one]):
        return [f"- no files: {unfit_text(names)}"]
    config = config_to_deploy(one, configs)
    if config is None:
        return ["- configuration: not known: these results hold no config.pbtxt"]
    others = [
        f"- {word}: {', '.join(names)}, on the same server, each as it was served there, whatever "
        "is recommended for it alone: copy the whole folder"
        for word, names in (("needs", config.needs), ("shares its server with", config.beside))
        if names
    ]
    if not written:
        return ["- configuration: none, as in your repository; Triton completes it", *others]
    version = one.identity["model_version"]
    lines = [f"- configuration: `{written}`", *others]
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
