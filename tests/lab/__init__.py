"""A cluster of real processes that can be broken on purpose, and the proof that nothing went wrong in it."""
