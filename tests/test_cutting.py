"""Items are cut out of a document byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow_outbox import PREDEFINED
from orderflow_outbox.documents import read_document
from worker.documents import cut, is_of_one_item, items_of

ITEMS = [
    b"<import/>",
    b"<import></import>",
    b"<import type='order' externalReference=\"a>b\"/>",
    b'<import externalReference="a/>b" >x</import >',
    b"<import><![CDATA[<import></import> & ]]></import>",
    "<import externalReference='Zoë'>日本 &amp; &#233;<!-- <import/> --></import>".encode(),
    b"<import><line>1</line>\r\n<line/></import\n>",
]
BETWEEN = [b"", b"\n", b"<!-- <import/> -->", b"\r\n\t "]
BEGINNINGS = [b"<imports>", b"<?xml version='1.0'?>\n<imports a='>'>", b"\xef\xbb\xbf<imports >\n"]
ENDS = [b"</imports>", b"\n</imports >\n<!-- end -->"]


@given(
    items=st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6),
    beginning=st.sampled_from(BEGINNINGS),
    between=st.sampled_from(BETWEEN),
    end=st.sampled_from(ENDS),
    data=st.data(),
)
def test_an_items_bytes_are_those_that_were_given(
    items: list[bytes], beginning: bytes, between: bytes, end: bytes, data: st.DataObject
) -> None:
    document = beginning + between.join(items) + end
    found = items_of(document)
    assert [document[each.start : each.end] for each in found] == items
    places = data.draw(st.sets(st.integers(1, len(items)), min_size=1))
    kept = [item for n, item in enumerate(items, 1) if n in places]
    child = cut(document, found, places)
    assert child == beginning + b"\n".join(kept) + end
    assert [child[each.start : each.end] for each in items_of(child)] == kept
    assert read_document(PREDEFINED["order-import"], child).payload == child


def test_what_an_item_says_is_read_as_when_it_was_enqueued() -> None:
    document = b"<imports>" + b"".join(ITEMS) + b"</imports>"
    checked = read_document(PREDEFINED["order-import"], document).imports
    assert tuple(each.found for each in items_of(document)) == checked


@pytest.mark.parametrize("item", ITEMS)
def test_a_document_that_is_said_to_hold_one_item_does(item: bytes) -> None:
    for count in (1, 2):
        document = b"<imports>" + item * count + b"</imports>"
        assert not is_of_one_item(document) or len(items_of(document)) == 1
    assert is_of_one_item(b"<imports><import externalReference='SO-1'>state=created</import></imports>")
