"""What a user would write instead of the sidecar: a Flask route that puts each webhook into the bucket and then answers."""

from __future__ import annotations

import json
import os
import uuid

import boto3
from botocore.config import Config
from flask import Flask, request


def create_app() -> Flask:
    app = Flask("direct")
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = boto3.client("s3", region_name="us-east-1", config=config)

    @app.post("/webhook")
    def webhook() -> tuple[str, int]:
        payload = request.get_json(force=True)
        key = f"direct/{payload['action']}/{uuid.uuid4().hex}.json"
        client.put_object(Bucket=os.environ["BUCKET"], Key=key, Body=json.dumps(payload).encode())
        return "", 201

    return app
