"""Writing COCO and Pascal VOC: the converter is handed entries of ours, and what it writes is named and counted by entry."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from bridge import export_pictures
from bridge.export_pictures import Entry, entry_number
from bridge.export_shapes import ImageRef
from bridge.export_tasks import Contents, Names, image_address, shown_address, to_line
from bridge.exports import Format, Order
from bridge.labeling import Config
from bridge.state import Thing
from workers.export_convert import ListFile, convert, mismatch
from workers.export_files import make_zip
from workers.export_tally import Tally

Json = dict[str, Any]


class PictureWriter:
    """COCO and Pascal VOC, from one entry for each annotation and picture."""

    def __init__(
        self,
        folder: Path,
        tally: Tally,
        config: Config,
        contents: Contents,
        format: Format,
        order: Order,
        title: str,
    ) -> None:
        self._folder, self._tally, self._config = folder, tally, config
        self._contents, self._format, self._order, self._title = contents, format, order, title
        self._tasks = ListFile(folder / "tasks.json")
        self._entries: dict[int, _Kept] = {}
        self._labels: set[str] = set()
        refs = {task.data["id"]: export_pictures.refs_of(task, config) for task in contents.tasks}
        self._names = Names(contents, refs)

    def add(self, task: Thing, whole: Json) -> None:
        found = export_pictures.split(
            task, whole, self._contents, self._config, self._format, len(self._entries)
        )
        self._tally.leave_out(found.out)
        named: dict[ImageRef, str] = {}
        for entry in found.entries:
            if entry.image not in named:
                named[entry.image] = self._names.give(task, entry.image)
            address = shown_address(image_address(task, entry.image))
            self._entries[entry.number] = _Kept(entry, named[entry.image], address)
            self._tasks.add(to_line(entry.to_json()))
            for shape in entry.shapes:
                self._labels.update(shape.labels)
                self._tally.regions_in += shape.entries
                if shape.changed:
                    self._tally.changed[shape.changed] += 1
        written = {
            one.annotation
            for one in found.entries
            if one.annotation is not None and (one.shapes or self._format.name == "COCO")
        }
        self._tally.annotations_in += len(written)

    def finish(self) -> tuple[Path, int]:
        out = self._folder / "out"
        schema = export_pictures.schema(export_pictures.categories(self._config, self._labels))
        convert(self._tasks.finish(), out, schema, self._format.name)
        objects = self._mend_coco(out) if self._format.name == "COCO" else self._mend_voc(out)
        expected = sum(kept.objects for kept in self._entries.values())
        if objects != expected:
            raise mismatch(f"{objects} objects of {expected}")
        return make_zip(out, self._folder / self._format.file, self._order.source_time), objects

    def close(self) -> None:
        self._tasks.close()

    def _mend_coco(self, out: Path) -> int:
        """Give each picture its name, size and where it comes from; count the objects of each."""
        path = out / "result.json"
        with path.open(encoding="utf-8") as file:
            body = json.load(file)
        objects = Counter(one["image_id"] for one in body["annotations"])
        seen = set()
        for image in body["images"]:
            kept = self._entries.get(-1 if (n := entry_number(image["file_name"])) is None else n)
            if kept is None or kept.objects != objects[image["id"]]:
                raise mismatch(f"{objects[image['id']]} objects on the picture {image['file_name']!r}")
            seen.add(kept.number)
            width, height = kept.size_px or (None, None)
            image |= {"file_name": kept.name, "width": width, "height": height}
            image |= {"coco_url": kept.address, "task_id": kept.task, "annotation_id": kept.annotation}
        if len(seen) != len(self._entries):
            raise mismatch(f"{len(seen)} pictures of {len(self._entries)}")
        when = self._order.source_time
        body["info"] |= {
            "year": when.year,
            "date_created": when.isoformat(sep=" "),
            "description": self._title,
        }
        with path.open("w", encoding="utf-8") as file:
            json.dump(body, file, indent=2)
        return len(body["annotations"])

    def _mend_voc(self, out: Path) -> int:
        """Call each file by its picture; count the objects of each. Two annotations of a picture are two files."""
        folder = out / "Annotations"
        folder.mkdir(exist_ok=True)
        objects = 0
        given: set[str] = set()
        found = {entry_number(path.name): path for path in folder.iterdir()}
        for number, kept in self._entries.items():
            path = found.pop(number, None)
            if path is None and not kept.objects:
                continue
            counted = 0 if path is None else len(ElementTree.parse(path).findall("object"))
            if path is None or counted != kept.objects:
                raise mismatch(f"{counted} objects on the picture {kept.name!r}")
            stem = Path(kept.name).stem
            if stem.casefold() in given:
                stem = f"{stem}-annotation-{kept.annotation}"
            while stem.casefold() in given:
                stem = f"task-{kept.task}-{stem}"
            given.add(stem.casefold())
            text = path.read_text(encoding="utf-8")
            old = path.name.removesuffix(".xml") + ".jpg"
            named = text.replace(f"<filename>{old}</filename>", f"<filename>{escape(kept.name)}</filename>")
            path.unlink()
            (folder / f"{stem}.xml").write_text(named, encoding="utf-8")
            objects += counted
        if found:
            raise mismatch(f"{len(found)} files for no picture")
        return objects


class _Kept:
    """What is remembered of an entry once it is written: no shapes."""

    def __init__(self, entry: Entry, name: str, address: str) -> None:
        self.number, self.task, self.annotation = entry.number, entry.task, entry.annotation
        self.objects, self.size_px = entry.objects, entry.size_px
        self.name, self.address = name, address
