"""`python -m benchmarks.peers MODULE COUNT` fills a peer's queue."""

import importlib
import sys

importlib.import_module(f"benchmarks.peers.{sys.argv[1]}").fill(int(sys.argv[2]))
