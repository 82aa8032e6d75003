"""One S3 request as it came, and as it is handed on: rules take away from it what CORTX would not have seen."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import unquote, urlsplit

RAW_HEADERS = "cortx_emulation.headers"
"""Where our request handler keeps the headers as sent: WSGI's own names lose `_`, case and repetition."""
META = "x-amz-meta-"


class S3Request:
    """Addressed path-style: an IP address as host is never a bucket's name. `body` is read by the application."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"].upper()
        raw = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO", "/"))
        if raw.startswith(("http://", "https://")):
            parts = urlsplit(raw)
            raw = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.raw_path, _, self.raw_query = raw.partition("?")
        bucket, _, key = self.raw_path.lstrip("/").partition("/")
        self.bucket, self.key = unquote(bucket), unquote(key, errors="surrogateescape")
        self.query: list[tuple[str, str, str]] = []  # name, value, both as they were written
        for pair in filter(None, self.raw_query.split("&")):
            name, _, value = pair.partition("=")
            self.query.append((unquote(name), unquote(value.replace("+", " ")), pair))
        self.headers: list[tuple[str, str]] = list(environ.get(RAW_HEADERS) or _from_wsgi(environ))
        self.body = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def drop_headers(self, *names: str) -> None:
        """Take away the headers of these names, and all that begin with a name that ends in `*`."""
        exact = {name for name in names if not name.endswith("*")}
        begins = tuple(name[:-1] for name in names if name.endswith("*"))
        self.headers = [
            (key, value)
            for key, value in self.headers
            if key.lower() not in exact and not (begins and key.lower().startswith(begins))
        ]

    def set_header(self, name: str, value: str) -> None:
        self.drop_headers(name.lower())
        self.headers.append((name, value))

    def has(self, name: str) -> bool:
        return any(found == name for found, _, _ in self.query)

    def parameter(self, name: str) -> str | None:
        return next((value for found, value, _ in self.query if found == name), None)

    def drop_parameters(self, *names: str) -> None:
        self.query = [one for one in self.query if one[0] not in names]

    def set_parameter(self, name: str, value: str) -> None:
        self.drop_parameters(name)
        self.query.append((name, value, f"{name}={value}"))

    @property
    def content_length(self) -> int | None:
        """None where it is missing, also where the transfer is chunked; -1 where it is no number."""
        given = self.header("content-length")
        if given is None or self.header("transfer-encoding") is not None:
            return None
        return int(given) if given.isdigit() else -1

    @property
    def is_copy(self) -> bool:
        return self.method == "PUT" and bool(self.key) and self.header("x-amz-copy-source") is not None

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and bool(self.key) and self.has("uploadId") and self.has("partNumber")

    @property
    def writes_object(self) -> bool:
        """A put of an object or of a part, with the bytes in this request."""
        plain = not any(self.has(name) for name in ("acl", "tagging"))
        return self.method == "PUT" and bool(self.key) and plain and not self.is_copy

    @property
    def completes(self) -> bool:
        return self.method == "POST" and bool(self.key) and self.has("uploadId")

    def handed_on(self) -> dict[str, Any]:
        """The WSGI environment for moto, of what is left of the request."""
        from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY, environ_key_for_header

        kept = {name: value for name, value in self.environ.items() if not name.startswith("HTTP_")}
        for name in ("CONTENT_TYPE", "wsgi.input_terminated", RAW_HEADERS):
            kept.pop(name, None)
        names: dict[str, str] = {}
        for name, value in self.headers:
            if name.lower() in ("transfer-encoding", "expect", "content-length", "connection"):
                continue
            variable = environ_key_for_header(name)
            kept[variable] = (
                f"{kept[variable]},{value}" if variable.startswith("HTTP_") and variable in kept else value
            )
            if "_" in name:
                names[variable] = name
        query = "&".join(pair for _, _, pair in self.query)
        uri = self.raw_path + (f"?{query}" if query else "")
        return kept | {
            PRESERVED_HEADER_NAMES_ENVIRON_KEY: names,
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": query,
            "RAW_URI": uri,
            "REQUEST_URI": uri,
            "HTTP_HOST": "127.0.0.1",  # of a host with a dot in it moto would take the first word for a bucket
            "CONTENT_LENGTH": str(len(self.body)),
            "wsgi.input": io.BytesIO(self.body),
        }


def _from_wsgi(environ: dict[str, Any]) -> list[tuple[str, str]]:
    found = [
        (name[5:].replace("_", "-").lower(), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            found.append((name.replace("_", "-").lower(), str(environ[name])))
    return found
