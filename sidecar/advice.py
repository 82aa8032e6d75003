"""What to do about a step that Label Studio refused: its own words hide the cause more often than not."""

from __future__ import annotations

from bridge.settings import SidecarSettings
from sidecar.plan import ML_BACKEND, STORAGE, WEBHOOK


def advice(part: str, said: str, settings: SidecarSettings, bucket_trouble: str = "") -> str:
    """The error `said` with what to do, or a clearer one. `bucket_trouble`: what is wrong with the bucket as seen from
    here, empty if it opens."""
    if "reserved network address" in said:  # It already names the variable to set.
        return said
    if part == WEBHOOK and "resolve" in said:
        return f"{said} (set SIDECAR_URL, now {settings.sidecar_url}, to the sidecar's address as Label Studio reaches it)"
    if part == ML_BACKEND:
        return _ml_advice(said, settings)
    if part == STORAGE and any(sign in said for sign in ("Debugging info", "S3", "s3:", "access keys")):
        return _storage_advice(settings, bucket_trouble)
    return said


def _ml_advice(said: str, settings: SidecarSettings) -> str:
    if "authentication parameters" in said:
        return (
            f"the ML backend at {settings.ml_backend_url} does not accept our user and password (BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS must be the same for the sidecar and the ML backend)"
        )
    if "health check failed" in said or "resolve" in said:
        return (
            f"Label Studio cannot reach the ML backend at {settings.ml_backend_url} (is it running, and is "
            "ML_BACKEND_URL its address as Label Studio reaches it?)"
        )
    if "valid ML backend" in said:
        return f"{said} (its /setup failed: the ML backend's log says why)"
    return said


def _storage_advice(settings: SidecarSettings, bucket_trouble: str) -> str:
    """Label Studio hides every reason of an S3 server that is not Amazon's."""
    place = f"s3://{settings.s3.bucket}/{settings.storage_prefix}"
    if bucket_trouble:
        return f"Label Studio cannot open {place}: {bucket_trouble}"
    endpoint = settings.label_studio_s3_url or settings.s3.endpoint_url
    return (
        f"Label Studio cannot open {place} at {endpoint}, though the bucket opens from here (set LABEL_STUDIO_S3_URL to "
        "the store's address as Label Studio reaches it)"
    )
