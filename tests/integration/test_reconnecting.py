"""One connection that several greenlets use is lost, and made again by whoever comes first."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gtask.exceptions import Trouble, Unanswered
from gtask.store.connection import Connections
from gtask.store.scripts import Script
from tests.servers import ONE_NEW_SERVER, Server

ECHO = Script("return ARGV[1]")


def test_calls_at_once_over_a_connection_that_is_made_again_get_their_own_answers(server: Server) -> None:
    connections = Connections(server.url, heartbeat=1, wait=1)
    everybody = [str(number) for number in range(8)]
    with ThreadPoolExecutor(len(everybody)) as pool:
        for _ in range(50):
            connections._commands.connection.disconnect()
            assert list(pool.map(lambda word: connections._run(ECHO, (), word), everybody)) == everybody
    connections.close()


@ONE_NEW_SERVER
def test_a_call_that_was_never_sent_is_not_one_whose_answer_was_lost(new_server) -> None:
    """The connection is there, but it is made again before the call, because nobody has used it for long."""
    server = new_server()
    connections = Connections(server.url, heartbeat=1, wait=1)
    assert connections._run(ECHO, (), "word") == "word"
    connections._commands.connection._used -= 3600
    server.kill()
    with pytest.raises(Trouble) as caught:
        connections._run(ECHO, (), "word")
    assert not isinstance(caught.value, Unanswered)
    connections.close()
