"""Pre-labelling as the commands and the API ask for it; predicting and writing is the workers' job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from bridge import prelabel as rules
from bridge.edges import prelabel as registry
from bridge.edges.prelabel import Ledger
from bridge.errors import SenderError, Unavailable
from bridge.keys import Layout, project_id_of
from bridge.prelabel import Order, View, uid_of_prelabel
from bridge.records import format_time
from sidecar import exports
from sidecar.clients import Clients

WAIT_S = 86400.0
POLL_S = 0.5
DEFAULT_FILTER = "unlabeled"
NO_WORKER = "nobody listens to the queue `prelabel`: start `python -m workers prelabel`"


def ask(
    clients: Clients,
    given: str,
    *,
    filters: Sequence[str] = (),
    view: int | None = None,
    model: str = "",
    replace: bool = False,
    by: str,
) -> View:
    """Begin a job. Without a filter and a tab, of the tasks that nobody has annotated.

    Raises SenderError for a filter or a version there is not, and while a job of the project is under way."""
    wanted = tuple(filters) or (() if view is not None else (DEFAULT_FILTER,))
    rules.selection_of(wanted)
    uid = exports.uid_of(clients, given)
    model = _model_asked(clients, uid, model)
    now = datetime.now(UTC)
    order = Order(
        id=rules.new_id(uid, now),
        uid=uid,
        filters=wanted,
        view=view,
        model=model,
        replace=replace,
        by=by,
        asked_at=format_time(now),
    )
    with clients.redis_says() as connection:
        registry.ask(connection, order)
    return look(clients, order.id)


def _model_asked(clients: Clients, uid: str, model: str) -> str:
    """The whole version that is meant. Says at once what the worker would say later: no address, or no such version."""
    settings = clients.settings
    if settings.ml_backend_url is None:
        raise SenderError("there is no ML backend to ask", hint="set ML_BACKEND_URL, for the workers too")
    if not model:
        return ""
    from bridge.edges.ml_backend import MlBackend  # httpx: the other commands need not wait for it

    backend = MlBackend(
        settings.ml_backend_url, user=settings.basic_auth_user, password=settings.basic_auth_pass
    )
    project = clients.label_studio.project(project_id_of(uid))
    with closing(backend):
        # Versions are those of a labeling config: it is told the one of now, which may never have been used yet.
        backend.setup(project=uid, label_config=str(project.get("label_config") or ""))
        return rules.version_asked(model, backend.possible(uid))


def look(clients: Clients, id: str) -> View:
    """How a job is. Raises SenderError and NotFound."""
    layout = Layout(uid_of_prelabel(id), clients.settings.s3.bucket_prefix)
    with clients.redis_says() as connection:
        view = Ledger(connection, id).view(layout, datetime.now(UTC))
        if view.is_over or view.message or registry.has_worker(connection):
            return view
    return replace(view, message=NO_WORKER)


def listed(clients: Clients, given: str | None, most: int = 20) -> list[View]:
    """The newest jobs, of one project or of all."""
    uid = None if given is None else exports.uid_of(clients, given)
    found = []
    with clients.redis_says() as connection:
        for id in registry.newest(connection, uid, most):
            layout = Layout(uid_of_prelabel(id), clients.settings.s3.bucket_prefix)
            ledger = Ledger(connection, id)
            if ledger.state:
                found.append(ledger.view(layout, datetime.now(UTC), failures=0))
    return found


def stop(clients: Clients, id: str) -> View:
    """Raises SenderError and NotFound."""
    uid_of_prelabel(id)
    with clients.redis_says() as connection:
        registry.stop(connection, id, datetime.now(UTC))
    return look(clients, id)


def resume(clients: Clients, id: str) -> View:
    """Raises SenderError and NotFound."""
    uid_of_prelabel(id)
    with clients.redis_says() as connection:
        registry.resume(connection, id, datetime.now(UTC))
    return look(clients, id)


def wait(
    clients: Clients,
    id: str,
    *,
    wait_s: float = WAIT_S,
    say: Callable[[View], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> View:
    """Until the job is over, one way or another. Raises Unavailable when `wait_s` have passed."""
    deadline = clock() + wait_s
    while True:
        view = look(clients, id)
        say(view)
        if view.is_over:
            return view
        if clock() >= deadline:
            why = f": {view.message}" if view.message else ""
            raise Unavailable(
                f"the job {id} is {view.state} after {wait_s:.0f} s{why}",
                hint="is a worker of the queue `prelabel` running? `python -m sidecar jobs list` shows what waits",
            )
        sleep(POLL_S)
