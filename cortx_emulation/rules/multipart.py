"""Uploads in parts: the emulation's own register of them, for moto has none of these rules."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from cortx_emulation.answers import Answer, Refusal
from cortx_emulation.profiles import MIB, Profile
from cortx_emulation.request import S3Request
from cortx_emulation.rules.buckets import Ask, _parsed, _tag

PART_MIN_BYTES = 5 * MIB
PART_UNIT_BYTES = 1 * MIB
PART_NUMBER_MAX = 10_000


@dataclass(kw_only=True)
class Upload:
    """One open upload. `sizes`: of the parts that are whole; `first_bytes`: of part 1 as it was first announced."""

    path: str
    sizes: dict[int, int] = field(default_factory=dict)
    first_bytes: int | None = None


class Uploads:
    """The open uploads of a server, by id."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._open: dict[str, Upload] = {}
        self._done: dict[str, Answer] = {}
        self._lock = threading.RLock()

    @staticmethod
    def concerns(request: S3Request) -> bool:
        return bool(request.key) and (
            request.has("uploadId") or (request.method == "POST" and request.has("uploads"))
        )

    def carry_out(self, request: S3Request, hand_on: Callable[[], Answer], ask: Ask) -> Answer:
        """Raises Refusal as the server would."""
        if not request.has("uploadId"):
            return self._create(request, hand_on)
        upload_id = request.parameter("uploadId") or ""
        if request.completes:
            return self._complete(request, upload_id, hand_on, ask)
        upload = self._known(request, upload_id)
        if request.method == "PUT":
            return self._part(request, upload, hand_on)
        answer = hand_on()
        if request.method == "DELETE" and answer.status < 300:
            self._forget(upload_id)
        return answer

    def _known(self, request: S3Request, upload_id: str) -> Upload:
        """rule: a part, a list or an abort of an unknown upload is 404 NoSuchUpload."""
        with self._lock:
            upload = self._open.get(upload_id)
        if upload is None or upload.path != f"{request.bucket}/{request.key}":
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def _forget(self, upload_id: str) -> None:
        with self._lock:
            self._open.pop(upload_id, None)

    def forget_bucket(self, bucket: str) -> None:
        """The open uploads of a bucket go with it."""
        with self._lock:
            for upload_id, upload in list(self._open.items()):
                if upload.path.startswith(f"{bucket}/"):
                    del self._open[upload_id]

    def _create(self, request: S3Request, hand_on: Callable[[], Answer]) -> Answer:
        """rule: documented cortx-s3server has one open upload a key: another is 403 InvalidObjectState."""
        path = f"{request.bucket}/{request.key}"
        with self._lock:
            if self._profile.old and any(upload.path == path for upload in self._open.values()):
                raise _invalid_state("another upload of this key is open")
            answer = hand_on()
            if answer.status == 200:
                for element in _parsed(answer.body):
                    if _tag(element) == "UploadId":
                        self._open[element.text or ""] = Upload(path=path)
        return answer

    def _part(self, request: S3Request, upload: Upload, hand_on: Callable[[], Answer]) -> Answer:
        """rule: part numbers are 1 to 10,000, else 400 InvalidPart.
        rule: documented cortx-s3server wants part 1 whole before any other: 503 ServiceUnavailable; part 1 a multiple of
        1 MiB: 400 InvalidPartSize; and never part 1 again in another size: 403 InvalidObjectState."""
        given, size = request.parameter("partNumber") or "", len(request.body)
        if not given.isdigit() or not 1 <= int(given) <= PART_NUMBER_MAX:
            raise Refusal(400, "InvalidPart", "part numbers are 1 to 10000")
        number = int(given)
        if self._profile.old and not request.is_copy:
            with self._lock:
                if number > 1 and 1 not in upload.sizes:
                    raise Refusal(503, "ServiceUnavailable", "Reduce your request rate.")
                if number == 1:
                    if size % PART_UNIT_BYTES:
                        raise Refusal(400, "InvalidPartSize", "part 1 is not a multiple of the unit size")
                    if upload.first_bytes not in (None, size):
                        raise _invalid_state("part 1 was of another size")
                    upload.first_bytes = size
        answer = hand_on()
        if answer.status == 200:
            with self._lock:
                upload.sizes[number] = size
        return answer

    def _complete(
        self, request: S3Request, upload_id: str, hand_on: Callable[[], Answer], ask: Ask
    ) -> Answer:
        """rule: cortx-s3server answers 403 InvalidObjectState to an unknown or finished upload, CORTX-RGW 404
        NoSuchUpload to an unknown one and 200 to a finished one.
        rule: the list must be in order (cortx-s3server: 400 InvalidPartOrder), be 1, 2, … N and all that was uploaded
        (400 InvalidPart; CORTX-RGW: all that was uploaded), each part but the last of 5 MiB or more (400
        EntityTooSmall).
        rule: documented cortx-s3server wants all but the last as large as part 1, or it is 403 InvalidObjectState, and
        the upload is gone."""
        with self._lock:
            if not self._profile.s3server and upload_id in self._done:
                return self._done[upload_id]
            try:
                upload = self._known(request, upload_id)
            except Refusal:
                if self._profile.s3server:
                    raise _invalid_state("there is no such upload") from None
                raise
            self._check_list(request, upload)
            sizes = [upload.sizes[number] for number in sorted(upload.sizes)]
            if any(size < PART_MIN_BYTES for size in sizes[:-1]):
                raise Refusal(400, "EntityTooSmall", "a part is smaller than 5 MiB")
            if self._profile.old and any(size != sizes[0] for size in sizes[:-1]):
                ask("DELETE", f"/{quote(upload.path)}?uploadId={quote(upload_id, safe='')}")
                self._forget(upload_id)
                raise _invalid_state("the parts are not of one size")
            answer = hand_on()
            if answer.status == 200 and b"<Error>" not in answer.body:
                self._done[upload_id] = answer
                self._forget(upload_id)
        return answer

    def _check_list(self, request: S3Request, upload: Upload) -> None:
        parts = [part for part in _parsed(request.body) if _tag(part) == "Part"]
        listed = [int(one.text or 0) for part in parts for one in part if _tag(one) == "PartNumber"]
        if self._profile.s3server and listed != sorted(listed):
            raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        contiguous = sorted(listed) == list(range(1, len(listed) + 1))
        if set(listed) != set(upload.sizes) or (self._profile.s3server and not contiguous):
            raise Refusal(400, "InvalidPart", "One or more of the specified parts could not be found.")


def _invalid_state(why: str) -> Refusal:
    return Refusal(403, "InvalidObjectState", f"The operation is not valid for the object's state: {why}")
