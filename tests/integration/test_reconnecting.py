"""One connection that several greenlets use is lost, and made again by whoever comes first."""

from concurrent.futures import ThreadPoolExecutor

from gtask.store.connection import Connections
from gtask.store.scripts import Script
from tests.servers import Server

ECHO = Script("return ARGV[1]")


def test_calls_at_once_over_a_connection_that_is_made_again_get_their_own_answers(server: Server) -> None:
    connections = Connections(server.url, heartbeat=1, wait=1)
    everybody = [str(number) for number in range(8)]
    with ThreadPoolExecutor(len(everybody)) as pool:
        for _ in range(50):
            connections._commands.connection.disconnect()
            assert list(pool.map(lambda word: connections._run(ECHO, (), word), everybody)) == everybody
    connections.close()
