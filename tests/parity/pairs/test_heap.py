"""Unused memory is given back once the process has grown."""

import pytest

from parity.pairs import heap


@pytest.mark.parametrize("grown, given_back", [(0, 0), (heap.SLACK, 0), (heap.SLACK + 1, 1)])
def test_memory_is_given_back_after_growth_alone(monkeypatch, tmp_path, grown, given_back):
    calls = []
    (tmp_path / "statm").touch()
    monkeypatch.setattr(heap, "STATM", tmp_path / "statm")
    monkeypatch.setattr(heap, "_size", 1000)
    monkeypatch.setattr(heap, "_malloc_trim", lambda: calls.append)
    monkeypatch.setattr(heap, "_resident", lambda: 1000 + grown)
    heap.trim()
    assert calls == [0] * given_back


def test_a_system_without_glibc_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    monkeypatch.setattr(heap, "_resident", lambda: 1 / 0)
    heap.trim()
