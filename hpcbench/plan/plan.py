"""The plan of a campaign on a site: its points, what is done, and the placements left to run."""

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbench.config.campaign import Campaign
from hpcbench.config.html_tables import facts_html
from hpcbench.config.site import Pool, Site
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.plan import applicability, arrivals, grid
from hpcbench.plan.former_points import former_points, known_points
from hpcbench.plan.grid import Grid
from hpcbench.plan.input_data import check_inputs, input_digests, strings_hints
from hpcbench.plan.model import TritonModel, read_model
from hpcbench.plan.model_links import bound_folders
from hpcbench.plan.order import make_placements, split_placements
from hpcbench.plan.pace import earlier_rows, with_paces
from hpcbench.plan.placement import Placement
from hpcbench.plan.point import Point
from hpcbench.plan.references import check_references
from hpcbench.plan.site_checks import check_gpus, check_walltime
from hpcbench.plan.software import known_software

if TYPE_CHECKING:
    # Importing the columns imports pyarrow, which planning does not use.
    from hpcbench.records.columns import Key


@dataclass(frozen=True)
class Inapplicable:
    """Points of one variant that a pool cannot measure, and that have no record yet.

    Attributes
    ----------
    placement
        The points.
    reason
        Why the pool cannot measure them.
    """

    placement: Placement
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    campaign
        The campaign.
    site
        The site, its images given by digest.
    grid
        All points of the campaign.
    placements
        What is left to measure, by pool.
    inapplicable
        What a run would only write records of.
    former
        For points of models whose digest was made of more files formerly, by id: the points with
        such digests, and so with the ids that earlier results have.
    not_checked
        What could not be looked at from this host, each a line.
    hints
        What may make points fail that nothing speaks against, each a sentence.
    """

    campaign: Campaign
    site: Site
    grid: Grid
    placements: Mapping[str, tuple[Placement, ...]]
    inapplicable: tuple[Inapplicable, ...] = ()
    former: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    def without_done(self, done: "AbstractSet[Key]") -> "Plan":
        """Return the part of the plan that is left.

        Parameters
        ----------
        done
            Keys of the measurements that have their final record.

        Returns
        -------
        Plan
            The same campaign, with fewer placements. Where the measurements have former ids, so
            has the rest of their model.
        """
        kept = known_points(self.grid.points, self.former, {point_id for point_id, *_ in done})
        left = {
            pool: _split(
                self.site.pools[pool], [p.with_points(kept).without_done(done) for p in waiting]
            )
            for pool, waiting in self.placements.items()
        }
        rest = [
            (each, each.placement.with_points(kept).without_done(done))
            for each in self.inapplicable
        ]
        inapplicable = tuple(Inapplicable(part, each.reason) for each, part in rest if part)
        grid_ = self.grid
        if kept:
            points = tuple(kept.get(point.id, point) for point in grid_.points)
            grid_ = replace(grid_, points=points)
        return replace(self, grid=grid_, placements=left, inapplicable=inapplicable)

    @property
    def done(self) -> int:
        """Number of measurements that need not be made: they are there already."""
        left = sum(len(p.points) for waiting in self.placements.values() for p in waiting)
        inapplicable = sum(len(each.placement.points) for each in self.inapplicable)
        return self.measurements - left - inapplicable

    @property
    def keys_left(self) -> frozenset["Key"]:
        """The measurements that workers are still to make."""
        waiting = chain.from_iterable(self.placements.values())
        return frozenset(chain.from_iterable(each.keys for each in waiting))

    @property
    def measurements(self) -> int:
        """Number of measurements of the campaign: points times repeats times pools."""
        return len(self.grid.points) * self.campaign.repeats * len(self.placements)

    @property
    def estimate_s(self) -> float:
        """Seconds until the slowest pool has finished, if every point settles at once."""
        # Jobs share the work evenly at best, and no job can split its longest placement.
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
    def gpu_hours(self) -> dict[str, float]:
        """GPU hours that each pool with GPUs takes, if every point settles at once."""
        return {
            name: sum(each.estimate_s for each in waiting) * gpus / 3600
            for name, waiting in self.placements.items()
            if (gpus := self.site.pools[name].gpus_per_job)
        }

    def _repr_html_(self) -> str:
        """Show a notebook how much there is to do."""
        left = {
            name: {
                "starts of Triton": len(waiting),
                "measurements": sum(len(each.points) for each in waiting),
            }
            for name, waiting in self.placements.items()
        }
        reasons: Counter[str] = Counter()
        for each in self.inapplicable:
            reasons[each.reason] += len(each.placement.points)
        facts: dict[str, Any] = {
            "points": len(self.grid.points),
            "repeats": self.campaign.repeats,
            "measurements": self.measurements,
            "done": self.done,
            "left": left,
            "time": f"about {timedelta(seconds=round(self.estimate_s))}",
            "GPU hours": {name: round(hours, 2) for name, hours in self.gpu_hours.items()},
            "not applicable": [
                {"measurements": number, "reason": reason} for reason, number in reasons.items()
            ],
            "hints": "; ".join(self.hints),
            "not checked": "; ".join(self.not_checked),
        }
        title = f"{self.campaign.name} on {self.site.name}"
        return facts_html(title, {name: value for name, value in facts.items() if value})


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Look for no garbage: what a plan makes stays, and looking takes a quarter of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_garbage_collection()
def plan(
    campaign: Campaign,
    site: Site,
    *,
    pools: Sequence[str] = (),
    results: str | Path | None = None,
    only: AbstractSet[str] | None = None,
    anywhere: bool = False,
) -> Plan:
    """Plan a campaign on a site, without starting anything.

    Parameters
    ----------
    campaign
        The campaign.
    site
        The site.
    pools
        Names of the pools to use; all pools of the site by default.
    results
        A results folder. What it holds is left out, and how long it took is expected again.
    only
        The point_ids to measure, in an order of their own; all, in that of the campaign, by
        default.
    anywhere
        Whether to plan for a site with a batch system also where its Triton cannot be found, as on
        a laptop. The plan says so, and its points have other ids than those of a run there. Has no
        effect with ``results``, which are found by these ids.

    Returns
    -------
    Plan
        Points and placements.

    Raises
    ------
    BadInput
        A model, a pool or an image is not there, or a model cannot take what the campaign asks for.
    SiteError
        The site has no Triton.
    """
    names = chosen_pools(site, pools)
    check_gpus(site, names)
    anywhere = anywhere and results is None and site.scheduler != "local"
    software = known_software(site, campaign, anywhere=anywhere)
    site = software.site
    models = _read_models(campaign, bound_folders(site.container))
    expand = partial(
        grid.expand_grid,
        campaign,
        software=software.digests,
        input_data=input_digests(campaign),
        intervals=arrivals.named_intervals(campaign),
    )
    points = expand(models)
    check_references(campaign, site, points.points)
    former = former_points(points, models, expand)
    if only is not None:
        kept = known_points(points.points, former, only)
        known = [kept.get(point.id, point) for point in points.points]
        points = replace(points, points=_in_fresh_order(known, only, campaign))
    check_inputs(campaign, points.points)
    inapplicable: list[Inapplicable] = []
    placements: dict[str, tuple[Placement, ...]] = {}
    for pool in names:
        by_reason = _by_reason(points.points, site, pool, software.backends)
        measurable = _place(by_reason.pop(None, []), campaign, pool)
        placements[pool] = _split(site.pools[pool], measurable)
        # One variant per placement: that is how they are listed.
        inapplicable += [
            Inapplicable(placement, reason)
            for reason, members in by_reason.items()
            if reason is not None
            for placement in _place(members, campaign, pool, fresh_servers=True)
        ]
    check_walltime(site, placements)
    todo = Plan(
        campaign=campaign,
        site=site,
        grid=points,
        placements=placements,
        inapplicable=tuple(inapplicable),
        former=former,
        not_checked=software.not_checked,
        hints=strings_hints(points.points),
    )
    if results is None:
        return todo
    # Only this reads records. Without a results folder, `hpcbench plan` is spared pandas.
    from hpcbench.records import store
    from hpcbench.records.folder import Results

    rest = todo.without_done(store.finished_keys(Results(Path(results))))
    paced = with_paces(rest.placements, points.points, earlier_rows(Path(results)))
    return replace(rest, placements=paced)


def _in_fresh_order(
    points: Iterable[Point], only: AbstractSet[str], campaign: Campaign
) -> tuple[Point, ...]:
    """Return some points in an order that has nothing to do with that of the campaign."""
    chosen = [point for point in points if point.id in only]
    if lacking := len(only) - len({point.id for point in chosen}):
        raise BadInput(
            f"{campaign.source}: {lacking} of the {len(only)} points to confirm are not in it: the "
            "model files, the images or the campaign have changed since",
            "give the campaign, the models and the site that the results come from",
        )
    # The same whenever the run goes on.
    return tuple(sorted(chosen, key=lambda point: sha256(f"again {point.id}".encode()).digest()))


def _by_reason(
    points: Iterable[Point], site: Site, pool: str, backends: frozenset[str] | None
) -> dict[str | None, list[Point]]:
    """Return points by the reason why a pool cannot measure them; None for those that it can."""
    native = site.container.runtime == "native"
    found: dict[str | None, list[Point]] = {}
    for point in points:
        reason = applicability.not_applicable_reason(
            point, site.pools[pool], native=native, backends=backends
        )
        found.setdefault(reason, []).append(point)
    return found


def _place(
    points: Iterable[Point], campaign: Campaign, pool: str, *, fresh_servers: bool | None = None
) -> list[Placement]:
    return make_placements(
        points,
        campaign=campaign.name,
        pool=pool,
        repeats=campaign.repeats,
        fresh_servers=campaign.fresh_servers if fresh_servers is None else fresh_servers,
    )


def chosen_pools(site: Site, pools: Sequence[str]) -> list[str]:
    """Return the names of the pools that a user chose.

    Parameters
    ----------
    site
        The site.
    pools
        Names; none for all pools of the site.

    Returns
    -------
    list of str
        Names of pools that the site has.

    Raises
    ------
    BadInput
        The site has no pool of that name.
    """
    chosen = [pools] if isinstance(pools, str) else list(pools) or list(site.pools)
    for pool in chosen:
        if pool not in site.pools:
            raise BadInput(
                f"--pool {pool}: site '{site.name}' has no such pool;"
                f"{did_you_mean(pool, site.pools)} its pools: {', '.join(site.pools)}"
            )
    return chosen


def _split(pool: Pool, placements: Iterable[Placement | None]) -> tuple[Placement, ...]:
    left = [placement for placement in placements if placement]
    return split_placements(left, jobs=pool.max_jobs, walltime_s=pool.walltime)


def _read_models(campaign: Campaign, bound: Sequence[Path]) -> dict[str, TritonModel]:
    found: dict[str, TritonModel] = {}
    problems: dict[str, None] = {}
    needs = {model.name: model.needs for model in campaign.models}
    names = [*needs]
    compared = [campaign.comparison_of(model) for model in campaign.models]
    names += [each.reference for each in compared if each and each.reference]
    for name in dict.fromkeys(names):
        try:
            found[name] = read_model(
                campaign.repositories, name, bound=bound, needs=needs.get(name, ())
            )
        except BadInput as error:
            problems[f"{campaign.source}: {error}"] = None
        except OSError as error:
            problems[f"{campaign.source}: model '{name}': {error.filename}: {error.strerror}"] = (
                None
            )
    if problems:
        raise BadInput("\n".join(problems))
    return found
