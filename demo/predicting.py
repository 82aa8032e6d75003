"""Predictions for every task, on the right pixels, once."""

from __future__ import annotations

import statistics
import time

from demo.looking import best_ious, shown_boxes
from demo.steps import expect, wait_for
from demo.world import SIZE, World

GOOD_IOU = 0.7


def predict(world: World) -> None:
    id = world.project["id"]
    with world.report.step("predictions shown on every task") as detail:
        began = time.monotonic()
        world.retrieve_predictions(id)
        seconds = time.monotonic() - began
        ours = {
            world.name(task): [p for p in task["predictions"] if p["model_version"] != "imported"]
            for task in world.user.tasks(id)
        }
        missing = [name for name, predictions in ours.items() if not predictions]
        expect(not missing, f"no prediction for {missing}")
        versions = {p["model_version"] for predictions in ours.values() for p in predictions}
        expect(len(versions) == 1, f"several model versions in one run: {versions}")
        rate = len(ours) / seconds
        world.report.figures["predictions_per_second"] = round(rate, 1)
        detail.append(f"{len(ours)} tasks in {seconds:.1f} s ({rate:.1f} a second), version {versions.pop()}")
    with world.report.step("predictions on the right pixels (IoU)") as detail:
        ious: list[float] = []
        extra = 0
        for name, predictions in ours.items():
            drawn = world.drawn[name].boxes
            shown = shown_boxes(predictions[0]["result"])
            expect(
                all(r["original_width"] == SIZE[0] for r in predictions[0]["result"]),
                f"{name}: wrong image size",
            )
            ious += best_ious(drawn, shown)
            extra += max(0, len(shown) - len(drawn))
        found = sum(value >= GOOD_IOU for value in ious) / len(ious)
        world.report.figures["shapes_drawn"] = len(ious)
        world.report.figures["shapes_found"] = round(found, 3)
        world.report.figures["median_iou"] = round(statistics.median(ious), 3)
        detail.append(
            f"{found:.0%} of {len(ious)} shapes, median IoU {statistics.median(ious):.2f}, {extra} extra"
        )
        expect(found >= 0.85, f"only {found:.0%} of the shapes have a box of IoU {GOOD_IOU} or more")
        expect(extra <= len(ious) // 5, f"{extra} boxes where nothing was drawn")
    with world.report.step("predicting again repeats nothing"):
        world.retrieve_predictions(id)
        counts = {
            len([p for p in task["predictions"] if p["model_version"] != "imported"])
            for task in world.user.tasks(id)
        }
        expect(counts == {1}, f"predictions a task: {counts}, expected 1")
    with world.report.step("what the model did is in the log") as detail:
        wait_for(
            "inference records",
            lambda: sum(r["kind"] == "inference" for r in world.bucket.look()) >= len(ours),
            within_s=15,
        )
        detail.append(f"{sum(r['kind'] == 'inference' for r in world.bucket.records)} inference records")
