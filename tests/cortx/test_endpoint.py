"""The bucket client on a real endpoint keeps the promises of every store: `make cortx-test S3_TEST_ENDPOINT_URL=…`."""

from __future__ import annotations

from tests.s3_contract import S3Contract


class TestEndpoint(S3Contract):
    pass
