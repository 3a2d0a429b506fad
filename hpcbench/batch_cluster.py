"""A pool's workers as jobs of a batch system: submitted, watched, replaced, and ended."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

from hpcbench import batch, jobqueue, ledger
from hpcbench.batch import JobState
from hpcbench.cluster import Jobs, Workers, dask_settings
from hpcbench.errors import HpcbenchError, JobsDied, SiteError
from hpcbench.judge import Sent, judge
from hpcbench.keys import Keys
from hpcbench.ledger import Run
from hpcbench.site import Site
from hpcbench.store import Results
from hpcbench.watch import Watcher

log = logging.getLogger(__name__)

DEATHS = 3
"""So many jobs in a row that die before they connect end a run."""

RETRY_S = 60.0
"""After a refusal, so long no job is submitted where others were taken."""

LEAVE_S = 3.0
"""After so long, a worker that was to leave and is still there is asked again."""

TRANSIENT = (
    "Unable to contact",
    "timed out",
    "try again",
    "no answer within",
    "Connection refused",
)
TRANSIENT_RETRIES = 3


@dataclass(frozen=True)
class Submission:
    """What all pools of a run share; ``deaths`` in a row before a job connects end the run."""

    results: Results
    run: Run
    account: str | None
    keys: Keys | None
    watcher: Watcher
    deaths: int = DEATHS


class _EverConnected(SchedulerPlugin):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self.names.add(str(scheduler.workers[worker].name))


@dataclass
class _Batch:
    """The state of a pool's jobs. Names are those of workers; each job has one."""

    site: Site
    pool_name: str
    submission: Submission
    client: Client
    cluster: Any
    desk: jobqueue.Desk
    sent: dict[str, Sent]
    ever: _EverConnected = field(default_factory=_EverConnected)
    leaving: dict[str, float] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    judged: float = 0.0
    deaths: int = 0
    refusals: int = 0
    not_before: float = 0.0
    connected: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.cluster.scheduler.add_plugin(self.ever)

    @property
    def live(self) -> int:
        return len(self._connected() - self.leaving.keys())

    @property
    def jobs(self) -> Jobs:
        found = self.submission.watcher.answer
        states = found[1] if found else {}
        waiting = [
            states[job.id]
            for job in list(self.sent.values())
            if job.id in states and states[job.id].state is JobState.WAITING
        ]
        reasons = ", ".join(sorted({job.reason for job in waiting if job.reason}))
        return Jobs(self.live, len(waiting), reasons)

    def _connected(self) -> frozenset[str]:
        workers = list(self.cluster.scheduler.workers.values())
        return frozenset(str(worker.name) for worker in workers)

    def keep(self, wanted: int) -> Sequence[str]:
        now = time.monotonic()
        notes = self._hear_refusals(now)
        self._see_who_is_there(now)
        notes += self._judge(now)
        self._scale(min(wanted, self.site.pools[self.pool_name].max_jobs), now)
        return notes

    def _hear_refusals(self, now: float) -> list[str]:
        refused = {name: self.desk.refused.pop(name) for name in list(self.desk.refused)}
        if not refused:
            return []
        self._forget(refused)
        words = next(iter(refused.values()))
        self.refusals += 1
        passing = any(text in words for text in TRANSIENT)
        if passing and self.refusals <= TRANSIENT_RETRIES:
            self.not_before = now + 5
        elif self.sent:
            self.not_before = now + RETRY_S
        else:
            raise SiteError(
                f"pool {self.pool_name}: the batch system refused the job: {words}",
                f"correct the pool in the site file of {self.site.name}, or --account; "
                "hpcbench plan shows the job script",
            )
        return [f"pool {self.pool_name}: no further job was taken: {words}"]

    def _see_who_is_there(self, now: float) -> None:
        self.connected = self._connected()
        for name, asked_at in list(self.leaving.items()):
            if name not in self.connected:
                del self.leaving[name]
            elif now > asked_at + LEAVE_S:
                self._retire(name)
        for name, job in list(self.sent.items()):
            if name in self.connected:
                self.sent[name] = replace(job, gone_since=None)
            elif name in self.ever.names and job.gone_since is None:
                self.sent[name] = replace(job, gone_since=now)
        if self.connected:
            self.deaths = 0

    def _judge(self, now: float) -> list[str]:
        answer = self.submission.watcher.answer
        if answer is None or answer[0] <= self.judged:
            return []
        self.judged = answer[0]
        verdict = judge(
            dict(self.sent),
            answer[1],
            asked_at=answer[0],
            connected=self.connected,
            ever_connected=self.ever.names,
            now=now,
        )
        if verdict.hopeless:
            raise SiteError(
                f"pool {self.pool_name}: a job would wait for ever: {verdict.hopeless}",
                f"correct the pool in the site file of {self.site.name}",
            )
        notes = []
        for name, reason in verdict.died.items():
            self.deaths += 1
            job_id = self.sent[name].id
            notes.append(f"pool {self.pool_name}: job {job_id} died before it connected: {reason}")
            if self.deaths >= self.submission.deaths:
                died = f"{self.deaths} jobs died before they connected, the last one"
                if self.deaths == 1:
                    died = "a job died before it connected"
                raise JobsDied(
                    f"pool {self.pool_name}: {died}, {job_id}: {reason}\n{self._log_tail(job_id)}",
                    f"the job's log: {self._logs(job_id)}; hpcbench doctor --site "
                    f"{self.site.name} looks closer",
                )
        cancelled = verdict.lost | verdict.died.keys()
        if cancelled:
            self._cancel(cancelled)
        self._forget({*verdict.died, *verdict.ended, *verdict.lost})
        return notes

    def _logs(self, job_id: str) -> str:
        return str(self.submission.results.logs / f"job-{job_id}.log")

    def _log_tail(self, job_id: str) -> str:
        try:
            text = Path(self._logs(job_id)).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"    (it left no log: {error.strerror}; do the nodes see the results folder?)"
        return "\n".join(f"    {line}" for line in text[-20_000:].strip().splitlines()[-12:])

    def _scale(self, wanted: int, now: float) -> None:
        asked_for = len(self.cluster.worker_spec)
        if asked_for < wanted and now >= self.not_before:
            self.cluster.loop.add_callback(self.cluster.scale, wanted)
            return
        surplus = max(0, asked_for - wanted)
        on_their_way = [name for name in self.sent if name not in self.connected][:surplus]
        if on_their_way:
            self._cancel(on_their_way)
            self._forget(on_their_way)
        for name in self._idle()[: surplus - len(on_their_way)]:
            self.release(name)

    def _idle(self) -> list[str]:
        workers = list(self.cluster.scheduler.workers.values())
        return [str(worker.name) for worker in workers if not worker.processing]

    def _cancel(self, names: Any) -> None:
        run = self.submission.run
        ids = [self.sent[name].id for name in names if name in self.sent]
        try:
            batch.cancel(run.system, run.name, ids)
        except HpcbenchError as error:
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

    def _retire(self, worker: str) -> None:
        """Dask declines where a result is on that worker only: then it is asked again later."""
        self.leaving[worker] = time.monotonic()
        scheduler = self.cluster.scheduler
        self.cluster.loop.add_callback(scheduler.retire_workers, names=[worker], close_workers=True)

    def avoid(self, worker: str, node: str) -> bool:
        self.release(worker)
        if node not in self.excluded:
            self.excluded.append(node)
        self.cluster.new_spec["options"] |= _settings(
            self.site, self.pool_name, self.submission, self.excluded
        )
        return True


def _settings(
    site: Site, pool_name: str, submission: Submission, excluded: Sequence[str] = ()
) -> dict[str, Any]:
    return jobqueue.settings(
        site,
        site.pools[pool_name],
        run=submission.run.name,
        account=submission.account,
        logs=submission.results.logs,
        excluded=excluded,
        key_files=submission.keys.files if submission.keys else (),
    )


@contextmanager
def batch_workers(site: Site, pool_name: str, submission: Submission) -> Iterator[Workers]:
    """The jobs of one pool; none is submitted before the first `keep`."""
    sent: dict[str, Sent] = {}

    def taken(worker: str, job_id: str) -> None:
        sent[worker] = Sent(worker, job_id, time.monotonic())
        ledger.add(submission.results, submission.run, pool_name, job_id)

    desk = jobqueue.Desk(taken)
    with dask_settings(), jobqueue.own_settings():
        cluster = _started(site, pool_name, submission, desk)
        with contextlib.closing(cluster), Client(cluster) as client:
            try:
                yield _Batch(site, pool_name, submission, client, cluster, desk, sent)
            except BaseException:
                with contextlib.suppress(HpcbenchError):
                    batch.cancel(submission.run.system, submission.run.name)
                raise


def _started(site: Site, pool_name: str, submission: Submission, desk: jobqueue.Desk) -> Any:
    cls = jobqueue.reporting(jobqueue.cluster_class(site), desk)
    tls = submission.keys is not None
    problem: Exception | None = None
    for port in site.network.port_range:
        try:
            return cls(
                name=f"{submission.run.name}-{pool_name}",
                interface=site.network.interface,
                protocol="tls://" if tls else "tcp://",
                security=submission.keys.security() if submission.keys else None,
                worker_security=jobqueue.key_security(site, submission.keys),
                scheduler_options={"dashboard_address": "127.0.0.1:0", "port": port},
                silence_logs=logging.CRITICAL,
                **_settings(site, pool_name, submission),
            )
        except RuntimeError as error:
            problem = error
            if "in use" not in str(error):
                break
    raise SiteError(
        f"pool {pool_name}: no scheduler could be started here: {problem}",
        f"look at network in the site file of {site.name}: interface and ports",
    ) from problem
