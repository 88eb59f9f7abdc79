"""The demonstration: the main job on real servers and real DICOM objects, each step verified."""
