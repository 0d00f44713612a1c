"""The tests; `tests/conftest.py` has the shared live parts."""
