"""Studies arrive at the first device by C-STORE, as from a modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from api.demo import evidence, material
from api.demo.house import FIRST
from api.demo.stage import AE_TITLES, Stage
from archive import errors
from archive.dicom.peer import Context, Peer
from archive.dicom.requestor import Requestor, associate
from archive.dicom.status import Status
from archive.storage import header
from archive.storage.header import Header

#: What the sender calls itself.
_MODALITY = "MODALITY"
#: Presentation contexts of one association. Source: PS3.8 9.3.2.2, odd numbers below 256.
_MOST_CONTEXTS = 128


@dataclass(frozen=True, slots=True)
class _Offer:
    """A file that can be sent."""

    path: Path
    header: Header

    @property
    def context(self) -> Context:
        return Context(self.header.sop_class_uid, self.header.transfer_syntax_uid)

    @property
    def data(self) -> bytes:
        """The bytes of the data set; the wire takes an even number only. Source: PS3.7 6.3.1, PS3.5 A.5"""
        data = evidence.data_set(self.path)
        return data + b"\0" * (len(data) % 2)


def receive(stage: Stage) -> str:
    """Send pydicom's files and the long series to the first device, and look at what became of them."""
    peer = stage.up.dicom(FIRST, AE_TITLES[FIRST])
    folder = material.bundled()
    offers, others = _sorted_out(path for path in sorted(folder.rglob("*")) if path.is_file())
    stage.report.say(f"{len(offers)} objects of pydicom go to {peer}; {len(others)} of its files are no such objects")
    answers = _send(peer, offers)
    first = _first_of_each(offers)
    again = len(offers) - len(first)
    stage.studies = sorted({offer.header.study_uid for offer in first})
    stage.report.equal("answers of all", len(answers), len(offers))
    stage.report.equal("0000 Success, for each object once", _successes(answers, first), len(first))
    told = Counter(answers[offer.path].text for offer in offers if offer not in first)
    stage.report.say(f"{again} had the UID of an object that was there already: {_counted(told)}")
    _expect_stored(stage, first)

    fresh = stage.house.home / "long-series"
    stage.long_study = material.make_long_series(fresh)
    long, _ = _sorted_out(sorted(fresh.iterdir()))
    stage.report.equal("objects of one long series, 0000 Success", _successes(_send(peer, long), long), material.LONG)
    counts = evidence.counts()
    stage.report.equal("instances in the index", counts["instances"], len(first) + material.LONG)
    stage.wait("all series to be stored", lambda: evidence.receiving() == 0, timeout_s=10)
    stored = evidence.bytes_stored([*stage.studies, stage.long_study])
    stage.report.equal(f"bytes booked as received from {_MODALITY}", evidence.bytes_received(FIRST, _MODALITY), stored)
    return f"{counts['studies']} studies, {counts['instances']} objects"


def _sorted_out(paths: Iterable[Path]) -> tuple[list[_Offer], list[Path]]:
    """Return what can be sent, and what is no object that an archive could store."""
    offers, others = [], []
    for path in paths:
        try:
            with path.open("rb") as file:
                offers.append(_Offer(path, header.read(file)))
        except errors.NotStorable:
            others.append(path)
    return offers, others


def _first_of_each(offers: list[_Offer]) -> list[_Offer]:
    """Return the first offer of each SOP Instance UID: that one is kept."""
    return list({offer.header.sop_uid: offer for offer in reversed(offers)}.values())[::-1]


def _send(peer: Peer, offers: list[_Offer]) -> dict[Path, Status]:
    """Send each file with the bytes of its data set; returns the answers."""
    contexts = list(dict.fromkeys(offer.context for offer in offers))
    answers: dict[Path, Status] = {}
    for begin in range(0, len(contexts), _MOST_CONTEXTS):
        chosen = contexts[begin : begin + _MOST_CONTEXTS]
        with associate(peer, _MODALITY, chosen) as association:
            answers |= dict(_answers(association, [offer for offer in offers if offer.context in chosen]))
    return answers


def _answers(association: Requestor, offers: list[_Offer]) -> Iterator[tuple[Path, Status]]:
    for offer in offers:
        yield offer.path, association.store(offer.header.sop_uid, offer.context, [offer.data])


def _successes(answers: dict[Path, Status], offers: list[_Offer]) -> int:
    return sum(answers[offer.path].is_success for offer in offers)


def _counted(told: Counter[str]) -> str:
    return ", ".join(f"{number} times {text}" for text, number in sorted(told.items()))


def _expect_stored(stage: Stage, sent: list[_Offer]) -> None:
    """Verify that index, archive's files and what was sent agree."""
    expected = {offer.header.sop_uid: offer.data for offer in sent}
    objects = evidence.objects(stage.studies, FIRST)
    whole = [o for o in objects if o.path and evidence.digest(o.path) == o.sha256]
    same = [o for o in whole if o.path and evidence.data_set(o.path) == expected.get(o.sop_uid)]
    stage.report.equal("objects in the index", len(objects), len(sent))
    stage.report.equal("files with the SHA-256 of the index", len(whole), len(sent))
    stage.report.equal("data sets in them, byte for byte what was sent", len(same), len(sent))
