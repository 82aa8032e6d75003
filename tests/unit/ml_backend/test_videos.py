"""Videos: frames as Label Studio counts them, tracks with gaps, stretches of a class, and files that are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from ml_backend.timings import Spent, Timing
from ml_backend.tracking import UltralyticsTracker
from ml_backend.video import Frame, Video
from ml_backend.videos import _read
from tests.unit.ml_backend.helpers import FakeDetector, FakeInferences, a_client, predict

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
        (25, 12.5, [(1, 0), (2, 2), (3, 4), (4, 6), (5, 8)], 5),  # the picture at each frame's start
        (25, 5, [(1, 0), (2, 5)], 2),
        (25, 4, [(1, 0), (2, 6)], 2),  # 1.6 frames: Label Studio rounds
        (25, 1, [(1, 0)], 1),  # never less than one
        (25, 50, [(1, 0), (3, 1), (5, 2), (7, 3), (9, 4), (11, 5), (13, 6), (15, 7), (17, 8), (19, 9)], 20),
        (
            30,
            25,
            [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 6), (7, 7), (8, 8)],
            8,
        ),  # 8.3: there is no frame 9
        (29.97, 29.97, [(index + 1, index) for index in range(10)], 10),
    ],
)
def test_frames_are_counted_in_the_configs_rate(
    fps: float, framerate: float, expected: list[tuple[int, int]], frames: int, tmp_path: Path
) -> None:
    video = Video(write_video(tmp_path / "a.avi", 10, fps=fps), framerate=framerate, what="a.avi")
    assert [(frame.number, index_of(frame.image)) for frame in video.read()] == expected
    assert video.frames == frames
    video.close()


def uneven(path: Path, lasts_ms: Sequence[int]) -> Path:
    """An MP4 whose picture k is shown for so many ms: only its table of times (stts) and its lengths are written anew."""
    body = write_video(path, len(lasts_ms), fps=25, codec="mp4v", step=12).read_bytes()
    scale = int.from_bytes(body[(at := body.index(b"mdhd") + 16) : at + 4], "big")
    ticks = [last * scale // 1000 for last in lasts_ms]

    def rewritten(boxes: bytes) -> bytes:
        out = b""
        while boxes:
            size = int.from_bytes(boxes[:4], "big")
            name, inside, boxes = boxes[4:8], boxes[8:size], boxes[size:]
            if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                inside = rewritten(inside)
            elif name == b"mdhd":
                inside = inside[:16] + sum(ticks).to_bytes(4, "big") + inside[20:]
            elif name == b"edts":  # would cut it to its former length
                name = b"free"
            elif name == b"stts":
                entries = b"".join((1).to_bytes(4, "big") + tick.to_bytes(4, "big") for tick in ticks)
                inside = bytes(4) + len(ticks).to_bytes(4, "big") + entries
            out += (len(inside) + 8).to_bytes(4, "big") + name + inside
        return out

    assert body.index(b"mdat") < body.index(b"moov")  # so that the pictures stay where they are
    path.write_bytes(rewritten(body))
    return path


def test_a_video_of_varying_frame_rate_has_its_pictures_when_they_are_shown(tmp_path: Path) -> None:
    lasts_ms = (
        [40] * 5 + [400] + [40] * 5 + [1000] + [40] * 3
    )  # as of a screen that stands still now and then
    starts_ms = np.cumsum([0, *lasts_ms])
    video = Video(uneven(tmp_path / "a.mp4", lasts_ms), framerate=25, what="a.mp4")
    seen = {frame.number: index_of(frame.image, 12) for frame in video.read()}
    assert seen == {int(start) // 40 + 1: index for index, start in enumerate(starts_ms[:-1])}
    assert video.frames == pytest.approx(
        starts_ms[-1] / 40, abs=3
    )  # the last picture's own length is not told
    video.close()


def test_a_file_that_tells_wild_times_costs_no_time(tmp_path: Path) -> None:
    path = uneven(tmp_path / "a.mp4", [40] * 5 + [30_000_000] * 5)  # pictures that stay for eight hours
    video = Video(path, framerate=1000, what="a.mp4")
    assert [index_of(frame.image, 12) for frame in video.read()] == list(range(10))
    video.close()


@pytest.mark.parametrize(
    ("written", "data", "expected"),
    [
        ('framerate="29.97"', {}, 29.97),
        ('frameRate="$fps"', {"fps": 12}, 12),
        ('framerate="$fps"', {"fps": "12.5"}, 12.5),
        ("", {}, 24),
        ('framerate="0.04"', {}, 25),  # seconds a frame
        # Label Studio shows the task all the same, at 24.
        *((f'framerate="{rate}"', {"empty": ""}, 24) for rate in ("0", "fast", "$none", "nan", "$empty")),
    ],
)
def test_the_rate_is_the_configs(written: str, data: Json, expected: float) -> None:
    [control] = parse_config(
        f'<View><Video name="v" value="$video" {written}/>'
        '<TimelineLabels name="t" toName="v"><Label value="a"/></TimelineLabels></View>'
    )
    assert framerate_of(control.source, data) == expected


@pytest.mark.parametrize("rate", ["-5", "inf", "100000", "0.00001"])
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


def test_times_are_those_of_label_studios_frames_whatever_the_files_rate_is(tmp_path: Path) -> None:
    detector = Seeing(lambda index: Found(boxes=(moving("car", index),)), **CLASSES)
    [region] = result_of(detector, write_video(tmp_path / "a.avi", 20, fps=30), tracked(), framerate="24")
    assert [step["time"] for step in region["value"]["sequence"]] == [
        step["frame"] / 24 for step in region["value"]["sequence"]
    ]


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


def test_a_video_of_giant_frames_is_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 3)
    with pytest.raises(TaskProblem, match="frames of 64x48 pixels") as caught:
        Video(path, framerate=25, what="a.avi", most_pixels=64 * 48 - 1)
    assert (caught.value.reason, caught.value.passing) == ("too_large", False)
    Video(path, framerate=25, what="a.avi", most_pixels=64 * 48).close()


def test_large_frames_go_through_in_smaller_batches() -> None:
    frames = iter([Frame(number=number, image=Image.new("L", (8000, 4000))) for number in range(1, 6)])
    assert [len(_read(frames, Spent())) for _ in range(4)] == [2, 2, 1, 0]


def test_the_record_of_a_video_says_where_the_time_went(tmp_path: Path) -> None:
    class Timed(Seeing):
        def predict(self, images: Sequence[Image.Image], *, look: Look) -> list[Found]:
            timing = Timing(queue_s=0.0, inference_s=0.01, batch=len(images), engine="torch")
            time.sleep(0.01)
            return [replace(found, timing=timing) for found in super().predict(images, look=look)]

    inferences = FakeInferences([])
    client = a_client(
        Timed(lambda index: Found(boxes=(moving("car", index),)), **CLASSES), inferences=inferences
    )
    path = write_video(tmp_path / "a.avi", 20)
    predict(client, [{"id": 1, "data": {"video": str(path)}}], video_config(tracked()))
    [(_, [record])] = inferences.kept
    timing = record["timing"]
    assert (timing["batch"], timing["engines"]) == (16, ("torch",))
    assert timing["inference_s"] >= 0.02  # two batches
    assert timing["decode_s"] > 0
    assert timing["encode_s"] > 0
    text = client.get("/metrics").text
    [encoded] = [line for line in text.splitlines() if line.startswith("ml_backend_encode_seconds_sum")]
    assert float(encoded.split()[1]) == pytest.approx(timing["encode_s"], rel=0.5)
