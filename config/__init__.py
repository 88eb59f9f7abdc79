"""What a device is, and where that is written. Imports nothing of ours."""
