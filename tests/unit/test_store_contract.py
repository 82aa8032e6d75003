"""The in-memory store keeps the promises of every store."""

from __future__ import annotations

import pytest

from bridge.store import MemoryStore
from tests.store_contract import StoreContract


@pytest.fixture
def small_pages() -> MemoryStore:
    return MemoryStore(page_size=2)


@pytest.fixture
def whole_pages() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def thousands() -> tuple[int, int | None]:
    return 2500, None


class TestMemoryStore(StoreContract):
    pass
