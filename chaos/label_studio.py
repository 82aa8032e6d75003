"""Label Studio as people use it: each with an account and a token of their own, through the REST API."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import httpx

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="fox"/><Label value="owl"/><Label value="deer"/>
  </RectangleLabels>
</View>"""
CHANGED_CONFIG = LABEL_CONFIG.replace('<Label value="deer"/>', '<Label value="deer"/><Label value="boar"/>')
PASSWORD = "chaos-annotator-1"
_PAGE = 500


class Said(Exception):
    """Label Studio refused a call that should have gone well."""


class Person:
    """Someone with a token. One object a thread."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Token {token}"},
            timeout=60,
            trust_env=False,
            follow_redirects=True,
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Whatever it answers. Raises httpx.HTTPError when it does not."""
        return self._client.request(method, path, **options)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON, None when empty. Raises Said for 400 and above."""
        answer = self.ask(method, path, **options)
        if answer.status_code >= 400:
            raise Said(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """Every task with annotations, predictions and drafts, `data` as it is stored; in order of id."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            answer = self.ask(
                "GET",
                "/api/tasks",
                params={
                    "project": project,
                    "fields": "all",
                    "page": page,
                    "page_size": _PAGE,
                    "resolve_uri": "false",
                },
            )
            if answer.status_code == 404 and "Invalid page" in answer.text:
                break
            if answer.status_code >= 400:
                raise Said(f"GET /api/tasks: {answer.status_code} {answer.text[:300]}")
            tasks = answer.json()["tasks"]
            found += tasks
            if len(tasks) < _PAGE:
                break
            page += 1
        return sorted(found, key=lambda task: int(task["id"]))

    def export(self, project: int) -> list[dict[str, Any]]:
        """The JSON export of every task: it adds what /api/tasks leaves out, `unique_id` above all."""
        params = {"exportType": "JSON", "download_all_tasks": "true"}
        found: list[dict[str, Any]] = self.call("GET", f"/api/projects/{project}/export", params=params)
        return found


def sign_up(url: str, owner: Person, email: str) -> Person:
    """A new member of the owner's organisation, through the invitation page as people come; logged in once for the
    token."""
    invitation = owner.call("GET", "/api/invite")["token"]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as browser:
        page = f"/user/signup/?token={invitation}"
        browser.get(page)
        form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        answer = browser.post(page, data=form, headers={"Referer": f"{url}{page}"})
        if answer.status_code != 302:
            raise Said(f"nobody can sign up as {email}: {answer.status_code}")
        token = browser.get("/api/current-user/token").json()["token"]
    return Person(url, token)


def picture(number: int) -> bytes:
    """A PNG file of 8 by 8 points; each number another colour."""
    row = b"\0" + bytes((number % 256, number // 256 % 256, 96)) * 8
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 8)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def box(number: float, label: str, region: str) -> dict[str, Any]:
    """One region as the page makes it; `number` sets it apart from others."""
    return {
        "id": region,
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 8,
        "original_height": 8,
        "image_rotation": 0,
        "value": {
            "x": round(number % 71, 3),
            "y": round(number % 61, 3),
            "width": 12.5,
            "height": 25,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }
