"""The bucket client over HTTPS: a store whose certificate only its own CA vouches for."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.edges.s3 import S3Store
from bridge.errors import Refused
from bridge.settings import MIB
from tests.integration.conftest import cortx_server
from tests.integration.test_s3_client import settings_for


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.fixture(scope="module")
def https(certificate: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cert, key = certificate
    options = ("--tls-cert", cert, "--tls-key", key)
    with cortx_server(tmp_path_factory.mktemp("https"), "s3server-doc", *options) as url:
        yield url


def test_a_store_with_a_ca_of_its_own_is_trusted_when_told_so(
    https: str, certificate: tuple[str, str], tmp_path: Path
) -> None:
    settings = settings_for(https, ca_bundle=certificate[0])
    store = S3Store(settings, part_bytes=5 * MIB, single_put_max_bytes=MIB)
    store.create_bucket()
    store.put("a", b"x")
    (tmp_path / "up").write_bytes(bytes(6 * MIB))
    store.upload("b", tmp_path / "up")
    assert store.get("b") == bytes(6 * MIB)
    assert store.delete_many(["a", "b"]) == {}
    assert list(store.keys()) == []


def test_a_store_with_a_ca_of_its_own_is_refused_otherwise(https: str) -> None:
    with pytest.raises(Refused, match=r"not trusted.*AWS_CA_BUNDLE"):
        S3Store(settings_for(https)).check()


def test_a_ca_file_that_is_not_there_is_named(https: str) -> None:
    with pytest.raises(Refused, match=r"there is no file nowhere\.pem.*AWS_CA_BUNDLE"):
        S3Store(settings_for(https, ca_bundle="nowhere.pem")).check()
