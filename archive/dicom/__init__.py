"""The DICOM upper layer and its services: associations that we ask for and associations that we accept."""

from __future__ import annotations

#: Says to peers, and in the File Meta Information of files that we write, which program this is.
#: Source: PS3.7 D.3.3.2, PS3.10 7.1 (0002,0012)
IMPLEMENTATION_CLASS_UID = "2.25.147318131159600068265886005459621677819"

#: At most 16 characters. Source: PS3.7 D.3.3.2, PS3.10 7.1 (0002,0013)
IMPLEMENTATION_VERSION_NAME = "ARCFLEET"
