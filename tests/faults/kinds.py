"""All kinds of faults. Each module `kinds_…` is a room of them with a table KINDS; a new room is added here."""

from tests.faults import (
    kinds_code,
    kinds_commands,
    kinds_flag,
    kinds_links,
    kinds_outcomes,
    kinds_processes,
    kinds_server,
)
from tests.faults.nemesis import Fault

ROOMS = (kinds_processes, kinds_flag, kinds_server, kinds_links, kinds_commands, kinds_code)

OUTCOMES = kinds_outcomes.KINDS  # for a fleet that is told of retries and time-outs; ROOMS are for any

KINDS: dict[str, Fault] = {name: fault for room in ROOMS for name, fault in room.KINDS.items()}
