"""Small DICOM objects, made up: enough to be stored, indexed and exported."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def write_study(folder: Path, objects: int, *, side: int = 16) -> str:
    """Write a study of one series into a folder, images of `side` times `side` bytes; returns its UID."""
    study_uid, series_uid = generate_uid(), generate_uid()
    for number in range(1, objects + 1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset(str(folder / f"{number}.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = meta.MediaStorageSOPClassUID
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
        ds.PatientID, ds.PatientName = "LAB", "Lab^Study"
        ds.Modality, ds.InstanceNumber = "OT", number
        ds.Rows = ds.Columns = side
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.PixelData = bytes([number % 256]) * side**2
        ds.save_as(ds.filename, enforce_file_format=True)
    return str(study_uid)
