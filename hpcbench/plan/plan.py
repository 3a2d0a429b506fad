"""Plans a campaign on a site: its points, what of them is done, and the placements left to run."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcbench.config import yaml_model
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Pool, Site, format_walltime
from hpcbench.errors import BadInput
from hpcbench.plan import applicability, grid, input_data
from hpcbench.plan.grid import Grid
from hpcbench.plan.model import TritonModel, read_model
from hpcbench.plan.order import make_placements, split_placements
from hpcbench.plan.placement import ENGINE_S, Placement, builds_engines
from hpcbench.plan.point import Point
from hpcbench.runtime import command, images

if TYPE_CHECKING:
    # Importing the columns imports pyarrow, which planning does not use.
    from hpcbench.records.columns import Key


@dataclass(frozen=True)
class Inapplicable:
    """Points of one variant that a pool cannot measure, and why; still without their records."""

    placement: Placement
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run would do. ``placements`` are those still to be measured, per pool.

    ``inapplicable`` are those that it would only write down.
    """

    campaign: Campaign
    site: Site
    grid: Grid
    placements: Mapping[str, tuple[Placement, ...]]
    inapplicable: tuple[Inapplicable, ...] = ()

    def without_done(self, done: "AbstractSet[Key]") -> "Plan":
        """What is left of it once ``done`` is taken away."""
        left = {
            pool: _spread(self.site.pools[pool], [p.without_done(done) for p in waiting])
            for pool, waiting in self.placements.items()
        }
        rest = [(each, each.placement.without_done(done)) for each in self.inapplicable]
        told = tuple(Inapplicable(placement, each.reason) for each, placement in rest if placement)
        return replace(self, placements=left, inapplicable=told)

    @property
    def done(self) -> int:
        """Measurements of the campaign that need not be made."""
        left = sum(len(p.points) for waiting in self.placements.values() for p in waiting)
        told = sum(len(each.placement.points) for each in self.inapplicable)
        return self.measurements - left - told

    @property
    def measurements(self) -> int:
        """All measurements of the campaign: points times repeats times pools."""
        return len(self.grid.points) * self.campaign.repeats * len(self.placements)

    @property
    def estimate_s(self) -> float:
        """Seconds until the slowest pool is through, if every point settles at once."""
        return max(
            (
                max(
                    sum(p.estimate_s for p in waiting) / self.site.pools[pool].max_jobs,
                    max((p.estimate_s for p in waiting), default=0.0),
                )
                for pool, waiting in self.placements.items()
            ),
            default=0.0,
        )

    @property
    def gpu_s(self) -> float:
        """GPU seconds that this takes, over all pools."""
        return sum(
            p.estimate_s * self.site.pools[pool].gpus_per_job
            for pool, waiting in self.placements.items()
            for p in waiting
        )


def plan(
    campaign: Campaign,
    site: Site,
    *,
    pools: Sequence[str] = (),
    results: str | Path | None = None,
) -> Plan:
    """The points and placements of a campaign; starts nothing.

    ``pools`` are names of the site's pools, all of them by default. What ``results`` holds
    already is left out. Raises BadInput with whatever the models cannot take, SiteError where
    the site has no Triton.
    """
    chosen = chosen_pools(site, pools)
    site, software = _with_images(site, campaign)
    models = _read_models(campaign)
    points = grid.expand_grid(
        campaign,
        models,
        software=software,
        input_data=_input_digests(campaign),
    )
    _check_folders(campaign, points.points)
    inapplicable: list[Inapplicable] = []
    placements = {}
    native = site.container.runtime == "native"
    for pool in chosen:
        place_ = partial(
            make_placements,
            campaign=campaign.name,
            pool=pool,
            repeats=campaign.repeats,
            fresh_servers=campaign.fresh_servers,
        )
        by_reason: dict[str | None, list[Point]] = {}
        for point in points.points:
            why = applicability.not_applicable_reason(point, site.pools[pool], native=native)
            by_reason.setdefault(why, []).append(point)
        placements[pool] = _spread(site.pools[pool], place_(by_reason.pop(None, [])))
        inapplicable += [
            Inapplicable(placement, why)
            for why, members in by_reason.items()
            if why is not None
            for placement in place_(members, fresh_servers=True)
        ]
    _check_walltime(site, placements)
    todo = Plan(
        campaign=campaign,
        site=site,
        grid=points,
        placements=placements,
        inapplicable=tuple(inapplicable),
    )
    if results is None:
        return todo
    # Only this reads records. Without a results folder, `hpcbench plan` is spared pandas.
    from hpcbench.records import store

    return todo.without_done(store.finished_keys(store.Results(Path(results))))


def _with_images(site: Site, campaign: Campaign) -> tuple[Site, dict[str | None, str]]:
    """The site with digests, and what stands for the software of each image that is asked for.

    Raises BadInput where a model asks for an image that the site does not name.
    """
    asked = {model.server_image: model.name for model in campaign.models}
    known = dict(site.container.server_images)
    for image, model in asked.items():
        if image is not None and image not in known:
            raise BadInput(
                f"{campaign.source}: model '{model}': server_image: site '{site.name}' names no "
                f"image '{image}';{yaml_model.did_you_mean(image, known)} it names: "
                f"{', '.join(known) or 'none'}",
                "add it to container.server_images of the site file (runtime: apptainer), or leave "
                "server_image out",
            )
    names = [image for image in asked if image is not None]
    site = site.model_copy(update={"container": images.resolve_images(site.container, names)})
    found = {
        image: command.find_software(site.container.with_server_image(image)) for image in asked
    }
    return site, {image: f"{s.server_digest} {s.sdk_digest}" for image, s in found.items()}


def chosen_pools(site: Site, pools: Sequence[str]) -> list[str]:
    """The pools that a user named, by default all. Raises BadInput where one is not there."""
    chosen = [pools] if isinstance(pools, str) else list(pools) or list(site.pools)
    for pool in chosen:
        if pool not in site.pools:
            raise BadInput(
                f"--pool {pool}: site '{site.name}' has no such pool;"
                f"{yaml_model.did_you_mean(pool, site.pools)} its pools: {', '.join(site.pools)}"
            )
    return chosen


def _spread(pool: Pool, placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    left = [placement for placement in placements if placement]
    return split_placements(left, jobs=pool.max_jobs, walltime_s=pool.walltime)


def _check_walltime(site: Site, placements: Mapping[str, Sequence[Placement]]) -> None:
    """Raises BadInput where a point would not be over before its job is."""
    for name, waiting in placements.items():
        limit_s = site.pools[name].walltime
        longest = max(waiting, key=lambda placement: placement.needs_s(1), default=None)
        if limit_s is None or longest is None or longest.needs_s(1) <= limit_s:
            continue
        builds = any(map(builds_engines, longest.points[0].served))
        engines = f", {ENGINE_S / 60:.0f} min of it for TensorRT's engines" if builds else ""
        raise BadInput(
            f"pool {name} of site '{site.name}': a job lasts {format_walltime(limit_s)}, and a "
            f"point that does not settle takes up to {format_walltime(int(longest.needs_s(1)) + 1)}"
            " with its server"
            f"{engines}",
            "raise the pool's walltime, or lower measurement_interval_ms or max_trials",
        )


def _read_models(campaign: Campaign) -> dict[str, TritonModel]:
    found: dict[str, TritonModel] = {}
    problems: dict[str, None] = {}
    for name in dict.fromkeys(model.name for model in campaign.models):
        try:
            found[name] = read_model(campaign.model_repository, name)
        except BadInput as error:
            problems[f"{campaign.source}: {error}"] = None
        except OSError as error:
            problems[f"{campaign.source}: model '{name}': {error.filename}: {error.strerror}"] = (
                None
            )
    if problems:
        raise BadInput("\n".join(problems))
    return found


def _input_digests(campaign: Campaign) -> dict[str, str]:
    """The digest of each data file by its path."""
    measured = [
        campaign.measurement,
        *(model.measurement for model in campaign.models),
        *campaign.variants.values(),
    ]
    names = {name for measurement in measured if measurement for name in measurement.input_data}
    where = f"{campaign.source}: measurement.input_data"
    files = sorted(names.difference(input_data.GENERATED))
    return {name: input_data.input_digest(name, where) for name in files}


def _check_folders(campaign: Campaign, points: Iterable[Point]) -> None:
    """Raises BadInput where a folder of inputs does not have what a model of it takes."""
    used = {
        (point.load.input_data, point.variant.model, point.shapes)
        for point in points
        if point.load.input_data_digest
    }
    problems = [
        f"{campaign.source}: measurement.input_data: {problem}"
        for name, model, shapes in sorted(used, key=lambda each: (each[0], each[1].name, each[2]))
        if Path(name).is_dir()
        for problem in input_data.folder_problems(Path(name), model, dict(shapes))
    ]
    if problems:
        raise BadInput("\n".join(dict.fromkeys(problems)))
