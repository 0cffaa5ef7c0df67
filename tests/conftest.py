"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def packets_dir() -> Path:
    """Return the folder with packets of real surveys."""
    folder = os.environ.get("NUNCIUS_PACKETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs packets of real surveys: set NUNCIUS_PACKETS to the folder that holds them")
    return Path(folder)
