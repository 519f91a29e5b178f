"""What `--json` prints."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_line(document: Mapping[str, Any]) -> str:
    """A document as one line of JSON, which knows neither NaN nor infinity: they are null."""
    return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value
