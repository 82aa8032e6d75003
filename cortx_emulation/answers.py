"""What goes back to the client: an answer, or a refusal in S3's XML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from xml.sax.saxutils import escape

MISREAD_STATUS = 599
XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


class Cut(Enum):
    """How the connection ends before the answer does."""

    NO_ANSWER = "nothing is sent"
    HALF_WAY = "half of the body is sent"


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: Cut | None = None

    @property
    def status_line(self) -> str:
        phrase = "Misread By CORTX" if self.status == MISREAD_STATUS else HTTPStatus(self.status).phrase
        return f"{self.status} {phrase}"

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Refusal(Exception):
    """A request that the server does not carry out."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


def refused(refusal: Refusal, *, resource: str, method: str, request_id: str) -> Answer:
    """Every error ends the connection, and 503 says when to come back. HEAD has no body to say more in."""
    headers = {"Connection": "close", "x-amz-request-id": request_id}
    if refusal.status == 503:
        headers["Retry-After"] = "1"
    body = b""
    if method != "HEAD":
        headers["Content-Type"] = "application/xml"
        body = error_xml(refusal.code, refusal.message, resource=resource, request_id=request_id)
    return Answer(
        status=refusal.status, headers=(*headers.items(), ("Content-Length", str(len(body)))), body=body
    )


def error_xml(code: str, message: str, *, resource: str, request_id: str) -> bytes:
    fields: Mapping[str, str] = {
        "Code": code,
        "Message": message,
        "Resource": resource,
        "RequestId": request_id,
    }
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f"{XML_HEAD}<Error>{inside}</Error>".encode()


def xml_answer(body: str) -> Answer:
    content = (XML_HEAD + body).encode()
    headers = (("Content-Type", "application/xml"), ("Content-Length", str(len(content))))
    return Answer(status=200, headers=headers, body=content)
