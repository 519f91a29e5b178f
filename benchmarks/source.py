"""Makes `advseg` importable from this checkout on a machine where it is not installed, as a bare GPU machine."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

if find_spec("advseg") is None:
    package = ModuleType("advseg")
    package.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["advseg"] = package
