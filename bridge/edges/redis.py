"""Redis connections, and every key we keep there.

Two kinds of client: `ingest_client` fails within 250 ms and never retries, because Label Studio waits for its answer
(redis-py's own defaults take seconds to fail); `client` waits and retries as a job may.
"""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

INGEST_TIMEOUT_S = 0.25
_ROOT = "bridge:"


def ingest_client(url: str, timeout_s: float = INGEST_TIMEOUT_S) -> redis.Redis:
    """For the door: every call ends within the timeout, one way or the other."""
    return redis.Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


def client(url: str) -> redis.Redis:
    """For jobs and commands: patient. RQ waits on it for up to its own dequeue time-out, so no socket time-out."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(cap=2, base=0.1), 5),
        health_check_interval=30,
    )


STREAMS = f"{_ROOT}streams"  # set of project uids that have had an event
PROBE = f"{_ROOT}probe"  # written to see whether Redis takes writes; holds nothing
QUARANTINE = f"{_ROOT}quarantine"  # stream of bodies we could not read
WANTED = f"{_ROOT}wanted"  # set of project uids whose baseline was asked for
REREAD = (
    f"{_ROOT}reread"  # set of project uids to read whole again, as soon as no reading of them is under way
)


def stream(uid: str) -> str:
    return f"{_ROOT}events:{uid}"


def pending(uid: str) -> str:
    return f"{_ROOT}pending:{uid}"


def log_lock(uid: str) -> str:
    return f"{_ROOT}lock:log:{uid}"


def baseline_lock(uid: str) -> str:
    return f"{_ROOT}lock:baseline:{uid}"


def current_lock(uid: str) -> str:
    return f"{_ROOT}lock:current:{uid}"


def last_key(uid: str) -> str:
    """The newest log key written for a project; it never moves back (bridge/edges/log.py)."""
    return f"{_ROOT}last:{uid}"


def known(uid: str) -> str:
    """Hash: `kind:id` -> fingerprint of the record that webhooks had written last for it, unless a reading wrote since."""
    return f"{_ROOT}known:{uid}"


def baseline(uid: str) -> str:
    """Hash: how far the baseline is."""
    return f"{_ROOT}baseline:{uid}"


def baseline_pending(uid: str) -> str:
    return f"{_ROOT}baseline-pending:{uid}"


def current_cursor(uid: str) -> str:
    """The newest log key that current/ has taken in."""
    return f"{_ROOT}current:{uid}"


def current_pending(uid: str) -> str:
    return f"{_ROOT}current-pending:{uid}"


def metrics_lock(uid: str) -> str:
    return f"{_ROOT}lock:metrics:{uid}"


def metrics_cursor(uid: str) -> str:
    """The newest log key when metrics/ was made last."""
    return f"{_ROOT}metrics:{uid}"


def metrics_pause(uid: str) -> str:
    """There for as long as nobody shall make metrics/ by himself; holds nothing."""
    return f"{_ROOT}metrics-pause:{uid}"


def metrics_job(uid: str) -> str:
    """The id of the job that the scheduler enqueued last."""
    return f"{_ROOT}metrics-job:{uid}"


def reconcile_lock(uid: str) -> str:
    return f"{_ROOT}lock:reconcile:{uid}"


def reconcile(uid: str) -> str:
    """Hash: when each depth was done last, the watermark, what is held, why all deletions are (`older`), since when the
    project is absent."""
    return f"{_ROOT}reconcile:{uid}"


def reconcile_pending(uid: str) -> str:
    """Set for a while after a reconcile was enqueued, so that nobody does it again."""
    return f"{_ROOT}reconcile-pending:{uid}"


def reread_pause(uid: str) -> str:
    """There for a moment after a project of REREAD was asked for, so that many such events cost one look."""
    return f"{_ROOT}reread-pause:{uid}"


def reconcile_seen(uid: str) -> str:
    """Hash: task id -> its updated_at when it was compared last; of the overlap of two looks alone."""
    return f"{_ROOT}reconcile-seen:{uid}"


def reconcile_missing(uid: str) -> str:
    """List: what the pages read so far of a full comparison did not show; for going on after a kill."""
    return f"{_ROOT}reconcile-missing:{uid}"


def reconcile_result(token: str) -> str:
    """What became of a run that a person asked for, as JSON; kept for a day."""
    return f"{_ROOT}reconcile-result:{token}"


def repairs(uid: str) -> str:
    """List of the newest repairs of a project, newest first, as JSON."""
    return f"{_ROOT}repairs:{uid}"


UNCONNECTED = f"{_ROOT}unconnected"  # hash: uid -> title of the projects that nobody has connected
RECONCILE_PROJECTS = f"{_ROOT}reconcile-projects"  # set by the scheduler that looks for new projects


JOB_SWEEP_LOCK = f"{_ROOT}lock:job-sweep"


def trouble(uid: str) -> str:
    """Why a project's events do not reach the bucket just now, in words."""
    return f"{_ROOT}trouble:{uid}"


def media(uid: str) -> str:
    """Hash: upload path -> key in the bucket."""
    return f"{_ROOT}media:{uid}"


def media_failed(uid: str) -> str:
    """Hash: upload path -> why it cannot be copied, in words, for a person."""
    return f"{_ROOT}media-failed:{uid}"


MODEL_WANTED = f"{_ROOT}model-wanted"  # hash: project uid -> the model version that its extra_params name
COUNTERS = f"{_ROOT}counters"  # hash: counters that workers add to and the sidecar's /metrics shows

EXPORTS = f"{_ROOT}exports"  # hash: export id -> what was asked for, as JSON, until it is done
EXPORT_COUNT = f"{_ROOT}export-count"  # hash: project uid -> annotations made since the last export by count
EXPORT_CRON = f"{_ROOT}export-cron"  # when the exports of EXPORT_CRON were asked for last


def snapshot(uid: str) -> str:
    """Hash: `at`, `newest` (log key), `pause_s` of the last snapshot, and `records` written to the log since."""
    return f"{_ROOT}snapshot:{uid}"


def snapshot_lock(uid: str) -> str:
    return f"{_ROOT}lock:snapshot:{uid}"


def snapshot_pending(uid: str) -> str:
    """Set for a while after a snapshot was enqueued."""
    return f"{_ROOT}snapshot-pending:{uid}"


def export_lock(export_id: str) -> str:
    return f"{_ROOT}lock:export:{export_id}"


def export_pending(export_id: str) -> str:
    """Set for a while after an export was enqueued, so that nobody does it again."""
    return f"{_ROOT}export-pending:{export_id}"


def export_contents(uid: str) -> str:
    """Hash: checksum of what an export is made of -> the first export with it."""
    return f"{_ROOT}export-contents:{uid}"


def export_cron_tick(tick: str) -> str:
    """Set by the scheduler that asks for the exports of one time of EXPORT_CRON: another one does not."""
    return f"{_ROOT}export-cron:{tick}"


def restore_lock(restore_id: str) -> str:
    return f"{_ROOT}lock:restore:{restore_id}"


def restore_job(restore_id: str) -> str:
    """The id of the job that was enqueued last for a restore."""
    return f"{_ROOT}restore-job:{restore_id}"


PRELABELS = (
    f"{_ROOT}prelabels"  # sorted set: id of a pre-labelling job -> when it was asked for, in milliseconds
)
PRELABEL_WANTED = f"{_ROOT}prelabel-wanted"  # set of project uids of which tasks are wanted pre-labelled


def prelabel(id: str) -> str:
    """Hash: what a pre-labelling job is and how far it is."""
    return f"{_ROOT}prelabel:{id}"


def prelabel_part(id: str, part: str) -> str:
    """Hashes by task or chunk: chunks, jobs, staged, written, failed, tries; and the set `replace`."""
    return f"{_ROOT}prelabel-{part}:{id}"


def prelabel_lock(id: str, part: str) -> str:
    return f"{_ROOT}lock:prelabel:{id}:{part}"


def prelabel_write_lock(uid: str) -> str:
    """Held while predictions are imported into a project: Label Studio recounts all of it each time."""
    return f"{_ROOT}lock:prelabel-write:{uid}"


def prelabel_active(uid: str) -> str:
    """The id of the project's job that is under way."""
    return f"{_ROOT}prelabel-active:{uid}"


def prelabel_wanted(uid: str) -> str:
    """Set of task ids that are to be pre-labelled by the next job."""
    return f"{_ROOT}prelabel-wanted:{uid}"


def prelabel_wanted_by(uid: str) -> str:
    """Set of reasons why the next job's tasks are wanted."""
    return f"{_ROOT}prelabel-wanted-by:{uid}"


def prelabel_pending(uid: str) -> str:
    """Set for a while after a look at what is wanted was enqueued."""
    return f"{_ROOT}prelabel-pending:{uid}"


def prelabel_versions(uid: str) -> str:
    """Set of the model versions that our jobs have written into a project."""
    return f"{_ROOT}prelabel-versions:{uid}"
