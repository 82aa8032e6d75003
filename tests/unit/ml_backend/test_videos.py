"""Videos: frames as Label Studio counts them, tracks with gaps, stretches of a class, and files that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bridge.shapes import PixelBox
from ml_backend.attributes import Asked
from ml_backend.config import framerate_of, parse_config
from ml_backend.controls.timeline_labels import TIMELINE_LABELS
from ml_backend.controls.video_rectangle import VIDEO_RECTANGLE
from ml_backend.detectors import Found, FoundBox, Look
from ml_backend.problems import TaskProblem
from ml_backend.tracking import UltralyticsTracker
from ml_backend.video import Video
from tests.unit.ml_backend.helpers import FakeDetector, a_client, predict

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and ultralytics' own warnings
Json = dict[str, Any]
SIZE = (64, 48)


def write_video(path: Path, frames: int, *, fps: float = 25.0, codec: str = "MJPG", step: int = 6) -> Path:
    """Frame k is grey with step * k as its brightness, so that a frame can be told by looking at it."""
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, SIZE)  # type: ignore[attr-defined]
    assert out.isOpened()
    for index in range(frames):
        out.write(np.full((SIZE[1], SIZE[0], 3), step * index, np.uint8))
    out.release()
    return path


def index_of(image: Image.Image, step: int = 6) -> int:
    """Which frame a picture is."""
    return round(float(np.asarray(image, dtype=np.float64).mean()) / step)


class Seeing(FakeDetector):
    """Sees on frame k what it is told."""

    def __init__(self, what: Callable[[int], Found], **kind: Any) -> None:
        super().__init__(**kind)
        self._what = what
        self.frames: list[int] = []

    def predict(self, images: Sequence[Image.Image], *, look: Look) -> list[Found]:
        self.looks.append(look)
        if images[0].size != SIZE:
            return [Found() for _ in images]
        indexes = [index_of(image) for image in images]
        self.frames += indexes
        return [self._what(index) for index in indexes]


def moving(name: str, index: int, *, y: float = 10, score: float = 0.9) -> FoundBox:
    """A box of 12x12 px that moves right by 1 px a frame."""
    x = 4.0 + index
    return FoundBox(name=name, score=score, box=PixelBox(x0=x, y0=y, x1=x + 12, y1=y + 12))


def video_config(inside: str, framerate: str = "25") -> str:
    return f'<View><Video name="v" value="$video" framerate="{framerate}"/>{inside}</View>'


def tracked(attributes: str = "") -> str:
    return (
        f'<VideoRectangle name="box" toName="v" {attributes}/><Labels name="what" toName="v">'
        '<Label value="Car" predicted_values="car, truck"/><Label value="man"/></Labels>'
    )


def result_of(
    detector: FakeDetector, path: Path, inside: str, framerate: str = "25", **data: Any
) -> list[Json]:
    item = item_of(detector, path, inside, framerate, **data)
    assert "error" not in item, item
    regions: list[Json] = item["result"]
    return regions


def item_of(
    detector: FakeDetector, path: Path | str, inside: str, framerate: str = "25", **data: Any
) -> Json:
    tasks = [{"id": 1, "data": {"video": str(path), **data}}]
    [item] = predict(a_client(detector), tasks, video_config(inside, framerate))
    return item


CLASSES = {"class_names": ("car", "truck", "man")}


@pytest.mark.parametrize(("codec", "name"), [("MJPG", "a.avi"), ("mp4v", "a.mp4")])
def test_frames_are_numbered_from_one(codec: str, name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, 20, codec=codec, step=12)
    video = Video(path, framerate=25, what=name)
    seen = [(frame.number, index_of(frame.image, 12)) for frame in video.read()]
    assert seen == [(index + 1, index) for index in range(20)]
    assert (video.frames, video.duration_s) == (20, pytest.approx(0.8))
    video.close()


@pytest.mark.parametrize(
    ("fps", "framerate", "expected", "frames"),
    [
        (25, 12.5, [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)], 5),  # the picture at each frame's middle
        (25, 50, [(1, 0), (3, 1), (5, 2), (7, 3), (9, 4), (11, 5), (13, 6), (15, 7), (17, 8), (19, 9)], 20),
        (30, 25, [(1, 0), (2, 1), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 9)], 8),
    ],
)
def test_frames_are_counted_in_the_configs_rate(
    fps: float, framerate: float, expected: list[tuple[int, int]], frames: int, tmp_path: Path
) -> None:
    video = Video(write_video(tmp_path / "a.avi", 10, fps=fps), framerate=framerate, what="a.avi")
    assert [(frame.number, index_of(frame.image)) for frame in video.read()] == expected
    assert video.frames == frames
    video.close()


@pytest.mark.parametrize(
    ("written", "data", "expected"),
    [('framerate="29.97"', {}, 29.97), ('frameRate="$fps"', {"fps": 12}, 12), ("", {}, 24)],
)
def test_the_rate_is_the_configs(written: str, data: Json, expected: float) -> None:
    [control] = parse_config(
        f'<View><Video name="v" value="$video" {written}/>'
        '<TimelineLabels name="t" toName="v"><Label value="a"/></TimelineLabels></View>'
    )
    assert framerate_of(control.source, data) == expected


@pytest.mark.parametrize("rate", ["0", "-5", "fast", "$none", "nan"])
def test_a_rate_that_is_none_costs_the_task(rate: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 3)
    item = item_of(FakeDetector(**CLASSES), path, tracked(), rate)
    assert item["result"] == []
    assert item["error"]


@pytest.mark.parametrize("body", [b"", b"no video", b"#EXTM3U\nfile:///etc/passwd", b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_video_is_named(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(body)
    item = item_of(FakeDetector(**CLASSES), tmp_path / "a.mp4", tracked())
    assert item["result"] == []
    assert "no video file" in item["error"] or "no picture" in item["error"]


def test_a_track_is_complete(tmp_path: Path) -> None:
    detector = Seeing(lambda index: Found(boxes=(moving("truck", index),)), **CLASSES)
    [region] = result_of(detector, write_video(tmp_path / "a.avi", 20), tracked())
    assert (region["from_name"], region["to_name"], region["type"]) == ("box", "v", "videorectangle")
    assert (region["original_width"], region["original_height"]) == SIZE
    value = region["value"]
    assert (value["labels"], value["framesCount"], value["duration"]) == (["Car"], 20, pytest.approx(0.8))
    assert [step["frame"] for step in value["sequence"]] == list(range(1, 21))
    for step in value["sequence"]:
        assert step["x"] == pytest.approx(100 * (4 + step["frame"] - 1) / SIZE[0])
        assert (step["width"], step["rotation"]) == (pytest.approx(100 * 12 / SIZE[0]), 0)
        assert step["time"] == pytest.approx(step["frame"] / 25)
        assert step["enabled"]
    assert region["score"] == pytest.approx(0.9)


def test_a_gap_ends_what_is_shown_until_the_next_key_frame(tmp_path: Path) -> None:
    there = [*range(0, 8), *range(12, 17)]
    detector = Seeing(lambda index: Found(boxes=(moving("car", index),) if index in there else ()), **CLASSES)
    [region] = result_of(detector, write_video(tmp_path / "a.avi", 20), tracked())
    sequence = region["value"]["sequence"]
    assert [step["frame"] for step in sequence] == [index + 1 for index in there]
    assert [step["frame"] for step in sequence if not step["enabled"]] == [8, 17]


def test_two_objects_are_two_tracks_and_the_label_is_the_one_most_seen(tmp_path: Path) -> None:
    def what(index: int) -> Found:
        flickering = "man" if index % 4 == 3 else "car"
        return Found(
            boxes=(moving(flickering, index), moving("man", index, y=30), moving("unknown", index, y=2))
        )

    regions = result_of(Seeing(what, **CLASSES), write_video(tmp_path / "a.avi", 20), tracked())
    assert sorted(region["value"]["labels"] for region in regions) == [["Car"], ["man"]]
    assert len({region["id"] for region in regions}) == 2


@pytest.mark.parametrize("tracker", ["botsort", "bytetrack"])
def test_the_options_of_the_tracker_are_the_configs(tracker: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 20)
    detector = Seeing(lambda index: Found(boxes=(moving("car", index, score=0.6),)), **CLASSES)
    kind = f'model_tracker="{tracker}.yaml"'
    assert len(result_of(detector, path, tracked(kind))) == 1
    strict = f'{kind} {tracker}_new_track_thresh="0.7" {tracker}_track_high_thresh="0.65"'
    assert result_of(detector, path, tracked(strict)) == []
    # Two videos after one another, and the same one twice: whatever came before is forgotten.
    assert len(result_of(detector, path, tracked(kind))) == 1


def test_what_a_tracker_does_not_know_is_named() -> None:
    [control, _] = parse_config(
        video_config(
            tracked(
                'model_tracker="custom.yaml" botsort_speed="1" botsort_with_reid="true" botsort_track_buffer="x"'
            )
        )
    )
    said = " ".join(control.problems)
    for wrong in (
        "model_tracker='custom.yaml'",
        "botsort_speed",
        "botsort_with_reid",
        "botsort_track_buffer='x'",
    ):
        assert wrong in said
    assert control.asked.tracker == "botsort"


def test_trackers_of_two_videos_share_no_numbers() -> None:
    picture = Image.new("RGB", SIZE)
    one, other = UltralyticsTracker(Asked()), UltralyticsTracker(Asked(tracker="bytetrack"))
    for index in range(5):
        first = one.update([moving("car", index), moving("man", index, y=30)], picture)
        second = other.update([moving("car", index)], picture)
    assert sorted(number for number, _ in first) == [1, 2]
    assert [number for number, _ in second] == [1]
    assert one.update([], picture) == []


def test_the_model_is_asked_with_the_controls_own_level(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 20)
    detector = Seeing(lambda index: Found(boxes=(moving("car", index, score=0.4),)), **CLASSES)
    assert len(result_of(detector, path, tracked())) == 1
    assert (detector.looks[0].conf, detector.looks[0].iou) == (0.25, None)
    result_of(detector, path, tracked('model_conf="0.1" model_iou="0.5"'))
    assert (detector.looks[-1].conf, detector.looks[-1].iou) == (0.1, 0.5)
    assert result_of(detector, path, tracked('model_score_threshold="0.5"')) == []


def test_a_long_video_goes_through_in_batches_and_each_frame_once(tmp_path: Path) -> None:
    detector = Seeing(lambda index: Found(), **CLASSES)
    both = tracked() + tracked().replace('"box"', '"box2"').replace('"what"', '"what2"')
    assert result_of(detector, write_video(tmp_path / "a.avi", 40), both) == []
    assert detector.frames == list(range(40))


def test_a_video_without_end_in_time_gets_no_result(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 40)
    times = iter([0.0, 0.0, 0.0, 100.0])
    from concurrent.futures import ThreadPoolExecutor

    from ml_backend.plan import make_plan
    from ml_backend.predict import Predictor
    from tests.unit.ml_backend.helpers import FakeImages, weights

    detector = FakeDetector(Found(), **CLASSES)
    with ThreadPoolExecutor(1) as fetchers:
        predictor = Predictor(
            open_detector=lambda _: detector,
            images=FakeImages(),
            fetchers=fetchers,
            open_tracker=UltralyticsTracker,
            clock=lambda: next(times),
        )
        plan = make_plan(video_config(tracked()), default=weights(), threshold=0.5, named=lambda _: weights())
        [result], _ = predictor.predict([{"id": 1, "data": {"video": str(path)}}], plan, deadline=50)
    assert result.problem is not None
    assert (result.problem.reason, result.problem.passing) == ("late", True)
    assert "no time was left at frame 33" in str(result.problem)


TIMELINE = """<TimelineLabels name="t" toName="v"{}><Label value="Run" predicted_values="run,sprint"/>
<Label value="rest"/></TimelineLabels>"""


def classified(index: int) -> Found:
    """run or sprint in frames 0-4, rest in 5-9, nothing in 10-11, sprint from 12."""
    if index < 5:
        return Found(class_scores=(("run", 0.7), ("sprint", 0.9 if index % 2 else 0.1), ("rest", 0.1)))
    if index < 10:
        return Found(class_scores=(("run", 0.2), ("sprint", 0.1), ("rest", 0.8)))
    if index < 12:
        return Found(class_scores=(("run", 0.4), ("sprint", 0.3), ("rest", 0.3)))
    return Found(class_scores=(("run", 0.1), ("sprint", 0.6), ("rest", 0.2)))


def classifier() -> Seeing:
    return Seeing(classified, task="classify", class_names=("run", "sprint", "rest"))


def test_stretches_of_a_class_are_regions(tmp_path: Path) -> None:
    regions = result_of(classifier(), write_video(tmp_path / "a.avi", 20), TIMELINE.format(""))
    assert [
        (
            region["value"]["timelinelabels"],
            [(one["start"], one["end"]) for one in region["value"]["ranges"]],
            round(region["score"], 2),
        )
        for region in regions
    ] == [(["Run"], [(1, 5)], 0.78), (["rest"], [(6, 10)], 0.8), (["Run"], [(13, 20)], 0.6)]
    assert {(region["from_name"], region["to_name"], region["type"]) for region in regions} == {
        ("t", "v", "timelinelabels")
    }
    assert len({region["id"] for region in regions}) == 3


def test_stretches_are_counted_in_the_configs_rate(tmp_path: Path) -> None:
    regions = result_of(
        classifier(), write_video(tmp_path / "a.avi", 20, fps=10), TIMELINE.format(""), framerate="20"
    )
    assert [region["value"]["ranges"][0] for region in regions] == [
        {"start": 1, "end": 10},
        {"start": 11, "end": 20},
        {"start": 25, "end": 40},
    ]


def test_controls_of_videos_need_labels_and_a_video() -> None:
    [control] = parse_config(video_config('<VideoRectangle name="box" toName="v"/>'))
    assert control.labels == ()
    assert (VIDEO_RECTANGLE.media, TIMELINE_LABELS.media) == ("video", "video")


def test_a_video_that_cannot_be_had_costs_its_task_only(tmp_path: Path) -> None:
    detector = Seeing(lambda index: Found(boxes=(moving("car", index),)), **CLASSES)
    tasks = [
        {"id": 1, "data": {"video": str(tmp_path / "none.avi")}},
        {"id": 2, "data": {"video": str(write_video(tmp_path / "a.avi", 5))}},
        {"id": 3, "data": {}},
    ]
    items = predict(a_client(detector), tasks, video_config(tracked()))
    assert [len(item["result"]) for item in items] == [0, 1, 0]
    assert "no 'video'" in items[2]["error"]


def test_a_file_without_pictures_is_a_problem_of_its_task(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(write_video(tmp_path / "b.avi", 5).read_bytes()[:300])
    with pytest.raises(TaskProblem):
        list(Video(tmp_path / "a.avi", framerate=25, what="a.avi").read())
