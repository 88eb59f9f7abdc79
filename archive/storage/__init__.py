"""Files on disk: write, verify, remove, and which file system to use."""
