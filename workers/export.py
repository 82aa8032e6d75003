"""Write an export into the bucket: fold the log up to its source, stream tasks to disk, convert, count, upload.

The manifest is put last, and nothing without it is an export. The same arguments write the same files, so a run that was
killed is simply run again. A lock keeps two workers from doing the same work; nothing breaks when it runs out.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
from rq import get_current_job

from bridge import exports as rules
from bridge.edges import exports as registry
from bridge.edges import redis as names
from bridge.edges.history import History, open_history
from bridge.errors import BridgeError, NotFound, OutsideError
from bridge.export_manifest import Baseline, File, Manifest, manifest_bytes
from bridge.export_tasks import Contents, annotation_json, annotators, contents_of, lines, model_versions
from bridge.exports import LEFT_OUT, MANIFEST, VERSION, Format, Order
from bridge.keys import ExportKey, Layout, project_id_of
from bridge.labeling import parse_config
from bridge.records import canonical, format_time
from bridge.state import StateView
from workers import context
from workers.export_files import describe
from workers.export_formats import Writer, open_writer
from workers.export_tally import Tally
from workers.kept_lock import held
from workers.progress import Reporter

log = logging.getLogger(__name__)
LOCK_TTL_S = 60
_NDJSON = "application/x-ndjson"


def trigger(uid: str, reason: str) -> None:
    """Ask for the formats of EXPORT_FORMATS, of what is in the log now."""
    here = context.current()
    layout = here.layout(uid)
    source = registry.newest_source(here.store, here.redis, layout)
    for format in here.settings.export_formats.split(","):
        order = registry.order_of(layout, format, rules.ANNOTATED, source)
        view = registry.ask(here.redis, here.store, layout, order, reason, here.now())
        log.info("%s: export %s is %s", reason, view.id, view.state)


def run(uid: str, format: str, tasks: str, source_key: str) -> None:
    """Make one export. Raises what the queue tries again; what no further try can mend is failed at once."""
    here = context.current()
    layout = here.layout(uid)
    order = registry.order_of(layout, rules.find_format(format).name, rules.check_tasks(tasks), source_key)
    if registry.read_manifest(here.store, layout, order.id) is not None:
        registry.forget(here.redis, order.id)
        return
    with held(here.redis, names.export_lock(order.id), ttl_s=LOCK_TTL_S) as ours:
        if not ours:
            log.info("another worker is at the export %s", order.id)
            return
        _note(here, order, state="running")
        try:
            manifest = Export(here, layout, order).run()
        except Exception as error:
            _fail(here, order, error)
            raise
        registry.forget(here.redis, order.id)
        log.info(
            "export %s is whole: %d tasks, %d regions in it, %d left out",
            order.id,
            manifest.counts.tasks,
            manifest.counts.regions_in_output,
            sum(manifest.counts.regions_left_out.values()),
        )


def _note(here: context.Context, order: Order, **changes: Any) -> None:
    """Say how the export is; written anew where Redis has forgotten that it was asked for."""
    job = get_current_job()
    request = registry.read_request(here.redis, order.id) or registry.Request(
        order=order, asked_by="", asked_at=format_time(here.now())
    )
    changes = {"message": ""} | ({} if job is None else {"job_id": job.id}) | changes
    registry.note(here.redis, order.id, replace(request, **changes))


def _fail(here: context.Context, order: Order, error: Exception) -> None:
    """Say what happened: it is tried again, or it has failed and a person is told what to do."""
    job = get_current_job()
    message = str(error) if isinstance(error, BridgeError) else f"{type(error).__name__}: {error}"
    again = not isinstance(error, BridgeError) or error.retryable
    if not again and job is not None:
        job.retries_left = 0  # the queue's tries cannot help
    if job is not None and not job.retries_left:
        again = False
    try:
        _note(
            here,
            order,
            state="queued" if again else "failed",
            message=f"waits: {message}" if again else message,
        )
    except redis.RedisError:
        pass  # what happened to the export is what the caller should see; the sweep finds its request as it was


class Export:
    """One run, under the lock."""

    def __init__(self, here: context.Context, layout: Layout, order: Order) -> None:
        self._here, self._layout, self._order = here, layout, order
        self._format: Format = rules.find_format(order.format)
        self._damaged: list[str] = []

    def run(self) -> Manifest:
        with self._fold() as state:
            self._folded, self._damaged = state.log_objects, state.unreadable
            project = state.thing("project", str(project_id_of(self._order.uid)))
            about = {} if project is None else project.data
            label_config = str(about.get("label_config") or "")
            config = parse_config(label_config)
            rules.check_fits(self._format, config)
            baseline = self._baseline(state)
            contents = contents_of(state, all_tasks=self._order.tasks == rules.ALL)
            people, versions = annotators(state, contents), model_versions(contents)
        del state
        title = str(about.get("title") or "")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="export-")))
            tally = stack.enter_context(closing(Tally(folder / LEFT_OUT)))
            writer = stack.enter_context(
                closing(open_writer(self._format, folder, tally, config, contents, self._order, title))
            )
            sha = self._write_tasks(contents, writer, tally, label_config)
            del contents
            first = self._same(sha)
            if first is None:
                path, objects = writer.finish()
                tally.close()
                counts, files = tally.counts(objects), self._upload(path, folder / LEFT_OUT, tally)
            else:
                counts, files = first.counts, first.files
        manifest = Manifest(
            export_id=self._order.id,
            project={"uid": self._order.uid, "id": project_id_of(self._order.uid), "title": title},
            format=self._format.name,
            options={"tasks": self._order.tasks},
            files=files,
            counts=counts,
            source=self._source(),
            baseline=baseline,
            created_at=format_time(self._here.now()),
            label_config=label_config,
            model_versions=versions,
            annotators=people,
            content_sha256=sha,
            made_with={"label-studio-sdk": importlib.metadata.version("label-studio-sdk"), "layout": VERSION},
            same_as="" if first is None else (first.same_as or first.export_id),
        )
        self._put_manifest(manifest)
        return manifest

    @contextmanager
    def _fold(self) -> Iterator[History]:
        """The state as of the source. Raises NotFound when the bucket no longer has it."""
        source = self._order.source_key
        if self._here.store.head(source) is None:
            raise NotFound(f"the bucket has lost {source}, which this export was asked of", hint="ask again")
        say = Reporter("log objects read", total=None, now=self._here.now)
        with open_history(
            self._here.store, self._layout, up_to=source, report=lambda done, _: say(done)
        ) as state:
            yield state

    def _baseline(self, state: StateView) -> Baseline:
        """From the log itself; how far it is, only Redis knows."""
        if state.baseline_completed_at is not None:
            return Baseline(complete=True)
        said: Any = self._here.redis.hgetall(names.baseline(self._order.uid))
        done, total = (said.get(name, b"").decode() for name in (b"done", b"total"))
        return Baseline(
            complete=False,
            done=int(done) if done.isdecimal() else None,
            total=int(total) if total.isdecimal() else None,
        )

    def _write_tasks(self, contents: Contents, writer: Writer, tally: Tally, label_config: str) -> str:
        """Hand each task to the writer. Returns the checksum of everything the files are made of."""
        digest = hashlib.sha256(
            canonical([VERSION, self._format.name, self._order.tasks, self._order.uid, label_config])
        )
        say = Reporter("tasks written", total=len(contents.tasks), now=self._here.now)
        for number, (task, (whole, line)) in enumerate(zip(contents.tasks, lines(contents), strict=True)):
            say(number)
            tally.task(whole)
            writer.add(task, whole)
            digest.update(line.encode() + b"\n")
        for thing in contents.homeless:
            annotation = annotation_json(thing)
            tally.homeless(annotation)
            digest.update(canonical(annotation))
        return digest.hexdigest()

    def _same(self, sha: str) -> Manifest | None:
        """An earlier export with the same content, whose files are there: they serve this one too."""
        known: Any = self._here.redis.hget(names.export_contents(self._order.uid), sha)
        if known is None:
            return None
        first = registry.read_manifest(self._here.store, self._layout, known.decode())
        if first is None or first.content_sha256 != sha:
            return None
        there = (self._here.store.head(file.key) for file in first.files)
        sizes = [None if info is None else info.size_bytes for info in there]
        return first if sizes == [file.size_bytes for file in first.files] else None

    def _upload(self, path: Path, left_out: Path, tally: Tally) -> tuple[File, ...]:
        """Upload file by file. Raises OutsideError; what is there by then is no export."""
        found = [(path, self._format.file, self._format.content_type)]
        if tally.regions_out or tally.annotations_out:
            found.append((left_out, LEFT_OUT, _NDJSON))
        files = []
        for one, name, content_type in found:
            file = describe(one, name, content_type, self._layout, self._order.id)
            try:
                self._here.store.upload(file.key, one, content_type=content_type)
            except NotFound as error:
                raise OutsideError(str(error)) from error  # no bucket: may be back
            files.append(file)
        return tuple(files)

    def _source(self) -> dict[str, Any]:
        request = registry.read_request(self._here.redis, self._order.id)
        return {
            "log_key": self._order.source_key,
            "position": self._order.position,
            "log_objects": self._folded,
            "unreadable_log_objects": self._damaged,
            "asked_by": "" if request is None else request.asked_by,
        }

    def _put_manifest(self, manifest: Manifest) -> None:
        key = self._layout.export(ExportKey(export_id=self._order.id, name=MANIFEST))
        self._here.store.put(key, manifest_bytes(manifest), content_type="application/json")
        self._here.redis.hset(
            names.export_contents(self._order.uid),
            manifest.content_sha256,
            manifest.same_as or manifest.export_id,
        )
