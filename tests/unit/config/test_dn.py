"""Distinguished names: equal ones compare equal, any value survives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import dn


@given(st.text(min_size=1).filter(lambda value: value.strip()), st.text(min_size=1))
def test_any_value_can_stand_in_a_name(value: str, below: str) -> None:
    name = dn.child("cn", value, "dc=org")

    assert dn.first_rdn(name) == [("cn", value)]
    assert dn.parse(dn.child("cn", below, name))[1:] == dn.parse(name)
    assert dn.parent(dn.child("cn", below, name)) == name


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("cn=http,dc=org", "CN=HTTP , DC=Org"),
        (r"cn=a\,b,dc=org", r"cn=a\2Cb,dc=org"),
        (r"cn=f\C3\BCr,dc=org", "cn=für,dc=org"),
        ("dicomHostname=h+dicomPort=1,dc=org", "dicomPort=1+dicomHostname=H,dc=org"),
    ],
)
def test_names_that_mean_the_same_are_equal(left: str, right: str) -> None:
    assert dn.parse(left) == dn.parse(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("dicomAETitle=PACS,dc=org", "dicomAETitle=pacs,dc=org"),
        ("dcmQueueName=Export,dc=org", "dcmQueueName=EXPORT,dc=org"),
        (r"cn=a\,dc=org", "cn=a,dc=org"),
    ],
)
def test_names_that_mean_different_entries_differ(left: str, right: str) -> None:
    assert dn.parse(left) != dn.parse(right)


@pytest.mark.parametrize("text", ["", "foo", "cn=a,", "=a", "cn=a;dc=b", 'cn="a"', "cn=a\\", "cn=a,,dc=b", "1.=a"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="distinguished name"):
        dn.parse(text)
