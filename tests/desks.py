"""Where an operator sits in tests: settings that mean the test's own bucket, and an API without the rest of the app."""

from __future__ import annotations

from flask import Blueprint, Flask, jsonify
from flask.testing import FlaskClient

from bridge.errors import BridgeError
from bridge.settings import S3Settings, SidecarSettings
from tests.unit.sidecar.fakes import ENVIRON


def settings_on(s3: S3Settings, **more: str) -> SidecarSettings:
    """The sidecar's settings for a bucket of the test's; `more` are further environment variables."""
    bucket = {
        "BUCKET": s3.bucket,
        "BUCKET_PREFIX": s3.bucket_prefix,
        "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
    }
    return SidecarSettings.from_env(ENVIRON | bucket | more)


def api_of(blueprint: Blueprint) -> FlaskClient:
    """A blueprint's routes, answering errors as the app does."""
    app = Flask("test")
    app.register_blueprint(blueprint)
    app.register_error_handler(BridgeError, lambda error: (jsonify(error=str(error)), error.status))
    return app.test_client()
