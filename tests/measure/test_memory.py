"""Peak memory of a process, and that it can begin anew."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a process of its own: what this one held before would hide it.
TWICE = """
import json
import numpy as np
from diarbench.measure.memory import forget_peak, peak_cuda, peak_resident, resident
before = resident()
np.ones(20_000_000).sum()
high = peak_resident()
exact = forget_peak()
np.ones(2_500_000).sum()
print(json.dumps([before, high, exact, resident(), peak_resident(), peak_cuda()]))
"""


def test_the_peak_is_that_since_it_was_forgotten():
    run = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, check=True, text=True)
    before, high, exact, held, peak, cuda = json.loads(run.stdout)
    assert high - before > 150e6  # of 160 MB
    assert cuda is None  # torch is not loaded
    if not exact:
        pytest.skip("this kernel doesn't let the peak begin anew")
    assert 15e6 < peak - held < 60e6  # of 20 MB
