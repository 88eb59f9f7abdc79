"""LDIF: what RFC 2849 allows is read, what it does not is named, and a change touches nothing else."""

from __future__ import annotations

import io
import stat
import threading
from pathlib import Path

import ldif
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import ldif_records, source
from config.entry import Entry, from_json, to_json
from config.errors import ConfigError, EntryNotFound, MalformedLdif, SettingsError, SourceUnavailable
from config.ldif_source import LdifSource

TEXT = b"""version: 1

# a comment
  that goes on
dn: cn=a,dc=org
objectClass: top
CN: a
description: one
# between
description:: dMO8cg==
description: a long
  line

dn: cn=b,dc=org
cn: b
jpegPhoto:: /9j/AA==
"""

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True).filter(lambda n: n.lower() != "dn")
attributes = st.dictionaries(names, st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=3), max_size=4)


def entries_of(data: bytes) -> list[Entry]:
    return [record.entry for record in ldif_records.parse(data, "f").records]


def test_folded_lines_base64_and_comments_are_read() -> None:
    first, second = entries_of(TEXT)

    assert first == Entry(
        "cn=a,dc=org", {"objectClass": ["top"], "CN": ["a"], "description": ["one", "tür", "a long line"]}
    )
    assert second.values("JPEGPHOTO")[0].encode("utf-8", "surrogateescape") == b"\xff\xd8\xff\x00"


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    assert entries_of(b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n")) == entries_of(TEXT)


@given(attributes)
def test_what_another_writer_writes_is_read(content: dict[str, list[str]]) -> None:
    lowered = {name.lower(): values for name, values in content.items() if name.lower() not in {"changetype"}}
    file = io.BytesIO()
    writer = ldif.LDIFWriter(file, base64_attrs=list(lowered))
    writer.unparse("cn=a,dc=org", lowered)

    assert entries_of(file.getvalue()) == [Entry("cn=a,dc=org", lowered)]


@given(attributes)
def test_what_is_written_is_read_by_another_reader(content: dict[str, list[str]]) -> None:
    lowered = {name.lower(): values for name, values in content.items() if name.lower() not in {"changetype"}}
    text = ldif_records.written([Entry("cn=a,dc=org", lowered)])

    _version, (name, found) = ldif.LDIFParser(io.BytesIO(text.encode("ascii"))).parse()
    assert (name, dict(found)) == ("cn=a,dc=org", lowered)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (b"dn: cn=a\nfoo bar\n", 2, "'attribute: value'"),
        (b"version: 2\n", 1, "version: 1"),
        (b"cn: a\n", 1, "'dn: ...' as the first line"),
        (b"dn: cn=a\ncn: a\ndn: cn=b\n", 3, "an empty line"),
        (b"dn: cn=a\ncn:: !!!\n", 2, "valid base64"),
        (b"dn: cn=a\ncn: \xff\n", 2, "UTF-8"),
        (b"dn: cn=a\nphoto:< file:///x\n", 2, "the value itself"),
        (b"dn: cn=a\nchangetype: delete\n", 2, "not a change record"),
        (b"\n continued\n", 2, "a line before it"),
        (b"dn: nonsense\n", 1, "a distinguished name"),
        (b"dn: cn=a\ncn: a\n\ndn: CN=A\ncn: A\n", 4, "each entry once, this one is at line 1 too"),
        (b"dn: cn=a\n: a\n", 2, "'attribute: value'"),
        (bytes(range(128, 160)) + b"\x00\n", 1, "'attribute: value'"),
    ],
)
def test_malformed_line_is_named(text: bytes, line: int, expected: str) -> None:
    with pytest.raises(MalformedLdif, match=expected) as caught:
        ldif_records.parse(text, "cluster.ldif")

    assert caught.value.line == line
    assert str(caught.value).startswith("cluster.ldif line ")
    assert "\n" not in str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> LdifSource:
    path = tmp_path / "cluster.ldif"
    path.write_bytes(TEXT)
    return LdifSource(path)


def test_change_of_one_value_leaves_every_other_byte(file: LdifSource) -> None:
    file.write_attribute("CN=A, dc=ORG", "Description", ["one", "two", "a long line"])

    assert file.path.read_bytes() == TEXT.replace(b"description:: dMO8cg==", b"description: two")


def test_new_values_come_after_the_old_ones(file: LdifSource) -> None:
    file.modify("cn=a,dc=org", {"description": ["one", "tür", "a long line", " blank"], "street": ["x"]})

    expected = b"description: a long\n  line\ndescription:: IGJsYW5r\nstreet: x\n"
    assert file.path.read_bytes() == TEXT.replace(b"description: a long\n  line\n", expected)


def test_no_values_remove_the_attribute_and_keep_its_comments(file: LdifSource) -> None:
    file.write_attribute("cn=a,dc=org", "description", [])

    assert b"description" not in file.path.read_bytes()
    assert b"CN: a\n# between\n\ndn: cn=b" in file.path.read_bytes()


def test_last_line_without_an_end_gets_one(file: LdifSource) -> None:
    file.path.write_bytes(TEXT.rstrip(b"\n"))

    file.write_attribute("cn=b,dc=org", "description", ["x"])

    assert file.path.read_bytes() == TEXT + b"description: x\n"


def test_windows_line_ends_stay(file: LdifSource) -> None:
    file.path.write_bytes(TEXT.replace(b"\n", b"\r\n"))

    file.write_attribute("cn=b,dc=org", "description", ["x"])

    assert file.path.read_bytes() == (TEXT + b"description: x\n").replace(b"\n", b"\r\n")


@given(attributes, attributes)
def test_any_change_is_read_back(before: dict[str, list[str]], changes: dict[str, list[str]]) -> None:
    held = {name.lower(): values for name, values in before.items() if name.lower() != "changetype"}
    wanted = {name.lower(): values for name, values in changes.items() if name.lower() != "changetype"}
    other = Entry("cn=b,dc=org", {"cn": ["b"]})
    text = ldif_records.written([Entry("cn=a,dc=org", held), other]).encode("ascii")
    document = ldif_records.parse(text, "f")

    changed = entries_of(ldif_records.modified(document, document.records[0], wanted))

    assert changed == [Entry("cn=a,dc=org", held | wanted), other]


def test_what_names_the_entry_stays(file: LdifSource) -> None:
    with pytest.raises(ConfigError, match="expected 'a', the entry is named by it"):
        file.write_attribute("cn=a,dc=org", "cn", ["b"])

    assert file.path.read_bytes() == TEXT


def test_unknown_entry_is_named(file: LdifSource) -> None:
    with pytest.raises(EntryNotFound, match=r"cn=c,dc=org.*expected the DN of an entry"):
        file.write_attribute("cn=c,dc=org", "cn", ["b"])


def test_change_that_is_not_accepted_is_not_written(file: LdifSource) -> None:
    def refuse(entries: list[Entry]) -> None:
        assert entries[0].values("description") == ["x"]
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        file.modify("cn=a,dc=org", {"description": ["x"]}, refuse)

    assert file.path.read_bytes() == TEXT


def test_fingerprint_changes_with_the_file_only(file: LdifSource) -> None:
    before = file.fingerprint()
    file.write_attribute("cn=a,dc=org", "description", ["one", "tür", "a long line"])
    assert file.fingerprint() == before

    file.write_attribute("cn=a,dc=org", "description", ["two", "tür", "a long line"])
    assert file.fingerprint() != before


def test_mode_and_link_stay(file: LdifSource, tmp_path: Path) -> None:
    file.path.chmod(0o640)
    link = tmp_path / "link.ldif"
    link.symlink_to(file.path)

    LdifSource(link).write_attribute("cn=b,dc=org", "description", ["x"])

    assert link.is_symlink()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640
    assert file.path.read_bytes().endswith(b"description: x\n")


def test_two_writers_do_not_lose_each_others_changes(file: LdifSource) -> None:
    def write(attribute: str) -> None:
        for number in range(10):
            LdifSource(file.path).write_attribute("cn=b,dc=org", attribute, [str(number)])

    writers = [threading.Thread(target=write, args=(f"x-{number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    entry = file.entries()[1]
    assert [entry.values(f"x-{number}") for number in range(4)] == [["9"]] * 4
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["cluster.ldif", "cluster.ldif.lock"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    missing = LdifSource(tmp_path / "none.ldif")

    with pytest.raises(SourceUnavailable, match=r"none\.ldif: No such file"):
        missing.fingerprint()
    with pytest.raises(SourceUnavailable, match=r"none\.ldif: No such file"):
        missing.entries()


def test_binary_values_survive_json() -> None:
    entry = Entry("cn=a", {"photo": [b"\xff\x00".decode("utf-8", "surrogateescape"), "a\x00", "tür"]})

    assert from_json(to_json(entry)) == entry


def test_home_gets_the_sample_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = source.open_source(None, home)
    (home / "config.ldif").write_bytes(TEXT)

    assert source.open_source(None, home).entries() == entries_of(TEXT)
    assert made.url == (home / "config.ldif").as_uri()
    assert [path.name for path in home.iterdir()] == ["config.ldif"]


def test_file_url_is_read_with_its_escapes(tmp_path: Path) -> None:
    path = tmp_path / "a b.ldif"
    path.write_bytes(TEXT)

    assert source.open_source(path.as_uri(), tmp_path / "unused").entries() == entries_of(TEXT)


@pytest.mark.parametrize(
    "url", ["ldap://u:p@host:389/dc=org", "ldaps://host/dc=org", "http://host/x", "x.ldif", "file:x"]
)
def test_other_sources_are_refused_by_name(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ARCFLEET_CONFIG_URL=.*expected file:///PATH\.ldif") as caught:
        source.open_source(url, tmp_path)

    assert "u:p" not in str(caught.value)
