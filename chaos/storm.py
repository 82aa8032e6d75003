"""The first scenario: people at work, faults in random order, then the account."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from chaos import faults, oracle, record
from chaos.annotators import Annotator, Curator, Shared, Worker
from chaos.effects import NoEffect
from chaos.faults import Fault
from chaos.ledger import Ledger
from chaos.world import Failed, World, make_project

SLOWEST_EVENTS_A_SECOND = 0.5
TELL_EVERY_S = 10.0


@dataclass(kw_only=True)
class Storm:
    """What happened."""

    project: int
    ledger: Ledger
    faults: list[Fault] = field(default_factory=list)
    without_effect: list[str] = field(default_factory=list)
    account: oracle.Account = field(default_factory=oracle.Account)
    figures: dict[str, float | int | str] = field(default_factory=dict)


def run(world: World, *, seed: int, events: int, fault_count: int) -> Storm:
    """At least `events` changes and `fault_count` faults with an effect; the account at the end.

    Raises Failed when the test itself cannot be done: that is no finding about us, and no success either."""
    chance = random.Random(seed)
    project, tasks, pictures = make_project(world, f"Chaos {seed}")
    storm = Storm(project=project, ledger=Ledger(pictures=pictures))
    shared = Shared(project, tasks)
    workers: list[Worker] = [
        Annotator(f"annotator {n}", person, shared, storm.ledger, random.Random(f"{seed}-{n}"))
        for n, person in enumerate(world.people)
    ]
    workers.append(Curator("curator", world.owner, shared, storm.ledger, random.Random(f"{seed}-curator")))
    begun = time.monotonic()
    for worker in workers:
        worker.start()
    try:
        _disturb(world, storm, chance, workers, events, fault_count)
    finally:
        shared.stop.set()
        for worker in workers:
            worker.join(120)
    for worker in workers:
        if worker.failed is not None:
            raise Failed(f"{worker.name} could not go on: {worker.failed!r}") from worker.failed
    seconds = time.monotonic() - begun
    storm.figures |= {
        "storm_seconds": round(seconds, 1),
        "events_per_second": round(storm.ledger.events / seconds, 2),
        "webhooks": len(world.hooks.passages),
        "webhooks_acknowledged": world.hooks.count(acknowledged=True),
        "webhooks_never_acknowledged": world.hooks.count(acknowledged=False),
        "unclear_answers_of_label_studio": len(storm.ledger.unclear_replies),
        "parts_that_ended_by_themselves": len(world.processes.died),
    }
    world.say(
        "chaos", f"{storm.ledger.events} events, {len(storm.faults)} faults in {seconds:.0f} s; settling"
    )
    settle_and_account(world, storm)
    return storm


def _disturb(
    world: World, storm: Storm, chance: random.Random, workers: list[Worker], events: int, fault_count: int
) -> None:
    """One fault after the other, spread over the events; every kind comes back until it has had its effect."""
    kinds = faults.in_order(chance, fault_count)
    deadline = time.monotonic() + events / SLOWEST_EVENTS_A_SECOND + 60 * fault_count
    told = time.monotonic()
    while storm.ledger.events < events or kinds:
        world.processes.look()
        for worker in workers:
            if worker.failed is not None:
                return
        if time.monotonic() > deadline:
            raise Failed(f"only {storm.ledger.events} events and {len(storm.faults)} faults so far")
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            world.say("chaos", f"{storm.ledger.events} of {events} events")
        due = events * len(storm.faults) / (fault_count + 1)
        if not kinds or storm.ledger.events < due:
            time.sleep(0.05)
            continue
        kind = kinds.pop(0)
        try:
            fault = faults.carry_out(kind, world, chance)
        except NoEffect as error:
            storm.without_effect.append(kind)
            if len(storm.without_effect) > fault_count:
                raise Failed(f"faults have no effect: {Counter(storm.without_effect)}") from error
            kinds.insert(min(1, len(kinds)), kind)
            world.say("chaos", f"without effect, again later: {kind} ({error})")
            continue
        storm.faults.append(fault)
        if len(storm.faults) == (fault_count + 1) // 2:
            # Which reads the log while it grows; the one at the end builds upon it.
            world.command("archive", "snapshot", str(storm.project))
        world.say(
            "chaos",
            f"fault {len(storm.faults)} of {fault_count}, {storm.ledger.events} events: "
            f"{kind}: {fault.effect} ({fault.seconds} s)",
        )
    faults.mend(world)


def settle_and_account(world: World, storm: Storm) -> None:
    begun = time.monotonic()
    world.settle()
    storm.figures["settle_seconds"] = round(time.monotonic() - begun, 1)
    begun = time.monotonic()
    report = record.reconcile(world, str(storm.project))
    world.settle()
    storm.figures["reconcile_seconds"] = round(time.monotonic() - begun, 1)
    storm.figures["snapshots"] = record.snapshots(world, str(storm.project))
    storm.figures["repaired_by_reconcile"] = report["repaired"]
    world.say("chaos", f"reconciled: {record.repaired(report)}")
    storm.account = found = account(world, storm)
    world.say(
        "chaos",
        f"account: {len(found.missing)} missing, {len(found.duplicated)} doubled, {len(found.differences)} different",
    )


def account(world: World, storm: Storm) -> oracle.Account:
    """Label Studio, ledger and proxy on one side, our command line on the other."""
    uid = record.uid_of(world, storm.project)
    there = oracle.label_studio_state(
        world.owner.tasks(storm.project),
        world.owner.export(storm.project),
        world.owner.call("GET", f"/api/projects/{storm.project}/"),
    )
    state, log = record.state(world, uid), record.log(world, uid)
    storm.figures |= {
        "log_records": len(log),
        "tasks": len(there["task"]),
        "annotations": len(there["annotation"]),
    }
    differences = oracle.differences(there, state)
    differences += oracle.forgotten_by_label_studio(storm.ledger, there)
    differences += record.verify(world, uid)
    differences += [f"the bucket would misread {one}" for one in world.emulation("GET", "tripped")]
    return oracle.Account(
        missing=oracle.missing(world.hooks.passages, log),
        duplicated=oracle.doubled(state),
        differences=differences,
    )
