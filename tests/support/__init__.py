"""What tests and benchmarks share: servers, processes, terminals. It needs no pytest."""
