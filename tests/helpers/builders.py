"""Small real models, campaigns, sites and records for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import text_format

from hpcbench.config import yaml_model
from hpcbench.config.campaign import Campaign
from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.site import Site
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import BadInput
from hpcbench.plan import grid
from hpcbench.plan.model import TritonModel
from hpcbench.plan.order import make_placements
from hpcbench.plan.placement import Placement
from hpcbench.plan.point import Point, ServerVariant
from hpcbench.records.columns import Record, Status
from tests.helpers.paths import DATA

PRINTED = DATA / "perf_analyzer"
NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)

Inputs = Mapping[str, Sequence[int]]


def parsed(text: str) -> ModelConfig:
    """A config.pbtxt as a message."""
    config = ModelConfig()
    text_format.Parse(text, config)
    return config


def triton_model(
    name: str = "tagger",
    *,
    max_batch_size: int = 256,
    inputs: Inputs | None = None,
    config: str = "",
    versions: tuple[int, ...] = (1,),
    digest: str = "d1",
    folder: Path = Path("/nowhere"),
) -> TritonModel:
    """A model as `read_model` would give it, without a file on the disk."""
    dims = {"x": (16,)} if inputs is None else inputs
    message = parsed(config)
    message.name = name
    message.max_batch_size = max_batch_size
    return TritonModel(
        name=name,
        folder=folder,
        digest=digest,
        config=message.SerializeToString(deterministic=True),
        dynamic_batching=True,
        max_batch_size=max_batch_size,
        inputs=tuple((key, tuple(value)) for key, value in dims.items()),
        versions=versions,
    )


def variant(
    model: TritonModel | None = None, *, version: int | None = None, **axes: Any
) -> ServerVariant:
    """A server variant that changes nothing but ``axes``."""
    return ServerVariant(
        model=model or triton_model(),
        label="Tagger",
        position=0,
        version=version,
        changes=tuple(axes.items()),
    )


def point(
    number: int = 0,
    *,
    of: ServerVariant | None = None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (),
    **load: Any,
) -> Point:
    """A point; its number tells it from the others."""
    return Point(
        id=f"{number:016x}", variant=of or variant(), shapes=shapes, load=LoadVariant(**load)
    )


def campaign(**changes: Any) -> Campaign:
    """A campaign over one model, written in Python."""
    settings: dict[str, Any] = {
        "name": "study",
        "model_repository": "/models",
        "models": [{"name": "tagger"}],
    }
    return Campaign(**(settings | changes))


def expanded(
    study: Campaign, models: Mapping[str, TritonModel] | None = None, **software: Any
) -> grid.Grid:
    """The grid of a campaign whose models are `triton_model`, unless others are given."""
    known = models or {model.name: triton_model(model.name) for model in study.models}
    return grid.expand_grid(
        study, known, **({"software": {None: "native:1"}, "input_data": {}} | software)
    )


def placed(points: list[Point], **changes: Any) -> list[Placement]:
    settings: dict[str, Any] = {
        "campaign": "study",
        "pool": "cpu",
        "repeats": 1,
        "fresh_servers": False,
    }
    return make_placements(points, **(settings | changes))


def co_located_points(loads: int = 2) -> list[Point]:
    """The points of two models on one server, each with so many loads."""
    names = ("one", "two")
    study = campaign(
        models=[{"name": name} for name in names],
        load={"batch_size": list(range(1, loads + 1))},
        together=[{name: {} for name in names}],
    )
    return [point for point in expanded(study).points if point.co_located]


def write_model(
    repository: Path,
    name: str = "tagger",
    *,
    max_batch_size: int = 256,
    inputs: Inputs | None = None,
    extra: str = "",
) -> Path:
    """A model folder with a config.pbtxt and a file that stands for the model."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"not a real network")
    dims = {"x": (16,)} if inputs is None else inputs
    described = "".join(
        f'input {{ name: "{key}" data_type: TYPE_FP32 dims: {list(value)} }}\n'
        for key, value in dims.items()
    )
    (folder / "config.pbtxt").write_text(
        f'name: "{name}"\nplatform: "onnxruntime_onnx"\nmax_batch_size: {max_batch_size}\n'
        f'{described}output {{ name: "y" data_type: TYPE_FP32 dims: [8] }}\n{extra}'
    )
    return folder


def write_campaign(folder: Path, **changes: Any) -> Path:
    """A campaign file over the model ``tagger`` of the folder ``models`` beside it."""
    data: dict[str, Any] = {
        "name": "study",
        "model_repository": "models",
        "models": [{"name": "tagger"}],
    }
    data |= changes
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def write_prefix(folder: Path, digest: str = "0123456789abcdef") -> Path:
    """A prefix with the manifest that containers/native.py writes, and empty programs."""
    prefix = folder / ".native"
    (prefix / "backends" / "onnxruntime").mkdir(parents=True)
    manifest = {
        "digest": digest,
        "versions": {"tritonserver": "2.51.0", "perf_analyzer": "2.51.0", "python": "3.11.7"},
    }
    (prefix / "manifest.json").write_text(json.dumps(manifest))
    (prefix / "backends" / "python").mkdir(parents=True, exist_ok=True)
    for name in ("bin/tritonserver", "bin/perf_analyzer", "python/bin/python3"):
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).touch(mode=0o755)
    return prefix


def write_site(folder: Path, **changes: Any) -> Path:
    """A site file of this computer, with the prefix of `write_prefix` beside it."""
    data: dict[str, Any] = {
        "name": "here",
        "scheduler": "local",
        "container": {"runtime": "native", "cpus_only": True, "prefix": ".native"},
        "pools": {"cpu": {"gpus_per_job": 0, "max_jobs": 1}},
    }
    data |= changes
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def batch_site(scheduler: str = "slurm", pool: Mapping[str, Any] = {}, **changes: Any) -> Site:
    """A site with a batch system and one pool, ``gpu``, validated like one from a file."""
    data: dict[str, Any] = {
        "name": "cluster",
        "scheduler": scheduler,
        "python": "/venv/bin/python",
        "container": {"cpus_only": True, "prefix": "/native"},
        "pools": {"gpu": dict(pool)},
    }
    return yaml_model.validate(data | changes, Site, source="site.yaml", folder=Path("/"))


def workplace(folder: Path) -> tuple[Path, Path]:
    """(campaign file, site file) of a folder in which everything is there to be planned."""
    write_model(folder / "models")
    write_prefix(folder)
    return write_campaign(folder), write_site(folder)


def record(number: int = 0, **changes: Any) -> Record:
    """A measured record. ``number`` gives its point, batch size and time."""
    settings: dict[str, Any] = {
        "point_id": f"{number:016x}",
        "campaign": "study",
        "site": "here",
        "pool": "cpu",
        "repeat": 0,
        "placement_id": "aaaaaaaaaaaa",
        "status": Status.OK,
        "model": "tagger",
        "model_label": "Tagger",
        "model_position": 0,
        "variant": json.dumps(variant().axes),
        "batch_size": number + 1,
        "concurrency": 4,
        "throughput_infer_per_s": 1000.0 + number,
        "ended_at": NOON + timedelta(seconds=number),
    }
    return Record(**(settings | changes))


def refusal(action: Any, *arguments: Any, **options: Any) -> str:
    """The message of the one BadInput that ``action`` raises."""
    try:
        action(*arguments, **options)
    except BadInput as error:
        return str(error)
    raise AssertionError("it was accepted")
