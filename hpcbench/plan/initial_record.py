"""What is written of a point before anything is measured: its record, and its row in the plan."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import text_format

from hpcbench._version import __version__
from hpcbench.config.site import Site
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.plan import model_config
from hpcbench.plan.model import TritonModel
from hpcbench.plan.placement import Placement
from hpcbench.plan.plan import Plan
from hpcbench.plan.point import Point
from hpcbench.records.columns import Record, Status
from hpcbench.runtime.command import runtime_of


def initial_record(
    point: Point, placement: Placement, site: Site, status: Status, reason: str | None
) -> Record:
    """Return the record of a point with what the campaign and the site say about it.

    Parameters
    ----------
    point
        The point.
    placement
        Its placement.
    site
        The site.
    status
        How the point ended, as far as it is known.
    reason
        Why it was not measured; None for a point whose metrics are added to the record.

    Returns
    -------
    Record
        A record without metrics; both times are now.
    """
    variant = point.variant
    site = site.with_server_image(variant.server_image)
    software = runtime_of(site.container).find_software(site.container)
    requests = dict(placement.requests).get(variant.model.name, ())
    pool, now = site.pools[placement.pool], datetime.now(UTC)
    return Record(
        **point.columns,
        campaign=placement.campaign,
        site=site.name,
        pool=placement.pool,
        repeat=placement.repeat,
        run_id=placement.run_id,
        placement_id=placement.id,
        placement_position=placement.points.index(point),
        status=status,
        reason=reason,
        model=variant.model.name,
        model_position=variant.position,
        **_configs_of_others(point, placement),
        shapes=json.dumps(dict(point.shapes)) if point.shapes else None,
        runtime=site.container.runtime,
        server_image=site.container.server_image,
        sdk_image=site.container.sdk_image,
        server_image_digest=software.server_digest,
        sdk_image_digest=software.sdk_digest,
        own_config=model_config.is_own(variant, requests),
        pool_gpu=pool.gpu,
        pool_gpu_count=pool.gpus_per_job if pool.gpu is not None else None,
        **placement.time_columns(now),
        ended_at=now,
        hpcbench_version=__version__,
    )


def _configs_of_others(point: Point, placement: Placement) -> dict[str, Any]:
    """Return the columns with the config.pbtxt of the other models that the server has to hold."""
    requests = dict(placement.requests)
    others = [each for each in point.served if each != point.variant]
    shared = {
        each.model.name: model_config.to_deploy(each, requests.get(each.model.name, ()))
        for each in others
    }
    beside = dict(shared)
    for each in others:
        beside |= _needed_configs(each.model, shared)
    # The model itself is needed by one that it shares its server with: it has its own column.
    beside.pop(point.variant.model.name, None)
    needs = _needed_configs(point.variant.model, shared)
    return {"needs": _texts(needs), "beside_configs": _texts(beside)}


def _needed_configs(
    model: TritonModel, shared: Mapping[str, ModelConfig]
) -> dict[str, ModelConfig]:
    """Return what a model needs; those that are measured on its server are there as variants."""
    return {
        part.name: shared.get(part.name, ModelConfig.FromString(part.config))
        for part in model.composing
        if part.name in model.needs
    }


def _texts(configs: Mapping[str, ModelConfig]) -> str | None:
    texts = {name: text_format.MessageToString(config) for name, config in configs.items()}
    return json.dumps(texts) if texts else None


def plan_rows(todo: Plan) -> list[dict[str, Any]]:
    """Return one row per measurement of the campaign, whether it is done or not.

    Parameters
    ----------
    todo
        The plan.

    Returns
    -------
    list of dict
        Values by the columns of plan.parquet.
    """
    points = [point.columns for point in todo.grid.points]
    return [
        {"pool": pool, "repeat": repeat, **columns}
        for pool in todo.placements
        for repeat in range(todo.campaign.repeats)
        for columns in points
    ]
