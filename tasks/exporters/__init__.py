"""Where an EXPORT task can send objects: one file per URI scheme."""
