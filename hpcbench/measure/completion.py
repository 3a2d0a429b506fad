"""What Triton completes of models whose config.pbtxt leaves it to the server."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hpcbench.config.campaign import Campaign, GroupMember, NamedVariant
from hpcbench.config.container import Container
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.measure import server as triton
from hpcbench.measure.server import ServerOptions
from hpcbench.plan import grid_axes
from hpcbench.plan.model import TritonModel
from hpcbench.plan.model_limits import model_problems
from hpcbench.plan.point import ServerVariant
from hpcbench.runtime import command as containers
from hpcbench.runtime.temporary import temporary_folder


def completed_models(
    variants: Sequence[ServerVariant], container: Container
) -> dict[str, TritonModel]:
    """Return models as Triton completes them, from one that runs for a moment.

    Parameters
    ----------
    variants
        The models as they are in the repository, one variant each.
    container
        Where tritonserver comes from.

    Returns
    -------
    dict of str to TritonModel
        By the name of the model; nothing is left to the server.

    Raises
    ------
    ServerFailed
        Where one does not load.
    """
    options = ServerOptions(cpus=len(os.sched_getaffinity(0)))
    with (
        temporary_folder(containers.scratch_folder(container)) as folder,
        triton.serve(variants, container, folder / "server.log", options) as server,
    ):
        configs = server.configs
    return {
        variant.model.name: _with_config(variant.model, config)
        for variant, config in zip(variants, configs, strict=True)
    }


def _with_config(model: TritonModel, config: ModelConfig) -> TritonModel:
    return replace(
        model,
        config=config.SerializeToString(deterministic=True),
        max_batch_size=config.max_batch_size,
        dynamic_batching=config.HasField("dynamic_batching"),
        inputs=tuple((each.name, tuple(each.dims)) for each in config.input),
    )


def completed_problems(campaign: Campaign, models: Mapping[str, TritonModel]) -> list[str]:
    """Return what models cannot take, now that Triton has said what they are.

    Parameters
    ----------
    campaign
        The campaign.
    models
        From `completed_models`.

    Returns
    -------
    list of str
        Messages as for models that say it themselves.
    """
    found: dict[str, None] = {}
    for model in (each for each in campaign.models if each.name in models):
        named: list[NamedVariant | None] = [*campaign.variants.values()]
        for own in named or [None]:
            axes = grid_axes.axes_of(campaign, model, own, GroupMember())
            problems = model_problems(
                model, models[model.name], axes.server, axes.load, axes.measurement
            )
            where = f"{campaign.source}: model '{model.name}'"
            found |= dict.fromkeys(f"{where}: {problem}" for problem in problems)
    return list(found)
