"""What a recommendation is deployed with: its config.pbtxt, that of other models, and where."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hpcbench.analysis.decide.recommend import Recommendation
from hpcbench.analysis.decide.recommend_text import recommendation_distinctions
from hpcbench.analysis.summary.axis_names import file_name_part
from hpcbench.analysis.summary.configuration_names import (
    beside_text,
    device_name,
    loads_beside,
    version_text,
)

MOST_LETTERS = 120
"""Of a folder's name: file systems allow 255 bytes."""


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
    beside
        The same of each model that shared its server, and of those that they call.
    """

    text: str
    as_measured: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def others(self) -> dict[str, str]:
        """The config.pbtxt of each other model that its server has to hold."""
        return {**self.needs, **self.beside}


DEPLOY_COLUMNS = ("point_id", "deploy_config", "server_config", "needs", "beside_configs")
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
    for point, own, served, *others in rows.itertuples(index=False):
        needs, beside = ({} if pd.isna(each) else json.loads(each) for each in others)
        as_measured = bool(pd.isna(own))
        text = served if as_measured else own
        found.setdefault(point, Config(text, as_measured, needs, beside))
    return found


def config_to_deploy(one: Recommendation, configs: Mapping[str, Config]) -> Config | None:
    """Return the configuration of a recommendation.

    Parameters
    ----------
    one
        The recommendation.
    configs
        The configurations by ``point_id``.

    Returns
    -------
    Config or None
        None where nothing is recommended, or where its results hold none.
    """
    return configs.get(one.best["point_id"]) if one.best else None


def deployment_folders(advice: list[Recommendation], configs: Mapping[str, Config]) -> list[Path]:
    """Return where each recommendation goes.

    Copied over a repository, each folder makes servers as they were measured.

    Parameters
    ----------
    advice
        The recommendations.
    configs
        The configurations by ``point_id``.

    Returns
    -------
    list of Path
        Folders of models, relative to the folder to deploy. What is above a model is named by what
        sets its recommendation apart. A model whose server holds another one, in another
        configuration than is recommended for that, has a folder of its own with it.
    """
    return _apart(advice, configs, _named_folders(advice))


def _named_folders(advice: list[Recommendation]) -> list[Path]:
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


def _apart(
    advice: list[Recommendation], configs: Mapping[str, Config], folders: list[Path]
) -> list[Path]:
    known = [config_to_deploy(one, configs) for one in advice]
    texts = {folder: config.text for folder, config in zip(folders, known, strict=True) if config}
    found = []
    for config, folder in zip(known, folders, strict=True):
        others = config.others if config else {}
        place, number = folder, 1
        while any(texts.get(place.parent / name, text) != text for name, text in others.items()):
            # The first time, "with" is new to the name; later ones are counted.
            above = file_name_part([*filter(None, folder.parts[:-1]), "with", *others])
            place = Path(above[:MOST_LETTERS] + (f"_{number}" if number > 1 else ""), folder.name)
            number += 1
        texts |= {place.parent / name: text for name, text in others.items()}
        found.append(place)
    return found


def _beside(one: Recommendation) -> str:
    others = one.identity["beside"]
    return beside_text(loads_beside(others)) if others else ""
