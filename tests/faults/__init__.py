"""Proofs of the promises: models, faults on purpose, and what watches over them."""

import pytest

# A promise that was broken once is broken: it is not tried again until it holds.
ONCE = pytest.mark.flaky(reruns=0)
