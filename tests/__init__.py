"""All tests; `tests.lab` is what they run clusters with."""
