"""Plans a campaign on a site: its points, what of them is done, and the placements left to run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcbench import container, grid, images, jobqueue, store, textfile
from hpcbench.campaign import Campaign
from hpcbench.errors import BadInput
from hpcbench.grid import Grid
from hpcbench.model import TritonModel, digest, read_model
from hpcbench.placement import Placement, place, spread
from hpcbench.records import Key
from hpcbench.site import Pool, Site, walltime
from hpcbench.store import Results


@dataclass(frozen=True)
class Plan:
    """What a run would do. ``placements`` are those still to be measured, per pool."""

    campaign: Campaign
    site: Site
    grid: Grid
    placements: Mapping[str, tuple[Placement, ...]]

    def without(self, done: AbstractSet[Key]) -> "Plan":
        """What is left of it once ``done`` is taken away."""
        left = {
            pool: _spread(self.site.pools[pool], [p.without(done) for p in waiting])
            for pool, waiting in self.placements.items()
        }
        return replace(self, placements=left)

    def job_script(self, pool: str, account: str | None = None) -> str | None:
        """What is submitted for each job of a pool; None where there is no batch system.

        Words in capitals stand for what is known in a run only.
        """
        if self.site.scheduler == "local":
            return None
        return jobqueue.script(self.site, self.site.pools[pool], account=account)

    @property
    def done(self) -> int:
        """Measurements of the campaign that need not be made."""
        left = sum(len(p.points) for waiting in self.placements.values() for p in waiting)
        return self.measurements - left

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
    site = site.model_copy(update={"container": images.resolve(site.container)})
    software = container.software(site.container)
    models = _read_models(campaign)
    points = grid.expand(
        campaign,
        models,
        image=f"{software.server_digest} {software.sdk_digest}",
        input_data=_input_digests(campaign),
    )
    placements = {
        pool: _spread(
            site.pools[pool],
            place(
                points.points,
                campaign=campaign.name,
                pool=pool,
                repeats=campaign.repeats,
            ),
        )
        for pool in chosen
    }
    _check_walltime(site, placements)
    todo = Plan(campaign=campaign, site=site, grid=points, placements=placements)
    return todo if results is None else todo.without(store.done(Results(Path(results))))


def chosen_pools(site: Site, pools: Sequence[str]) -> list[str]:
    """The pools that a user named, by default all. Raises BadInput where one is not there."""
    chosen = [pools] if isinstance(pools, str) else list(pools) or list(site.pools)
    for pool in chosen:
        if pool not in site.pools:
            raise BadInput(
                f"--pool {pool}: site '{site.name}' has no such pool;"
                f"{textfile.nearest(pool, site.pools)} its pools: {', '.join(site.pools)}"
            )
    return chosen


def _spread(pool: Pool, placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    left = [placement for placement in placements if placement]
    return spread(left, jobs=pool.max_jobs, walltime_s=pool.walltime)


def _check_walltime(site: Site, placements: Mapping[str, Sequence[Placement]]) -> None:
    """Raises BadInput where a point would not be over before its job is."""
    for name, waiting in placements.items():
        limit_s = site.pools[name].walltime
        longest_s = max((p.needs_s(1) for p in waiting), default=0.0)
        if limit_s is not None and longest_s > limit_s:
            raise BadInput(
                f"pool {name} of site '{site.name}': a job lasts {walltime(limit_s)}, and a point "
                f"that does not settle takes up to {walltime(int(longest_s) + 1)} with its server",
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
    measured = [campaign.measurement, *(model.measurement for model in campaign.models)]
    names = {name for measurement in measured if measurement for name in measurement.input_data}
    files = sorted(names - {"random", "zero"})
    return {name: _input_digest(campaign, name) for name in files}


def _input_digest(campaign: Campaign, name: str) -> str:
    where = f"{campaign.source}: measurement.input_data"
    hint = "allowed: random, zero, or the path of a data file, relative to the campaign file"
    try:
        if Path(name).is_file() and "data" not in json.loads(Path(name).read_text()):
            raise BadInput(f"{where}: {name} has no list 'data', as perf_analyzer wants it", hint)
        return digest(Path(name))
    except OSError as error:
        raise BadInput(f"{where}: {name} cannot be read: {error.strerror}", hint) from error
    except (ValueError, TypeError) as error:
        raise BadInput(f"{where}: {name} is not JSON: {error}", hint) from error


def plan_rows(todo: Plan) -> list[dict[str, Any]]:
    """One row per measurement of the campaign, done or not, with the columns of store.PLAN."""
    return [
        {
            "point_id": point.id,
            "pool": pool,
            "repeat": repeat,
            "model_label": point.variant.label,
            "variant": json.dumps(point.variant.axes),
            "batch_size": point.load.batch_size,
            "concurrency": point.load.concurrency,
        }
        for pool in todo.placements
        for repeat in range(todo.campaign.repeats)
        for point in todo.grid.points
    ]
