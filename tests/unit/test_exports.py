"""Exports, decided: formats and what they need, identity, which regions fit where, names, the shape of tasks."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SenderError
from bridge.export_manifest import Baseline, Counts, File, Manifest, manifest_bytes
from bridge.export_pictures import categories, entry_number, refs_of, split
from bridge.export_rows import cells_of
from bridge.export_shapes import ImageRef, LeftOut, Shape, shapes_of, sizes_of
from bridge.export_tasks import (
    Contents,
    Names,
    annotation_json,
    contents_of,
    image_name,
    shown_address,
    task_json,
    to_line,
    upload_name,
)
from bridge.exports import (
    FORMATS,
    Order,
    check_fits,
    find_format,
    format_names,
    parse_cron,
    uid_of_export,
)
from bridge.labeling import Config, parse_config
from bridge.state import State, Thing, fold
from tests.fakes import gone, record

CONFIG = parse_config(
    """<View><Image name="image" value="$image"/><Text name="caption" value="$caption"/>
    <RectangleLabels name="box" toName="image"><Label value="Cat"/><Label value="Dog" alias="D"/></RectangleLabels>
    <PolygonLabels name="poly" toName="image"><Label value="Tree" category="7"/></PolygonLabels>
    <Rectangle name="bare" toName="image"/><Labels name="kind" toName="image"><Label value="Car"/></Labels>
    <Choices name="light" toName="image"><Choice value="day"/></Choices>
    <Labels name="ner" toName="caption"><Label value="Name"/></Labels>
    <TextArea name="note" toName="image"/></View>"""
)
SIZE = {"original_width": 200, "original_height": 100}


def box(**value: Any) -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Cat"]} | value
    return {
        "id": "r",
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
        "value": value,
    } | SIZE


def polygon(*points: list[float]) -> dict[str, Any]:
    value = {"points": list(points), "polygonlabels": ["Tree"]}
    return {
        "id": "p",
        "from_name": "poly",
        "to_name": "image",
        "type": "polygonlabels",
        "value": value,
    } | SIZE


def placed(
    *entries: Any, format: str = "COCO", sizes: dict[ImageRef, tuple[float, float]] | None = None
) -> tuple[list[Shape], list[LeftOut]]:
    said = find_format(format)
    return shapes_of(
        {"id": 5, "task": 2, "result": list(entries)},
        CONFIG,
        sizes or {},
        holds=said.holds,
        whole_pixels=said.whole_pixels,
        format=format,
    )


# --- formats


def test_an_unknown_format_names_the_known() -> None:
    with pytest.raises(SenderError, match="JSON, CSV, COCO, VOC"):
        find_format("YOLO")
    assert find_format(" coco ").name == "COCO"


NEEDS = [
    ("COCO", ["RectangleLabels"], True),
    ("COCO", ["PolygonLabels"], True),
    ("COCO", ["Labels", "Polygon"], True),
    ("COCO", ["Labels"], False),  # nothing to draw with
    ("COCO", ["KeyPointLabels", "Choices"], False),
    ("VOC", ["PolygonLabels"], False),
    ("VOC", ["Rectangle", "Labels"], True),
    ("JSON", ["Choices"], True),
    ("CSV", [], True),
]


@pytest.mark.parametrize(("format", "tags", "fits"), NEEDS)
def test_a_format_that_does_not_fit_the_controls_says_which_it_needs(
    format: str, tags: list[str], fits: bool
) -> None:
    controls = "".join(f'<{tag} name="{tag}" toName="image"/>' for tag in tags)
    config = parse_config(f'<View><Image name="image" value="$image"/>{controls}</View>')
    if fits:
        check_fits(FORMATS[format], config)
        return
    with pytest.raises(SenderError, match="needs <RectangleLabels>") as told:
        check_fits(FORMATS[format], config)
    assert all(f"<{tag}>" in str(told.value) for tag in tags)
    assert "JSON" in str(told.value)


def test_boxes_on_a_video_do_not_fit_pictures() -> None:
    config = parse_config(
        '<View><Video name="v" value="$video"/><RectangleLabels name="b" toName="v"><Label value="a"/></RectangleLabels></View>'
    )
    with pytest.raises(SenderError, match="on an <Image>"):
        check_fits(FORMATS["COCO"], config)


def test_a_list_of_formats_is_read_and_refused_as_a_whole() -> None:
    assert format_names("json, coco ,JSON") == "JSON,COCO"
    for wrong in ("", ",", "JSON,YOLO"):
        with pytest.raises(ValueError, match="JSON, CSV, COCO, VOC"):
            format_names(wrong)


@pytest.mark.parametrize("line", ["0 3 * * *", "*/10 * * * *", "0,30 8-18 * * 1-5", "5 4 1 */2 7"])
def test_cron_lines_are_taken(line: str) -> None:
    assert parse_cron(f"  {line} ") == line


@pytest.mark.parametrize(
    "line", ["", "0 3 * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "@daily", "a b c d e"]
)
def test_wrong_cron_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"minute|hour|day|month"):
        parse_cron(line)


# --- identity


def order(**changes: Any) -> Order:
    fields = {
        "uid": "3.1795312966",
        "format": "COCO",
        "tasks": "all",
        "source_key": "k",
        "position": 1795312966123,
    }
    return Order(**(fields | changes))


def test_an_id_is_a_function_of_everything_an_export_is_made_of() -> None:
    ids = {
        one.id
        for one in (
            order(),
            order(format="VOC"),
            order(tasks="annotated"),
            order(source_key="l"),
            order(uid="4.1795312966"),
        )
    }
    assert len(ids) == 5
    assert order().id == order().id
    assert uid_of_export(order().id) == "3.1795312966"
    assert order(position=1795312966122).id < order().id
    assert Order.from_json(json.loads(json.dumps(order().to_json()))) == order()


@pytest.mark.parametrize("wrong", ["", "manifest.json", "../x", "3-1-2-coco-zz", "3.1795312966"])
def test_what_is_no_id_of_an_export_is_refused(wrong: str) -> None:
    with pytest.raises(SenderError, match="export list"):
        uid_of_export(wrong)


def test_a_manifest_is_read_back_as_it_was_written() -> None:
    manifest = Manifest(
        export_id=order().id,
        project={"id": 3, "title": "half an emoji \ud83d"},
        format="COCO",
        options={"tasks": "all"},
        files=(File(name="a", key="k/a", size_bytes=1, sha256="0", content_type="t"),),
        counts=Counts(tasks=1, regions_left_out={"why": 2}),
        source={"log_key": "k"},
        baseline=Baseline(complete=False, done=1, total=3),
        created_at="2026-11-22T00:00:00.000000Z",
        label_config="<View/>",
        model_versions={"v": 1},
        annotators={"1": "a@example.com"},
        content_sha256="0",
        made_with={},
    )
    body = json.loads(manifest_bytes(manifest))
    assert body["baseline"]["text"].startswith("1 of 3 tasks")
    assert Manifest.from_json(body) == manifest


# --- shapes: what is left out, and why


LEFT_OUT = [
    ("no region", "it is no region"),
    ({"type": "relation", "from_id": "a", "to_id": "b"}, "COCO has no relations between regions"),
    (box() | {"value": None}, "it has no value"),
    (box() | {"from_name": "gone"}, "the labeling config has no control 'gone'"),
    (box() | {"to_name": "caption"}, "it is not on a picture"),
    (box(rectanglelabels=[]), "it has no label"),
    (
        box() | {"original_width": None},
        "nothing says the size of its picture (original_width, original_height)",
    ),
    (box() | {"original_width": 0}, "nothing says the size of its picture (original_width, original_height)"),
    (box(width=0), "it has no area"),  # the converter divides by it when it is turned
    (box(height=-1), "it has no area"),
    (box(x="10"), "its coordinates are no numbers"),
    (box(y=math.nan), "its coordinates are no numbers"),
    (box(rotation=math.inf), "its coordinates are no numbers"),
    (polygon([1, 1], [2, 2]), "it has fewer than three points"),
    (polygon([1, 1], [2, 2], [3]), "its coordinates are no numbers"),
    (box(radiusX=3), "COCO does not hold an ellipse"),
    (box(keypointlabels=["a"]), "COCO does not hold a key point"),
    (box(rle=[1]), "COCO does not hold a brush mask"),
    (box(text=["a"]), "COCO does not hold a text"),  # what a person read in a box
    (box(choices=["day"]), "COCO does not hold a choice"),
]


@pytest.mark.parametrize(("entry", "reason"), LEFT_OUT, ids=[reason for _, reason in LEFT_OUT])
def test_what_does_not_fit_is_left_out_with_its_reason(entry: Any, reason: str) -> None:
    shapes, out = placed(entry)
    assert (shapes, [line.reason for line in out]) == ([], [reason])
    assert (out[0].task, out[0].annotation) == (2, 5)


def test_voc_holds_neither_polygons_nor_what_is_smaller_than_a_pixel() -> None:
    _, out = placed(polygon([1, 1], [2, 2], [3, 1]), box(width=0.4), box(width=0.5, height=1), format="VOC")
    assert [line.reason for line in out] == ["VOC does not hold a polygon", "it is smaller than one pixel"]


def test_a_region_without_the_pictures_size_takes_it_from_another() -> None:
    bare = {name: value for name, value in box().items() if not name.startswith("original")}
    sizes = sizes_of([bare, {"to_name": "image", **SIZE}], CONFIG)
    ((shape,), out) = placed(bare, sizes=sizes)
    assert (shape.size_px, out) == ((200, 100), [])


def test_every_label_of_a_region_goes_into_the_output() -> None:
    ((shape,), _) = placed(box(rectanglelabels=["Cat", "D", "Cat"]))
    assert shape.labels == ("Cat", "D")


def test_a_rectangle_whose_label_is_another_entry_is_one_shape_of_two() -> None:
    geometry = {"x": 1, "y": 2, "width": 3, "height": 4}
    bare = {"id": "a", "from_name": "bare", "to_name": "image", "type": "rectangle", "value": geometry} | SIZE
    named = {
        "id": "a",
        "from_name": "kind",
        "to_name": "image",
        "type": "labels",
        "value": {"labels": ["Car"]},
    }
    ((shape,), out) = placed(bare, named | SIZE)
    assert (shape.value, shape.labels, shape.entries, out) == (geometry, ("Car",), 2, [])
    shapes, out = placed(bare)
    assert (shapes, [line.reason for line in out]) == ([], ["it has no label"])


def test_a_rectangle_turned_by_a_quarter_stands_upright_beside_its_corner() -> None:
    # 60 by 40 px at (20, 20) of a picture of 200 by 100; a quarter clockwise about its upper left corner.
    ((shape,), _) = placed(box(rotation=90))
    found = {name: round(value, 9) for name, value in shape.value.items()}
    assert found == {"x": -10.0, "y": 20.0, "width": 20.0, "height": 60.0}
    assert shape.changed


@given(st.floats(-720, 720), st.floats(1, 50), st.floats(1, 50))
def test_the_upright_box_holds_all_corners_and_is_no_larger_than_needed(
    rotation: float, width: float, height: float
) -> None:
    shapes, _ = placed(box(rotation=rotation, width=width, height=height))
    value = shapes[0].value
    across, down = value["width"] * 2, value["height"]  # px of a picture of 200 by 100
    diagonal = math.hypot(width * 2, height)
    assert across <= diagonal + 1e-6
    assert down <= diagonal + 1e-6
    assert across * down >= width * 2 * height - 1e-6


# --- rows


def test_what_a_table_cannot_hold_is_left_out_with_its_reason() -> None:
    entries = [
        box(),
        {"type": "relation"},
        {"from_name": "light", "value": {}},
        {"from_name": "light", "value": {"choices": ["day"]}},
        {"from_name": "gone", "value": {"a": 1}},
        {"from_name": "note"},
        7,
    ]
    kept, columns, out = cells_of({"id": 1, "task": 1, "result": entries}, CONFIG)
    assert kept == [entries[0], entries[3]]
    assert columns == {"box": "Region", "light": "Choices"}
    assert len(out) == 5


def test_without_any_control_every_named_region_is_kept() -> None:
    kept, columns, _ = cells_of({"result": [{"from_name": "x", "value": {"a": 1}}]}, Config())
    assert (len(kept), columns) == (1, {"x": "Region"})


# --- categories, names


def test_categories_are_the_labels_of_boxes_with_ids_that_no_other_has() -> None:
    assert categories(CONFIG, []) == {"Tree": 7, "Car": 0, "Cat": 1, "D": 2}
    assert categories(CONFIG, ["Zoo", "Cat"]) == {"Tree": 7, "Car": 0, "Cat": 1, "D": 2, "Zoo": 3}
    twice = parse_config(
        '<View><Image name="i" value="$i"/><RectangleLabels name="b" toName="i">'
        '<Label value="x" category="1"/><Label value="y" category="1"/></RectangleLabels></View>'
    )
    assert categories(twice, []) == {"x": 1, "y": 0}


NAMES = [
    ("s3://bucket/a/b c#1?.png", "b c#1.png"),  # a key: every character is itself; "?" fits no file system
    ("/data/upload/4/cea5609f-%C3%89toile_1.PNG", "cea5609f-Étoile_1.PNG"),
    ("/data/local-files/?d=set/one%20two.jpg", "one two.jpg"),
    ("https://host/x/y.jpg?token=secret", "y.jpg"),
    ("https://host/", ""),
    ("data:image/png;base64,AAAA", ""),
    ("", ""),
    ("s3://b/" + "é" * 300 + ".png", "é" * 98 + ".png"),
    ("https://host/%2e%2e%2f..", ""),
]


@pytest.mark.parametrize(("address", "name"), NAMES)
def test_a_picture_keeps_its_own_name(address: str, name: str) -> None:
    assert image_name(address) == name


@given(st.text())
def test_a_name_is_fit_for_a_file_system(text: str) -> None:
    for address in (text, f"s3://b/{text}", f"https://h/{text}"):
        name = image_name(address)
        assert "/" not in name
        assert name not in (".", "..")
        assert len(name.encode(errors="replace")) <= 200


def test_keys_in_an_address_are_not_shown() -> None:
    assert shown_address("https://me:secret@host/x.png?token=secret") == "https://host/x.png"
    assert shown_address("s3://bucket/x.png") == "s3://bucket/x.png"


def contents(state: State, *, all_tasks: bool = True) -> Contents:
    return contents_of(state, all_tasks=all_tasks)


def test_pictures_with_one_name_are_told_apart_by_their_tasks() -> None:
    images = {"1": "s3://a/x.png", "2": "s3://b/X.jpg", "3": "s3://b/y.png", "4": "data:image/png;base64,AA"}
    found = contents(fold(record("task", id, data={"image": image}) for id, image in images.items()))
    refs = {task.data["id"]: refs_of(task, CONFIG) for task in found.tasks}
    names = Names(found, refs)
    given_names = [names.give(task, refs[task.data["id"]][0]) for task in found.tasks]
    assert given_names == ["task-1-x.png", "task-2-X.jpg", "y.png", "task-4.jpg"]


# --- tasks


def test_a_task_has_the_shape_of_label_studios_export() -> None:
    state = fold(
        [
            record("task", "1", data={"image": "a"}, updated_by=[{"user_id": 4}], overlap=1, project=2),
            record("task", "2", data={"image": "b"}),
            record(
                "annotation", "7", task=1, result=[box(), box(), {"type": "relation"}], task_created_at="x"
            ),
            record("annotation", "8", task=1, result=[], was_cancelled=True),
            record("annotation", "9", task=1, result=[]),
            gone("annotation", "9", received=20),
            record("annotation", "10", task=99, result=[box()]),
            record("prediction", "3", task=1, result=[]),
        ]
    )
    annotated = contents(state, all_tasks=False)
    assert [task.data["id"] for task in annotated.tasks] == [1]
    assert [one.data["id"] for one in annotated.homeless] == [10]
    whole = task_json(annotated.tasks[0], annotated)
    assert (whole["total_annotations"], whole["cancelled_annotations"], whole["predictions"]) == (1, 1, [3])
    assert (whole["updated_by"], whole["meta"]) == (4, {})
    assert "overlap" not in whole
    assert "file_upload" not in whole
    assert whole["annotations"][0]["result_count"] == 2
    assert "task_created_at" not in whole["annotations"][0]
    assert [task.data["id"] for task in contents(state).tasks] == [1, 2]


def test_an_upload_is_called_by_its_file() -> None:
    assert upload_name({"file_upload": "upload/4/ab-x.png"}) == "ab-x.png"
    assert upload_name({"file_upload": 12, "data": {"image": "/data/upload/4/ab-%C3%89.png"}}) == "ab-É.png"
    assert upload_name({"file_upload": 12, "data": {"text": "x"}}) is None
    assert upload_name({}) is None


def test_half_an_emoji_can_be_written() -> None:
    assert json.loads(to_line({"a": "\ud83d"}).encode()) == {"a": "\ud83d"}


# --- taking a task apart


def test_a_task_is_taken_apart_into_an_entry_for_each_annotation_that_was_not_skipped() -> None:
    state = fold(
        [
            record("task", "1", data={"image": "s3://b/a.png"}),
            record(
                "annotation",
                "7",
                task=1,
                result=[box(rectanglelabels=["Cat", "D"]), polygon([1, 1], [2, 2], [3, 1])],
            ),
            record("annotation", "8", task=1, result=[box()], was_cancelled=True),
            record("annotation", "9", task=1, result=[]),
        ]
    )
    found = contents(state)
    whole = task_json(found.tasks[0], found)
    taken = split(found.tasks[0], whole, found, CONFIG, FORMATS["COCO"], 10)
    assert [(one.number, one.annotation, one.objects) for one in taken.entries] == [(10, 7, 3), (11, 9, 0)]
    # A picture on which a person found nothing has the size that another annotation tells.
    assert taken.entries[1].size_px == (200, 100)
    assert [line.reason for line in taken.out] == ["its annotation was skipped", "it was skipped"]
    assert entry_number("images/912af149__" + taken.entries[0].to_json()["data"]["image"]) == 10
    voc = split(found.tasks[0], whole, found, CONFIG, FORMATS["VOC"], 0)
    assert "it has no rectangle to write a file for" in [line.reason for line in voc.out]


def test_several_pictures_of_a_task_are_entries_of_their_own() -> None:
    config = parse_config(
        '<View><Image name="i" valueList="$pages"/><RectangleLabels name="b" toName="i"><Label value="Cat"/>'
        "</RectangleLabels></View>"
    )
    second = box() | {"from_name": "b", "to_name": "i", "item_index": 1}
    task: Thing = next(fold([record("task", "1", data={"pages": ["x.png", "y.png"]})]).alive("task"))
    assert refs_of(task, config) == [ImageRef(data_key="pages"), ImageRef(data_key="pages", index=1)]
    shapes, _ = shapes_of(
        {"result": [second]}, config, {}, holds=FORMATS["VOC"].holds, whole_pixels=True, format="VOC"
    )
    assert shapes[0].image == ImageRef(data_key="pages", index=1)


def test_a_control_inside_a_repeater_is_found_by_its_counter() -> None:
    config = parse_config(
        '<View><Repeater on="$pages" indexFlag="{{idx}}"><Image name="page_{{idx}}" value="$pages[{{idx}}].page"/>'
        '<RectangleLabels name="box_{{idx}}" toName="page_{{idx}}"><Label value="a"/></RectangleLabels></Repeater></View>'
    )
    control = config.control("box_12")
    assert control is not None
    assert control.name == "box_{{idx}}"
    assert config.control("other_1") is None


def test_an_annotation_known_by_the_api_alone_is_filled_up() -> None:
    thing = next(fold([record("annotation", "1", task=1, result=None)]).alive("annotation"))
    found = annotation_json(thing)
    assert (found["prediction"], found["bulk_created"], found["result_count"]) == ({}, False, 0)
