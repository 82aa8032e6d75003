"""Buckets: their names, owners and places; listings; the deletion of many; policies."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cortx_emulation.answers import Answer, Refusal, xml_answer
from cortx_emulation.profiles import Account, Options, Profile
from cortx_emulation.request import S3Request
from cortx_emulation.rules.bodies import check_md5

Ask = Callable[[str, str], Answer]
DELETE_MAX = 1000
LIST_MAX = 1000
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9]|[.-](?![.-]))*")


def is_bucket_name(name: str, profile: Profile) -> bool:
    """cortx-s3server refuses two of `.` and `-` side by side, which AWS allows."""
    if not 3 <= len(name) <= 63 or _ADDRESS.fullmatch(name):
        return False
    if not profile.s3server:
        return re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", name) is not None and ".." not in name
    return _NAME.fullmatch(name) is not None and name[-1] not in ".-"


class Buckets:
    """Who made each bucket and where it is said to lie: what moto, behind one account, cannot know."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._made: dict[str, tuple[str, str]] = {}  # name -> owner, place
        self._lock = threading.Lock()
        self._nowhere = "us-west-2" if profile.s3server else ""

    def refuse_strangers(self, request: S3Request, account: Account) -> None:
        with self._lock:
            owner, _ = self._made.get(request.bucket, (account.owner, ""))
        if owner != account.owner and not self._creates(request):
            raise Refusal(403, "AccessDenied", "Access Denied")

    def forget(self, name: str) -> None:
        with self._lock:
            self._made.pop(name, None)

    @staticmethod
    def _creates(request: S3Request) -> bool:
        return request.method == "PUT" and bool(request.bucket) and not request.key and not request.query

    def answer(self, request: S3Request, account: Account, ask: Ask) -> Answer | None:
        """The creation of a bucket, and its place; None for every other request.

        rule: a wrong name is 400 InvalidBucketName; cortx-s3server answers 409 BucketAlreadyOwnedByYou to an own bucket,
        every server 409 BucketAlreadyExists to another's.
        rule: cortx-s3server takes any place and calls none us-west-2; CORTX-RGW takes none or `default`, else 400
        InvalidLocationConstraint."""
        if self._creates(request):
            return self._create(request, account, ask)
        if request.method == "GET" and request.bucket and not request.key and request.has("location"):
            if ask("HEAD", f"/{request.bucket}").status == 404:
                raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
            with self._lock:
                _, place = self._made.get(request.bucket, ("", self._nowhere))
            return xml_answer(f"<LocationConstraint>{escape(place)}</LocationConstraint>")
        return None

    def _create(self, request: S3Request, account: Account, ask: Ask) -> Answer:
        name = request.bucket
        if not is_bucket_name(name, self._profile):
            raise Refusal(400, "InvalidBucketName", "The specified bucket is not valid.")
        place = _place(request.body)
        if self._profile.s3server:
            place = place or self._nowhere
        elif place not in ("", "default"):
            raise Refusal(400, "InvalidLocationConstraint", "The specified location-constraint is not valid")
        with self._lock:
            there = ask("HEAD", f"/{name}").status != 404
            owner, _ = self._made.get(name, (account.owner, ""))
            if there and owner != account.owner:
                raise Refusal(409, "BucketAlreadyExists", "The requested bucket name is not available.")
            if there and self._profile.s3server:
                raise Refusal(
                    409, "BucketAlreadyOwnedByYou", "Your previous request succeeded and you own it."
                )
            self._made[name] = (account.owner, place)
            return ask("PUT", f"/{name}")


def _place(body: bytes) -> str:
    if not body.strip():
        return ""
    for element in _parsed(body).iter():
        if _tag(element) == "LocationConstraint":
            return element.text or ""
    return ""


def _parsed(body: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed.") from None


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def check_listing(request: S3Request, profile: Profile, options: Options) -> None:
    """rule: max-keys that is no number is 400 InvalidArgument; CORTX-RGW gives 1,000 at most.
    rule: some builds of cortx-s3server answer the second version of a listing as the first."""
    if request.method != "GET" or request.key:
        return
    if (given := request.parameter("max-keys")) is not None:
        if not given.isdigit():
            raise Refusal(400, "InvalidArgument", "max-keys is not a number")
        if not profile.s3server and int(given) > LIST_MAX:
            request.set_parameter("max-keys", str(LIST_MAX))
    if profile.old and not options.list_v2:
        request.drop_parameters("list-type", "continuation-token", "start-after", "fetch-owner")


def check_delete_many(request: S3Request, profile: Profile) -> None:
    """rule: cortx-s3server wants the body's Content-MD5, a missing one is 400 BadDigest, and takes 1,000 keys, more are
    400 MaxMessageLengthExceeded; CORTX-RGW takes 1,000 as well."""
    if request.method != "POST" or request.key or not request.has("delete"):
        return
    if profile.s3server:
        given = request.header("content-md5")
        if given is None:
            raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        check_md5(given, request.body)
    count = sum(_tag(element) == "Object" for element in _parsed(request.body))
    if count > DELETE_MAX:
        code = "MaxMessageLengthExceeded" if profile.s3server else "MalformedXML"
        raise Refusal(400, code, "Your request was too large.")


def check_policy(request: S3Request, profile: Profile) -> None:
    """rule: a policy that is none is refused, in every profile."""
    if request.method != "PUT" or request.key or not request.has("policy"):
        return
    try:
        policy = json.loads(request.body)
    except ValueError:
        policy = None
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    statements = [statements] if isinstance(statements, dict) else statements
    whole = isinstance(statements, list) and all(
        isinstance(one, dict) and {"Effect", "Action", "Resource"} <= one.keys() for one in statements
    )
    if not whole or not statements:
        code = "MalformedPolicy" if profile.s3server else "InvalidArgument"
        raise Refusal(400, code, "The policy is not in the valid JSON format")
