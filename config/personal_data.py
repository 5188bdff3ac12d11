"""Which fields of documents hold what is known of a person."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator

from .values import Strict

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")


def _names(value: Any) -> Any:
    for each in value:
        if not _NAME.fullmatch(each):
            raise ValueError(
                f"{each!r} is no name of a field: write it as in documents, without numbers, such as "
                '"deliveryPostCode" or "orderAddress.lastName"'
            )
    return value


class PersonalDataSettings(Strict):
    """The table `personal_data`."""

    fields: Annotated[tuple[str, ...], AfterValidator(_names)] = ()
