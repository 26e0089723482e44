"""gtask: identical processes on one Redis; one elects itself generator, the others handle."""

__version__ = "1.0.0"
