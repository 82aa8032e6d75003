"""The zoo: every kind of image that people have, and what a browser would show of it."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ml_backend.decode import LARGEST_SIDE_PX, Reducible, _Room, decode
from ml_backend.problems import TaskProblem
from tests.unit.ml_backend.helpers import image_bytes

MILLION = 1_000_000


def load(  # type: ignore[no-untyped-def]
    body: bytes, max_pixels: int = 100 * MILLION, reducible: Reducible | None = None
):
    return decode(body, max_pixels=max_pixels, what="a.jpg", reducible=reducible)


def halves(mode: str, left: object, right: object, size: tuple[int, int] = (40, 20)) -> Image.Image:
    image = Image.new(mode, size, left)  # type: ignore[arg-type]
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))  # type: ignore[arg-type]
    return image


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image_bytes(halves("RGB", (255, 0, 0), (0, 0, 255)), "JPEG", exif=exif.tobytes(), quality=95)


def colours(image: Image.Image, *points: tuple[int, int]) -> list[tuple[int, ...]]:
    # JPEG and WebP keep colours to within a few steps.
    found = [image.getpixel(point) for point in points]
    return [tuple(round(value / 16) * 16 for value in pixel) for pixel in found]  # type: ignore[union-attr]


RED, BLUE, WHITE = (256, 0, 0), (0, 0, 256), (256, 256, 256)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_ordinary_files_load(format: str) -> None:
    loaded = load(image_bytes(halves("RGB", (255, 0, 0), (0, 0, 255)), format))
    assert (loaded.width, loaded.height, loaded.image.mode) == (40, 20, "RGB")
    assert colours(loaded.image, (5, 10), (35, 10)) == [RED, BLUE]


@pytest.mark.parametrize(
    ("orientation", "size", "first", "last"),
    [
        (1, (40, 20), RED, BLUE),
        (3, (40, 20), BLUE, RED),  # upside down
        (6, (20, 40), RED, BLUE),  # a quarter to the right: left becomes top
        (8, (20, 40), BLUE, RED),  # a quarter to the left
    ],
)
def test_a_rotated_photo_has_the_size_and_place_of_what_is_displayed(
    orientation: int, size: tuple[int, int], first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    loaded = load(with_orientation(orientation))
    assert (loaded.width, loaded.height) == size == loaded.image.size
    assert colours(loaded.image, (4, 4), (size[0] - 5, size[1] - 5)) == [first, last]


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_what_browsers_do_not_turn_is_not_turned(format: str) -> None:
    """Chromium 156 shows 40x20 for an orientation that only XMP tells, and for every WebP."""
    image = halves("RGB", (255, 0, 0), (0, 0, 255))
    options: dict[str, Any] = {"xmp": XMP}
    if format == "PNG":
        told = PngImagePlugin.PngInfo()
        told.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = {"pnginfo": told}
    if format == "WEBP":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif.tobytes()
    loaded = load(image_bytes(image, format, **options))
    assert (loaded.width, loaded.height) == loaded.image.size == (40, 20)


@pytest.mark.filterwarnings("ignore:.*EXIF")  # Pillow warns of it
def test_a_broken_exif_block_costs_only_the_rotation() -> None:
    body = image_bytes(Image.new("RGB", (40, 20)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert load(body).width == 40


def test_grey_has_three_channels() -> None:
    assert colours(load(image_bytes(halves("L", 0, 255), "PNG")).image, (5, 5), (35, 5)) == [(0, 0, 0), WHITE]


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    grey = np.asarray(load(image_bytes(Image.fromarray(values), "PNG")).image)[..., 0]
    assert grey.ravel().tolist() == list(range(256))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_depths_are_stretched_to_what_is_there(dtype: type) -> None:
    values = (np.linspace(-3, 200_000, 64)).astype(dtype).reshape(8, 8)
    grey = np.asarray(load(image_bytes(Image.fromarray(values), "TIFF")).image)[..., 0]
    assert (grey.min(), grey.max()) == (0, 255)


def test_a_deep_image_of_one_value_is_black() -> None:
    flat = Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32))
    assert np.asarray(load(image_bytes(flat, "TIFF")).image).max() == 0


@pytest.mark.parametrize(
    ("mode", "left", "right"), [("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)), ("LA", (0, 255), (0, 0))]
)
def test_transparent_parts_are_white(mode: str, left: object, right: object) -> None:
    first, second = colours(load(image_bytes(halves(mode, left, right), "PNG")).image, (5, 5), (35, 5))
    assert first in (RED, (0, 0, 0))
    assert second == WHITE


def test_a_palette_with_a_transparent_colour_is_white_there() -> None:
    image = halves("P", 0, 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    body = image_bytes(image, "PNG", transparency=1)
    assert colours(load(body).image, (5, 5), (35, 5)) == [RED, WHITE]


def test_cmyk_is_converted_and_of_an_animation_the_first_frame_counts() -> None:
    assert load(image_bytes(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG")).image.getpixel((1, 1)) == (
        0,
        0,
        0,
    )
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    body = image_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colours(load(body).image, (1, 1)) == [RED]


def test_a_large_image_is_reduced_but_keeps_its_size_in_words() -> None:
    loaded = load(image_bytes(Image.new("L", (LARGEST_SIDE_PX * 2, 100)), "PNG"))
    assert loaded.image.size == (LARGEST_SIDE_PX, 50)
    assert (loaded.width, loaded.height) == (LARGEST_SIDE_PX * 2, 100)


def test_more_pixels_than_allowed_are_refused_from_the_header_alone() -> None:
    # 40000 x 40000 pixels of one value take little as a file, and 4.8 GB as an image.
    header = image_bytes(Image.new("1", (40_000, 64)), "PNG").replace(
        (64).to_bytes(4), (40_000).to_bytes(4), 1
    )
    with pytest.raises(TaskProblem, match="pixels; 100 million at most") as caught:
        load(_with_right_checksum(header))
    assert caught.value.reason == "too_large"


def _with_right_checksum(png: bytes) -> bytes:
    import zlib

    return png[:29] + zlib.crc32(png[12:29]).to_bytes(4) + png[33:]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Login</html>", "web page"),
        (b'{"detail": "no"}', "JSON came instead"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG"),  # would be run by Ghostscript
        (b"\x00" * 100, "none of JPEG"),
    ],
)
def test_what_is_no_image_is_named(body: bytes, said: str) -> None:
    with pytest.raises(TaskProblem, match=said) as caught:
        load(body)
    assert caught.value.reason == "undecodable"
    assert "a.jpg" in str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_file_is_refused(format: str) -> None:
    rng = np.random.default_rng(1)
    body = image_bytes(Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)), format)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(TaskProblem, match=r"a\.jpg is"):
            load(body[: int(len(body) * share)])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("number", [2, 4, 8])
def test_a_photo_larger_than_the_models_look_at_is_unpacked_smaller(orientation: int, number: int) -> None:
    """The pixels lie where those of the whole photo lie, and the size in words stays the photo's."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    edge = np.linspace(0, 255, 480)[None, :, None] * np.linspace(0.2, 1, 320)[:, None, None]
    photo = Image.fromarray(np.broadcast_to(edge, (320, 480, 3)).astype(np.uint8))
    body = image_bytes(photo, "JPEG", exif=exif.tobytes(), quality=95)
    whole, small = load(body), load(body, reducible=lambda width, height: number + 1)
    assert (small.width, small.height) == (whole.width, whole.height) == whole.image.size
    assert small.image.size == (whole.width // number, whole.height // number)
    mean = np.asarray(whole.image.reduce(number), dtype=float)
    assert np.abs(np.asarray(small.image, dtype=float) - mean).max() <= 4


def test_a_photo_is_unpacked_smaller_only_where_no_rest_is_left() -> None:
    """Its last pixels would stand for less than the others, and everything would move by a part of a pixel."""

    def unpacked(width: int, height: int, format: str = "JPEG") -> tuple[int, int]:
        body = image_bytes(Image.new("RGB", (width, height)), format)
        loaded = load(body, reducible=lambda *size: 8)
        assert (loaded.width, loaded.height) == (width, height)
        return loaded.image.size

    assert unpacked(482, 320) == (241, 160)
    assert unpacked(484, 324) == (121, 81)
    assert unpacked(481, 320) == (481, 320)
    assert unpacked(480, 320, "PNG") == (480, 320)


def test_what_the_models_look_at_is_not_made_smaller() -> None:
    body = image_bytes(Image.new("RGB", (480, 320)), "JPEG")
    assert load(body, reducible=lambda width, height: 1).image.size == (480, 320)
    assert load(body, reducible=lambda width, height: 3).image.size == (240, 160)


def test_pictures_unpacked_side_by_side_have_a_bound_of_pixels_together() -> None:
    room = _Room(100)
    inside: list[int] = []
    most: list[int] = []

    def unpack(pixels: int) -> None:
        with room.for_pixels(pixels):
            inside.append(min(pixels, 100))
            most.append(sum(inside))
            time.sleep(0.001)
            inside.remove(min(pixels, 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(unpack, [10, 60, 30, 1000] * 20))
    assert len(most) == 80
    assert max(most) == 100


def test_a_deep_picture_is_converted_in_strips_as_if_at_once() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (700, 30))
    loaded = load(image_bytes(Image.fromarray(values.astype(np.uint16)), "PNG"))
    wanted = np.floor(values / 257 + 0.5)
    assert np.array_equal(np.asarray(loaded.image)[..., 0], wanted)


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "L"])
def test_a_large_picture_needs_no_multiple_of_its_memory(mode: str) -> None:
    """Measured in a process of its own: at most 13 bytes a pixel over what the program needs anyway."""
    side = 4000
    body = image_bytes(Image.new(mode, (side, side)), "PNG")
    code = (
        "import resource, sys\n"
        "from ml_backend.decode import decode\n"
        "import tests.unit.ml_backend.test_decode as t\n"
        "small = t.image_bytes(t.Image.new(sys.argv[1], (8, 8)), 'PNG')\n"
        "decode(small, max_pixels=10**9, what='')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decode(sys.stdin.buffer.read(), max_pixels=10**9, what='')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, mode], input=body, capture_output=True, check=True)
    assert int(done.stdout) * 1024 / side**2 < 13


def test_want_of_memory_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored for it then, and it is asked for again."""

    def full(image: Image.Image) -> None:
        raise MemoryError

    body = image_bytes(Image.new("RGB", (40, 20)), "PNG")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", full)
    with pytest.raises(TaskProblem, match="no memory for its 40x20 pixels") as caught:
        load(body)
    assert caught.value.passing


def test_a_vector_graphic_is_named_as_what_it_is_not_though_ultralytics_looks_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def patched(*given: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", patched)
    with pytest.raises(TaskProblem, match="none of JPEG, PNG"):
        load(b"<svg xmlns='http://www.w3.org/2000/svg'/>")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's way of keeping memory")
def test_what_large_pictures_needed_is_given_back_by_every_thread() -> None:
    """In a process of its own: six threads that stay, each with a picture after the other, keep nothing of them."""
    body = image_bytes(Image.new("I;16", (5000, 5000)), "PNG")
    code = (
        "import sys, threading\n"
        "from ml_backend.decode import decode\n"
        "body = sys.stdin.buffer.read()\n"
        "end = threading.Event()\n"
        "def rss():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "def work(done):\n"
        "    decode(body, max_pixels=10**9, what='')\n"
        "    done.set()\n"
        "    end.wait(60)\n"
        "def one():\n"
        "    done = threading.Event()\n"
        "    threading.Thread(target=work, args=[done]).start()\n"
        "    assert done.wait(60)\n"
        "one()\n"
        "before = rss()\n"
        "for _ in range(5):\n"
        "    one()\n"
        "print(rss() - before)\n"
        "end.set()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True, check=True)
    assert int(done.stdout) < 25_000_000  # bytes; a byte a pixel of one of them
