"""What each control is shown on in the pictures of the README: a labeling config, and a drawn picture or video."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from demo.pictures import draw_picture
from demo.plain_pictures import Shape, draw_plain, outline_of, paint

File = tuple[str, bytes]
_FRAMERATE = 24.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """`make` gives a file's name and bytes."""

    config: str
    make: Callable[[], File]
    is_video: bool = False
    show_labels: bool = True


def _label(value: str, colour: str, more: str = "") -> str:
    return f'<Label value="{value}" background="{colour}" {more}/>'


_PINK, _GREEN, _BLUE, _BROWN = "#e6007e", "#0a7d32", "#1d4ed8", "#b45309"
_SHAPES = _label("circle", _PINK) + _label("square", _GREEN) + _label("triangle", _BLUE)
_DISC_BAR = _label("disc", _PINK) + _label("bar", _GREEN)
_STRETCHES = _DISC_BAR + _label("arrow", _BLUE)
_TIPS = "".join(
    _label(name, colour, f'model_index="{number}"')
    for number, (name, colour) in enumerate((("tip", _PINK), ("left", _GREEN), ("right", _BLUE)))
)
_CHOICES = "".join(f'<Choice value="{name}"/>' for name in ("arrow", "bar", "disc"))
_TREE = """<Choice value="round"><Choice value="disc"/></Choice>
<Choice value="straight"><Choice value="bar"/><Choice value="arrow"/></Choice>"""
_IMAGE = '<Image name="image" value="$image" maxWidth="480px"/>'


def _png(image: Image.Image) -> File:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "picture.png", file.getvalue()


def _plain(seed: int, *names: str, most: int = 2) -> Callable[[], File]:
    return lambda: _png(draw_plain(seed, 480, names=names, most=most).image)


def _video(frames: Iterable[Image.Image]) -> File:
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.webm"
        writer = None
        for frame in frames:
            writer = writer or cv2.VideoWriter(
                str(path), cv2.VideoWriter.fourcc(*"VP80"), _FRAMERATE, frame.size
            )
            writer.write(np.asarray(frame)[..., ::-1].copy())
        assert writer is not None
        writer.release()
        return path.name, path.read_bytes()


def _moving() -> File:
    """A disc and a square that pass each other."""
    ground = draw_picture(40_000_010, (640, 480), shapes=0).image
    frames = []
    for step in range(33):
        share = step / 32
        disc = Shape(name="circle", outline=outline_of("disc", (130 + 200 * share, 150), 150, 0))
        x, y, half = 470 - 220 * share, 355, 62
        corners = ((x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half))
        square = Shape(name="square", outline=corners)
        frames.append(paint(paint(ground, disc, (240, 220, 60)), square, (40, 40, 120)))
    return _video(frames)


def _stretches() -> File:
    """A disc, then an arrow, then a bar."""
    frames: list[Image.Image] = []
    for seed, count in ((40_000_003, 12), (40_000_001, 9), (40_000_002, 11)):
        frames += [draw_plain(seed, 480, most=1).image] * count
    return _video(frames)


def _on_image(control: str) -> str:
    return f"<View>{control}{_IMAGE}</View>"


def _below_image(control: str) -> str:
    return f"<View>{_IMAGE}{control}</View>"


CASES = {
    "rectangle-labels": Case(
        config=f'<View><RectangleLabels name="label" toName="image">{_SHAPES}</RectangleLabels>'
        '<Image name="image" value="$image"/></View>',
        make=lambda: _png(draw_picture(40_000_000).image),
    ),
    "rectangle-labels-obb": Case(
        config=_on_image(
            '<RectangleLabels name="label" toName="image" model_obb="true" model_path="demo-obb.pt">'
            f"{_label('bar', _PINK)}</RectangleLabels>"
        ),
        make=_plain(40_000_144, "bar"),
    ),
    "polygon-labels": Case(
        config=_on_image(
            f'<PolygonLabels name="label" toName="image" model_path="demo-seg.pt">{_DISC_BAR}</PolygonLabels>'
        ),
        make=_plain(40_000_050, "disc", "bar"),
    ),
    "brush-labels": Case(
        config=_on_image(
            f'<BrushLabels name="label" toName="image" model_path="demo-seg.pt">{_DISC_BAR}</BrushLabels>'
        ),
        make=_plain(40_000_050, "disc", "bar"),
    ),
    "keypoint-labels": Case(
        config=_on_image(
            '<KeyPointLabels name="kp" toName="image" model_path="demo-pose.pt" model_score_threshold="0.3">'
            f'{_TIPS}</KeyPointLabels><RectangleLabels name="kp_bbox" toName="image" model_skip="true">'
            f"{_label('arrow', _BROWN)}</RectangleLabels>"
        ),
        make=_plain(40_000_266, "arrow", most=1),
        show_labels=False,  # they would hide the points
    ),
    "choices": Case(
        config=_below_image(
            '<Choices name="choice" toName="image" model_path="demo-cls.pt" showInline="true">'
            f"{_CHOICES}</Choices>"
        ),
        make=_plain(40_000_003, "disc", "bar", "arrow", most=1),
    ),
    "taxonomy": Case(
        config=_below_image(
            '<Taxonomy name="kind" toName="image" showFullPath="true" model_path="demo-cls.pt">'
            f"{_TREE}</Taxonomy>"
        ),
        make=_plain(40_000_002, "disc", "bar", "arrow", most=1),
    ),
    "video-rectangle": Case(
        config=f'<View><Labels name="label" toName="video">{_SHAPES}</Labels>'
        '<Video name="video" value="$video" framerate="24" height="360"/>'
        '<VideoRectangle name="box" toName="video"/></View>',
        make=_moving,
        is_video=True,
    ),
    "timeline-labels": Case(
        config=f'<View><TimelineLabels name="label" toName="video" model_path="demo-cls.pt">{_STRETCHES}'
        '</TimelineLabels><Video name="video" value="$video" framerate="24" height="300" timelineHeight="120"/></View>',
        make=_stretches,
        is_video=True,
    ),
}
