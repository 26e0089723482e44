"""A Redis Cluster: with a hash tag all keys of a namespace lie in one slot, and tasks find the node that has it."""

import signal

from redis.crc import key_slot

from tests.support.servers import free_port
from tests.tasks import wait_until

NAMESPACE = "{orders}"


def test_tasks_and_commands_follow_the_slot_to_another_node(new_server, start):
    buses = [free_port(), free_port()]
    first, second = (new_server("cluster-enabled", "yes", "cluster-port", str(bus)) for bus in buses)
    with first.client() as one, second.client() as two:
        slot = key_slot(NAMESPACE.encode())
        one.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slot - 1, slot + 1, 16383)
        two.execute_command("CLUSTER", "ADDSLOTS", slot)
        one.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, buses[1])
        for node in (one, two):
            wait_until(lambda node=node: b"cluster_state:ok" in raw(node, "CLUSTER", "INFO"), "the cluster")

        options = ["--redis", first.tcp_url, "--namespace", NAMESPACE, "--interval", "20", "--heartbeat", "5"]
        generator = start(*options)
        wait_until(lambda: generator.total("generated") > 3, "messages")
        handler = start(*options)
        wait_until(lambda: handler.total("processed") > 3, "them handled")
        assert start("status", *options[:4]).wait() == 0
        generator.send(signal.SIGTERM)
        wait_until(handler.is_generator, "the other one generates")
        handler.send(signal.SIGTERM)
        assert (generator.wait(), handler.wait()) == (0, 0)
        assert int(two.hget(f"{NAMESPACE}:generator", "generated")) > 3
        assert one.dbsize() == 0


def raw(node, *command) -> bytes:
    """redis-py parses these answers; here the text will do."""
    connection = node.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        node.connection_pool.release(connection)
