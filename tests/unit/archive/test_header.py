"""What is read from headers, and what is refused."""

from __future__ import annotations

import io
import random
from datetime import date, time
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from archive import errors
from archive.storage import header

SAMPLES = Path(pydicom.__file__).parent / "data"


def dataset(**values: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    for keyword, value in values.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def part10(ds: Dataset) -> io.BytesIO:
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file


@pytest.mark.filterwarnings("ignore::UserWarning")  # the date with dots
def test_indexed_attributes_are_read() -> None:
    ds = dataset(
        PatientID="P1", IssuerOfPatientID="HOSP", PatientBirthDate="19700102", PatientSex="F",
        StudyDate="2024.02.29", StudyTime="235960.5", AccessionNumber="A1", Modality="CT",
        SeriesNumber="7", InstanceNumber="-1", StudyDescription="Head\0",
    )  # fmt: skip

    found = header.read(part10(ds))

    assert (found.study_uid, found.series_uid, found.sop_uid) == ("1.2.3.3", "1.2.3.2", "1.2.3.1")
    assert (found.patient_id, found.issuer, found.birth_date) == ("P1", "HOSP", date(1970, 1, 2))
    assert (found.study_date, found.study_time) == (date(2024, 2, 29), time(23, 59, 59, 500000))
    assert (found.series_number, found.instance_number, found.study_description) == (7, -1, "Head")
    assert found.transfer_syntax_uid == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("file", "start"),
    [
        ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrGerm.dcm", "Äneas^Rüdiger"),
        ("chrRuss.dcm", "Люкceмбypг"),
    ],
)
def test_names_are_decoded_by_their_character_set(file: str, start: str) -> None:
    with (SAMPLES / "charset_files" / file).open("rb") as opened:
        assert header.read(opened).patient_name == start


def test_text_with_letters_that_no_database_takes_is_mended() -> None:
    ds = dataset(SpecificCharacterSet="ISO_IR 192", PatientName="A\0B^C")

    assert header.of_dataset(ds, "1.2.840.10008.1.2").patient_name == "AB^C"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"StudyInstanceUID": None}, "no StudyInstanceUID"),
        ({"SeriesInstanceUID": None}, "no SeriesInstanceUID"),
        ({"SOPInstanceUID": None}, "no SOPInstanceUID"),
        ({"SOPClassUID": None}, "no SOPClassUID"),
        ({"StudyInstanceUID": "../../etc/passwd"}, "StudyInstanceUID '../../etc/passwd' is not a UID"),
        ({"SOPInstanceUID": "1." + "2" * 63}, "at most 64 characters"),
        ({"SOPInstanceUID": ["1.2.3", "1.2.4"]}, "is not a UID"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom names the bad values that this test makes
def test_object_without_valid_uids_is_refused_by_name(values: dict[str, object], said: str) -> None:
    with pytest.raises(errors.NotStorable, match=said):
        header.of_dataset(dataset(**values), "1.2.840.10008.1.2")


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\0" * 132, b"%PDF-1.7 " * 40])
def test_file_that_is_no_dicom_is_refused(content: bytes) -> None:
    with pytest.raises(errors.NotStorable, match=r"not DICOM Part 10|damaged DICOM file"):
        header.read(io.BytesIO(content))


def test_file_without_meta_is_not_part_10() -> None:
    with (SAMPLES / "test_files" / "no_meta.dcm").open("rb") as file, pytest.raises(errors.NotStorable):
        header.read(file)


def test_dicomdir_is_refused_as_such() -> None:
    with (
        (SAMPLES / "test_files" / "dicomdirtests" / "DICOMDIR").open("rb") as file,
        pytest.raises(errors.NotStorable, match="DICOMDIR"),
    ):
        header.read(file)


def test_optional_values_that_are_damaged_are_left_out() -> None:
    ds = dataset()
    with pydicom.config.disable_value_validation():
        ds.StudyDate = "20241399"
        ds.StudyTime = "noon"
    ds.add_new("PatientBirthDate", "DA", "")

    found = header.of_dataset(ds, "1.2.840.10008.1.2")

    assert (found.study_date, found.study_time, found.birth_date) == (None, None, None)


def test_damaged_files_are_refused_and_never_raise_anything_else() -> None:
    chance = random.Random(7)
    whole = (SAMPLES / "test_files" / "CT_small.dcm").read_bytes()
    refused = 0

    for _ in range(300):
        broken = bytearray(whole[: chance.randrange(132, 3000)])
        for _ in range(chance.randrange(1, 20)):
            broken[chance.randrange(128, len(broken))] = chance.randrange(256)
        try:
            header.read(io.BytesIO(bytes(broken)))
        except errors.NotStorable:
            refused += 1

    assert refused > 100
