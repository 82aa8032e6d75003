"""The main job, end to end, as its users do it: through Label Studio's API, the bucket, HTTP and the command line."""

from __future__ import annotations

from demo import annotating, connecting, disturbing, exporting, measuring, predicting, unsaid
from demo.world import World


def run(world: World) -> None:
    """Go through every step; the first that does not hold ends the demo."""
    connecting.put_images(world)
    connecting.create_project(world)
    connecting.connect(world)
    connecting.check_baseline(world)
    connecting.sync(world)
    predicting.predict(world)
    annotating.annotate(world)
    annotating.measure_submits(world)
    disturbing.webhook_twice(world)
    disturbing.wrong_secret(world)
    disturbing.unreadable_body(world)
    disturbing.redis_killed(world)
    corrected = measuring.metrics(world)
    exporting.export_by_itself(world, corrected)
    exporting.exports(world, corrected)
    unsaid.what_webhooks_never_say(world)
    disturbing.no_secrets(world)
    disturbing.within_cortx(world)
    connecting.disconnect(world)
