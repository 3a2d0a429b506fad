"""A pool's workers as jobs of a batch system: submitted, watched, replaced, and ended."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client

from hpcbench.cluster import ledger
from hpcbench.cluster.batch import Job, JobState
from hpcbench.cluster.connected_workers import Roster
from hpcbench.cluster.jobs import RETRY_S, Sent, Watcher, after_refusal, judge
from hpcbench.cluster.local import Jobs, Workers, connected, dask_settings
from hpcbench.cluster.reporting import Desk
from hpcbench.cluster.submission import Submission, own_settings
from hpcbench.errors import JobsDied, SiteError

log = logging.getLogger(__name__)

BURIAL_S = 5.0
"""Where others go on, each job that died unconnected delays the next one by so much more."""

DEATHS = 3
"""So many jobs in a row that die before they connect end a run."""

FATAL_NODE = 2
"""So many jobs that die on a node before they connect, and it gets no further one."""

LEAVE_S = 3.0
"""After so long, a worker that was to leave and is still there is asked again."""


@dataclass
class _Batch:
    """The state of a pool's jobs. Names are those of workers; each job has one."""

    pool_name: str
    submission: Submission
    watcher: Watcher
    max_deaths: int
    client: Client
    cluster: Any
    desk: Desk
    sent: dict[str, Sent]
    roster: Roster = field(default_factory=Roster)
    leaving: dict[str, float] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    judged: float = 0.0
    deaths: int = 0
    buried: int = 0
    fatal: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    refused_at: float = 0.0
    not_before: float = 0.0
    told: str = ""
    connected: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.cluster.scheduler.add_plugin(self.roster)

    @property
    def live(self) -> int:
        return len(self.roster.connected - self.leaving.keys())

    @property
    def jobs(self) -> Jobs:
        found = self.watcher.answer
        states = found[1] if found else {}
        waiting = [
            states[job.id]
            for job in list(self.sent.values())
            if job.id in states and states[job.id].state is JobState.WAITING
        ]
        reasons = ", ".join(sorted({job.reason for job in waiting if job.reason}))
        return Jobs(self.live, len(waiting), reasons)

    def keep(self, wanted: int) -> Sequence[str]:
        now = time.monotonic()
        notes = self._hear_refusals(now)
        self._see_who_is_there(now)
        notes += self._judge(now)
        self._scale(min(wanted, self.submission.site.pools[self.pool_name].max_jobs), now)
        return notes

    def _hear_refusals(self, now: float) -> list[str]:
        refused = self.desk.hear()
        if not refused:
            if any(job.at > self.refused_at for job in list(self.sent.values())):
                self.refusals = 0
            return []
        self._forget(refused)
        if now < self.not_before:
            # It was submitted together with the one that was told already.
            return []
        words = next(iter(refused.values()))
        self.refusals += 1
        self.refused_at = now
        wait_s = after_refusal(
            words,
            self.submission.run.system.temporary_failures,
            refusals=self.refusals,
            others=bool(self.sent),
        )
        if wait_s is None:
            raise SiteError(
                f"pool {self.pool_name}: the batch system refused the job: {words}",
                f"correct the pool in the site file of {self.submission.site.name}, or --account; "
                "hpcbench plan shows the job script",
            )
        self.not_before = now + wait_s
        log.info("pool %s: no further job was taken: %s", self.pool_name, words)
        again, self.told = words == self.told, words
        return [] if again else [f"pool {self.pool_name}: no further job was taken: {words}"]

    def _see_who_is_there(self, now: float) -> None:
        self.connected = self.roster.connected
        for name, asked_at in list(self.leaving.items()):
            if name not in self.connected:
                del self.leaving[name]
            elif now > asked_at + LEAVE_S:
                self._retire(name)
        for name, job in list(self.sent.items()):
            if name in self.connected:
                self.sent[name] = replace(job, gone_since=None)
            elif name in self.roster.ever and job.gone_since is None:
                self.sent[name] = replace(job, gone_since=now)
        if self.connected:
            self.deaths = 0

    def _judge(self, now: float) -> list[str]:
        answer = self.watcher.answer
        if answer is None or answer[0] <= self.judged:
            return []
        self.judged = answer[0]
        verdict = judge(
            dict(self.sent),
            answer[1],
            asked_at=answer[0],
            connected=self.connected,
            ever_connected=self.roster.ever,
            now=now,
        )
        if verdict.hopeless:
            raise SiteError(
                f"pool {self.pool_name}: a job would wait for ever: {verdict.hopeless}",
                f"correct the pool in the site file of {self.submission.site.name}",
            )
        notes = []
        for name, reason in verdict.held.items():
            notes.append(f"pool {self.pool_name}: job {self.sent[name].id} was {reason}")
        for name, reason in verdict.died.items():
            self.deaths += 1
            job_id = self.sent[name].id
            # One that is held has perhaps never been started.
            log_tail = [] if reason.startswith("held: ") else self._log_tail(job_id)
            notes.append(f"pool {self.pool_name}: job {job_id} died before it connected: {reason}")
            notes += [f"    {line}" for line in log_tail[-1:]]
            if self.deaths >= self.max_deaths:
                died = f"{self.deaths} jobs died before they connected, the last one"
                if self.deaths == 1:
                    died = "a job died before it connected"
                tail = "".join(f"\n    {line}" for line in log_tail)
                raise JobsDied(
                    f"pool {self.pool_name}: {died}, {job_id}: {reason}{tail}",
                    f"the job's log: {self._logs(job_id)}; hpcbench doctor --site "
                    f"{self.submission.site.name} looks closer",
                )
            if self.connected:
                notes += self._mark_down(answer[1].get(job_id))
        if verdict.died and self.connected:
            # Others go on, so that the run does not end of it: it must not cost a job a second.
            self.buried += len(verdict.died)
            self.not_before = max(self.not_before, now + min(RETRY_S, BURIAL_S * self.buried))
        cancelled = verdict.lost | verdict.held.keys() | verdict.died.keys()
        if cancelled:
            self._cancel(cancelled)
        self._forget({*verdict.died, *verdict.held, *verdict.ended, *verdict.lost})
        return notes

    def _mark_down(self, job: Job | None) -> list[str]:
        """A node on which jobs die, one after the other, gets none any more."""
        if job is None or not job.node or job.node in self.excluded:
            return []
        self.fatal[job.node] += 1
        if self.fatal[job.node] < FATAL_NODE:
            return []
        self._exclude(job.node)
        died = f"{FATAL_NODE} jobs died on node {job.node} before they connected"
        return [f"pool {self.pool_name}: {died}: no further job goes there"]

    def _logs(self, job_id: str) -> str:
        return str(self.submission.results.logs / f"job-{job_id}.log")

    def _log_tail(self, job_id: str) -> list[str]:
        try:
            text = Path(self._logs(job_id)).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return [f"(it left no log: {error.strerror}; do the nodes see the results folder?)"]
        return text[-20_000:].strip().splitlines()[-12:]

    def _scale(self, wanted: int, now: float) -> None:
        planned = list(self.cluster.worker_spec)
        sent = list(self.sent)
        # A job may be there of which Dask knows nothing: its submission seemed to fail, or was
        # under way when it was not wanted any more.
        there = {*planned, *sent, *(self.connected - self.leaving.keys())}
        if len(there) < wanted:
            # After a refusal one job finds out whether more are taken.
            more = 1 if self.refusals else wanted - len(there)
            if now >= self.not_before:
                self.cluster.loop.add_callback(self.cluster.scale, len(planned) + more)
            return
        surplus = len(there) - wanted
        unsent = [name for name in planned if name not in {*sent, *self.connected}][:surplus]
        if unsent:
            self.desk.withdraw(unsent)
            self._forget(unsent)
        on_their_way = [name for name in sent if name not in self.connected]
        on_their_way = on_their_way[: surplus - len(unsent)]
        if on_their_way:
            self._cancel(on_their_way)
            self._forget(on_their_way)
        idle = [name for name in self.roster.idle if name not in self.leaving]
        for name in idle[: surplus - len(unsent) - len(on_their_way)]:
            self.release(name)

    def _cancel(self, names: Any) -> None:
        run = self.submission.run
        ids = [self.sent[name].id for name in names if name in self.sent]
        try:
            run.system.cancel(run.name, ids)
        except SiteError as error:
            # All jobs of the run are cancelled at its end, these among them.
            log.warning("jobs %s could not be cancelled: %s", ", ".join(ids), error)

    def _forget(self, names: Any) -> None:
        for name in names:
            self.sent.pop(name, None)
        self.cluster.sync(self._forget_in_dask, list(names))

    async def _forget_in_dask(self, names: Sequence[str]) -> None:
        for name in names:
            self.cluster.worker_spec.pop(name, None)
            job = self.cluster.workers.pop(name, None)
            if job is not None:
                await job.close()

    def release(self, worker: str) -> None:
        if worker in self.leaving:
            return
        self._retire(worker)
        self._forget([worker])

    def submit_no_more(self) -> None:
        self.desk.close()

    def _retire(self, worker: str) -> None:
        """Dask declines where a result is on that worker only: then it is asked again later."""
        self.leaving[worker] = time.monotonic()
        scheduler = self.cluster.scheduler
        self.cluster.loop.add_callback(scheduler.retire_workers, names=[worker], close_workers=True)

    def avoid(self, worker: str, node: str) -> bool:
        self.release(worker)
        self._exclude(node)
        gpus = self.submission.site.pools[self.pool_name].gpus_per_job > 0
        return self.submission.run.system.has_other_nodes(self.excluded, gpus=gpus)

    def _exclude(self, node: str) -> None:
        if node not in self.excluded:
            self.excluded.append(node)
        self.cluster.new_spec["options"] |= self.submission.settings(self.pool_name, self.excluded)


@contextmanager
def batch_workers(
    pool_name: str, submission: Submission, watcher: Watcher, max_deaths: int = DEATHS
) -> Iterator[Workers]:
    """The jobs of one pool; none is submitted before the first `keep`."""
    sent: dict[str, Sent] = {}
    run = submission.run

    def taken(worker: str, job_id: str) -> None:
        sent[worker] = Sent(worker, job_id, time.monotonic())
        ledger.add(submission.results, run, pool_name, job_id)

    desk = Desk(taken)
    with dask_settings(), own_settings():
        cluster = submission.cluster(pool_name, desk)
        with connected(cluster) as client:
            try:
                yield _Batch(
                    pool_name, submission, watcher, max_deaths, client, cluster, desk, sent
                )
            except BaseException:
                with contextlib.suppress(SiteError):
                    run.system.cancel(run.name)
                raise
            finally:
                desk.close()
