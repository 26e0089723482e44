"""Writes the oldest versions that requirements.txt allows into a file for pip: `python tests/oldest.py FILE`."""

import re
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"


def oldest(requirements: str) -> str:
    """The same requirements, each with its lower bound as the only version."""
    return re.sub(r"^([^#\s>]+)>=([^,\s]+).*$", r"\1==\2", requirements, flags=re.MULTILINE)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(oldest(REQUIREMENTS.read_text()))
