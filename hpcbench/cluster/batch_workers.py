"""Workers that are jobs of a batch system: submitted, watched, replaced, and ended."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask
from distributed import Client

from hpcbench.cluster import dask_internals, ledger
from hpcbench.cluster.batch import Job, JobState
from hpcbench.cluster.dask_config import connected_client, dask_settings
from hpcbench.cluster.dask_internals import ConnectedWorkers
from hpcbench.cluster.job_limits import (
    RETRY_S,
    ClassifiedJobs,
    SubmittedJob,
    classify_jobs,
    seconds_to_wait,
    started_again,
)
from hpcbench.cluster.jobs import Watcher
from hpcbench.cluster.run_state import PoolJobs
from hpcbench.cluster.submission import Submission, SubmissionGate
from hpcbench.errors import JobsDied, SiteError
from hpcbench.measure import server_log
from hpcbench.runtime.temporary import temporary_folder

log = logging.getLogger(__name__)

MAX_DEATHS = 3
"""So many jobs in a row that die before they connect end a run."""

STARTUP_BACKOFF_S = 5.0
"""Extra delay of the next job, in seconds per startup failure, while other jobs are running."""

MAX_DEATHS_PER_NODE = 2
"""A node on which so many jobs die before they connect gets no further one."""

LEAVE_S = 3.0
"""Seconds after which a worker that was to leave and is still there is asked again."""


@dataclass
class _BatchWorkers:
    """See `hpcbench.cluster.workers.Workers`. All names are those of workers: each job has one.

    ``leaving`` says when a worker was asked to end, ``submitted`` what the batch system has
    accepted and nobody has seen the end of.
    """

    pool_name: str
    submission: Submission
    watcher: Watcher
    max_deaths: int
    client: Client
    cluster: Any
    gate: SubmissionGate
    submitted: dict[str, SubmittedJob]
    workers: ConnectedWorkers = field(default_factory=ConnectedWorkers)
    leaving: dict[str, float] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    connected: frozenset[str] = frozenset()
    classified_at: float = 0.0
    deaths_in_a_row: int = 0
    startup_failures: int = 0
    deaths_per_node: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    refused_at: float = 0.0
    last_refusal: str = ""
    not_before: float = 0.0

    def __post_init__(self) -> None:
        self.cluster.scheduler.add_plugin(self.workers)

    @property
    def live(self) -> int:
        return len(self.workers.names - self.leaving.keys())

    @property
    def nodes(self) -> Mapping[str, str]:
        queue = self.watcher.answer[1] if self.watcher.answer else {}
        jobs = dict(self.submitted)
        ids = {
            name: jobs[name].id if name in jobs else ""
            for name in self.workers.names - self.leaving.keys()
        }
        return {name: queue[id_].node if id_ in queue else "" for name, id_ in ids.items()}

    @property
    def jobs(self) -> PoolJobs:
        queue = self.watcher.answer[1] if self.watcher.answer else {}
        # A copy, here and below: jobs are accepted in the thread of Dask's event loop.
        found = (queue.get(job.id) for job in list(self.submitted.values()))
        waiting = [job for job in found if job and job.state is JobState.WAITING]
        reasons = ", ".join(sorted({job.reason for job in waiting if job.reason}))
        return PoolJobs(self.live, len(waiting), reasons)

    def scale(self, wanted: int, busy: AbstractSet[str] | None = frozenset()) -> Sequence[str]:
        now = time.monotonic()
        notes = self._handle_refusals(now)
        self._update_connected(now)
        notes += self._handle_queue(now)
        pool = self.submission.site.pools[self.pool_name]
        self._adjust(min(wanted, pool.max_jobs), busy, now)
        return notes

    def exclude_node(self, worker: str, node: str) -> bool:
        self.release(worker)
        self._exclude(node)
        gpus = self.submission.site.pools[self.pool_name].gpus_per_job > 0
        return self.submission.run.system.has_other_nodes(self.excluded, gpus=gpus)

    def release(self, worker: str) -> None:
        if worker in self.leaving:
            return
        self._retire(worker)
        self._forget([worker])

    def stop_submitting(self) -> None:
        self.gate.close()

    def _handle_refusals(self, now: float) -> list[str]:
        refused = self.gate.refusals()
        if not refused:
            if any(job.at > self.refused_at for job in list(self.submitted.values())):
                self.refusals = 0
            return []
        self._forget(refused)
        if now < self.not_before:
            # It was submitted together with one whose refusal was handled already.
            return []
        message = next(iter(refused.values()))
        self.refusals += 1
        self.refused_at = now
        wait_s = seconds_to_wait(
            message,
            self.submission.run.system.temporary_failures,
            refusals=self.refusals,
            other_jobs=bool(self.submitted),
        )
        if wait_s is None:
            raise SiteError(
                f"pool {self.pool_name}: the batch system refused the job: {message}",
                f"correct the pool in the site file of {self.submission.site.name}, or --account; "
                "hpcbench plan shows the job script",
            )
        self.not_before = now + wait_s
        note = f"pool {self.pool_name}: the batch system accepts no more jobs: {message}"
        log.info("%s", note)
        again, self.last_refusal = message == self.last_refusal, message
        return [] if again else [note]

    def _update_connected(self, now: float) -> None:
        self.connected = self.workers.names
        for name, asked_at in list(self.leaving.items()):
            if name not in self.connected:
                del self.leaving[name]
            elif now > asked_at + LEAVE_S:
                self._retire(name)
        for name, job in list(self.submitted.items()):
            if name in self.connected:
                self.submitted[name] = replace(job, gone_since=None)
            elif name in self.workers.ever and job.gone_since is None:
                self.submitted[name] = replace(job, gone_since=now)
        if self.connected:
            self.deaths_in_a_row = 0

    def _handle_queue(self, now: float) -> list[str]:
        """Act upon the batch system's answer, where it is a new one."""
        if self.watcher.answer is None or self.watcher.answer[0] <= self.classified_at:
            return []
        self.classified_at, queue = self.watcher.answer
        self.submitted.update(started_again(dict(self.submitted), queue, now))
        found = classify_jobs(
            dict(self.submitted),
            queue,
            asked_at=self.classified_at,
            connected=self.connected,
            ever_connected=self.workers.ever,
            now=now,
        )
        if found.hopeless:
            raise SiteError(
                f"pool {self.pool_name}: a job would wait for ever: {found.hopeless}",
                f"correct the pool in the site file of {self.submission.site.name}",
            )
        notes = [
            f"pool {self.pool_name}: job {self.submitted[name].id} was {reason}"
            for name, reason in found.held.items()
        ]
        for name, reason in found.died.items():
            notes += self._count_death(self.submitted[name].id, reason, queue)
        if found.died and self.connected:
            # Others are running, so that deaths do not end the run: they must not cost a job
            # every second.
            self.startup_failures += len(found.died)
            wait_s = min(RETRY_S, STARTUP_BACKOFF_S * self.startup_failures)
            self.not_before = max(self.not_before, now + wait_s)
        self._drop(found)
        return notes

    def _drop(self, found: ClassifiedJobs) -> None:
        """Cancel what would go on in vain, and have all of them replaced."""
        # A worker may have come back in this moment.
        lost = found.lost - self.workers.names
        cancelled = lost | found.held.keys() | found.died.keys()
        if cancelled:
            self._cancel(cancelled)
        self._forget(cancelled | found.ended)

    def _count_death(self, job_id: str, reason: str, queue: dict[str, Job]) -> list[str]:
        self.deaths_in_a_row += 1
        # A job that is held has perhaps never been started, and has no log.
        log_tail = [] if reason.startswith("held: ") else self._log_tail(job_id)
        if self.deaths_in_a_row >= self.max_deaths:
            raise self._jobs_died(job_id, reason, log_tail)
        notes = [f"pool {self.pool_name}: job {job_id} died before it connected: {reason}"]
        notes += [f"    {line}" for line in log_tail[-1:]]
        return notes + (self._count_death_on_node(queue.get(job_id)) if self.connected else [])

    def _jobs_died(self, job_id: str, reason: str, log_tail: list[str]) -> JobsDied:
        died = f"{self.deaths_in_a_row} jobs died before they connected, the last one"
        if self.deaths_in_a_row == 1:
            died = "a job died before it connected"
        tail = "".join(f"\n    {line}" for line in log_tail)
        return JobsDied(
            f"pool {self.pool_name}: {died}, {job_id}: {reason}{tail}",
            f"read the job's log: {self._log(job_id)}; hpcbench doctor --site "
            f"{self.submission.site.name} looks closer",
        )

    def _count_death_on_node(self, job: Job | None) -> list[str]:
        if job is None or not job.node or job.node in self.excluded:
            return []
        self.deaths_per_node[job.node] += 1
        if self.deaths_per_node[job.node] < MAX_DEATHS_PER_NODE:
            return []
        self._exclude(job.node)
        died = f"{MAX_DEATHS_PER_NODE} jobs died on node {job.node} before they connected"
        return [f"pool {self.pool_name}: {died}: it gets no further job"]

    def _log(self, job_id: str) -> Path:
        return self.submission.results.logs / f"job-{job_id}.log"

    def _log_tail(self, job_id: str) -> list[str]:
        try:
            text = server_log.read_end(self._log(job_id))
        except OSError as error:
            return [f"(it left no log: {error.strerror}; do the nodes see the results folder?)"]
        return server_log.last_lines(text.strip(), 12).splitlines()

    def _adjust(self, wanted: int, busy: AbstractSet[str] | None, now: float) -> None:
        """Submit jobs, or end the ones that cost least: first those that do not run yet."""
        planned = self.cluster.planned_jobs()
        submitted = list(self.submitted)
        # A job may be there that Dask does not know of: its submission seemed to fail, or was
        # under way when it was not wanted any more.
        there = {*planned, *submitted, *(self.connected - self.leaving.keys())}
        if len(there) < wanted:
            # After a refusal one job finds out whether more are accepted.
            more = 1 if self.refusals else wanted - len(there)
            if now >= self.not_before:
                self.cluster.add_jobs(more)
            return
        surplus = len(there) - wanted
        unsent = [name for name in planned if name not in {*submitted, *self.connected}][:surplus]
        if unsent:
            self.gate.withdraw(unsent)
            self._forget(unsent)
        on_their_way = [name for name in submitted if name not in self.connected]
        on_their_way = on_their_way[: surplus - len(unsent)]
        if on_their_way:
            self._cancel(on_their_way)
            self._forget(on_their_way)
        if busy is None:
            return
        # A task may be on its way to a worker that Dask takes for idle: if that were sent away, it
        # would go on measuring for a while, beside whoever gets the task next.
        idle = [name for name in self.workers.idle if name not in {*self.leaving, *busy}]
        for name in idle[: surplus - len(unsent) - len(on_their_way)]:
            self.release(name)

    def _cancel(self, names: Iterable[str]) -> None:
        run = self.submission.run
        ids = [self.submitted[name].id for name in names if name in self.submitted]
        try:
            run.system.cancel(run.name, ids)
        except SiteError as error:
            # All jobs of the run are cancelled at its end, these among them.
            log.warning("jobs %s could not be cancelled: %s", ", ".join(ids), error)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.submitted.pop(name, None)
        self.cluster.forget_jobs(names)

    def _retire(self, worker: str) -> None:
        # Dask declines where a result is on that worker only: then it is asked again later.
        self.leaving[worker] = time.monotonic()
        self.cluster.retire_worker(worker)

    def _exclude(self, node: str) -> None:
        if node not in self.excluded:
            self.excluded.append(node)
        settings = self.submission.settings(self.pool_name, self.excluded)
        self.cluster.change_job_settings(settings)


@contextmanager
def batch_workers(
    pool_name: str, submission: Submission, watcher: Watcher, max_deaths: int = MAX_DEATHS
) -> Iterator[_BatchWorkers]:
    """Start the scheduler of a pool; its jobs are submitted later, by ``scale``.

    Parameters
    ----------
    pool_name
        The pool's name in the site file.
    submission
        What its jobs are submitted with.
    watcher
        Asks the batch system about the run's jobs.
    max_deaths
        So many jobs in a row that die before they connect are a SiteError.

    Yields
    ------
    Workers
        They are gone when the block is left; that no job is left is for ``watch_jobs`` to see.
    """
    submitted: dict[str, SubmittedJob] = {}
    run = submission.run

    def accepted(worker: str, job_id: str) -> None:
        submitted[worker] = SubmittedJob(worker, job_id, time.monotonic())
        ledger.add_job(submission.results, run, pool_name, job_id)

    gate = SubmissionGate(accepted)
    with (
        dask_settings(),
        dask_internals.jobqueue_settings(),
        temporary_folder() as workspace,
        # The scheduler's own, in /tmp, stays there.
        dask.config.set({"temporary-directory": str(workspace)}),
    ):
        cluster = submission.start_cluster(pool_name, gate)
        with connected_client(cluster) as client:
            try:
                yield _BatchWorkers(
                    pool_name, submission, watcher, max_deaths, client, cluster, gate, submitted
                )
            except BaseException:
                # At once: to close the cluster may take long where connections are broken.
                with contextlib.suppress(SiteError):
                    run.system.cancel(run.name)
                raise
            finally:
                gate.close()
