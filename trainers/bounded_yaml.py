"""YAML from anybody: read without code, within bounds of size, depth and expansion, and with one value a key."""

from collections.abc import Hashable
from typing import Any

import yaml

from .errors import brief

MOST_CHARACTERS = 2**18
"""Of a document, also once its aliases are expanded."""
MOST_VALUES = 10_000
"""Keys and values of a document, unless a caller allows more; those that aliases repeat count each time."""
DEEPEST = 32
"""Levels of mappings and lists within each other."""
_LONGEST_NUMBER = 100
"""Digits of a whole number that is looked at, in whatever base."""
_MERGE = "tag:yaml.org,2002:merge"
_MEANT = {
    "'\\t'": "a tab, where YAML takes spaces alone",
    "expected <block end>": "a line that is indented neither as the one before it nor as any section that it may be in",
    "mapping values are not allowed": "a second colon, or a line that is indented too far: quote text that holds `: `",
}
"""What words of PyYAML's mean to whoever wrote the file."""


class YamlError(ValueError):
    """What is wrong with a document, in one line."""


def read_yaml(text: str | bytes, *, most: int = MOST_VALUES) -> Any:
    """What a YAML document says, of at most so many keys and values. Raises YamlError.

    Bounds are checked before anything is built: a few aliases of aliases would make gigabytes.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"it has {len(text):,} characters, but may have {MOST_CHARACTERS:,}")
    try:
        loader = _Loader(text, most)
    except (yaml.YAMLError, UnicodeError) as error:
        raise YamlError(_reason(error)) from None
    try:
        return loader.get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(_reason(error)) from None
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
        # PyYAML's own of what looks like a number or a date but is none, such as 2026-02-30, or of a wrong tag.
        raise YamlError(f"a value is not what it looks like ({_reason(error)})") from None
    finally:
        loader.dispose()


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return brief(" ".join(str(error).split()), 300)
    problem = str(getattr(error, "problem", "")) or "something is wrong"
    meant = next((meant for words, meant in _MEANT.items() if words in problem), problem)
    return brief(f"line {mark.line + 1}, column {mark.column + 1}: {meant}", 300)


class _Loader(yaml.SafeLoader):
    """YAML without code, in which a key that is given twice is an error: the first value would be lost unseen."""

    def __init__(self, text: str | bytes, most: int) -> None:
        super().__init__(text)
        self._most, self._composed, self._depth = most, 0, 0
        self._sizes: dict[yaml.Node, tuple[int, int, int] | None] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, unless there are too many of them or they are nested too deeply."""
        self._composed += 1
        self._depth += 1
        if self._composed > self._most:
            raise yaml.YAMLError(f"it has more than {self._most:,} keys and values")
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested too deeply: at most {DEEPEST} levels are read")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """The root, unless its aliases make too much of it."""
        root = super().get_single_node()
        if root is not None:
            values, characters, depth = self._size(root)
            if values > self._most:
                raise yaml.YAMLError(
                    f"its aliases make {brief(f'{values:,}')} values of it; at most {self._most:,} are read"
                )
            if characters > MOST_CHARACTERS:
                raise yaml.YAMLError(f"its aliases make more than {MOST_CHARACTERS:,} characters of it")
            if depth > DEEPEST:
                raise yaml.YAMLError(f"it is nested too deeply: at most {DEEPEST} levels are read")
        return root

    def _size(self, node: yaml.Node) -> tuple[int, int, int]:
        """Values, characters and levels of a node with its aliases expanded."""
        if node in self._sizes:
            if (known := self._sizes[node]) is None:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1} holds an alias of itself")
            return known
        self._sizes[node] = None
        match node:
            case yaml.MappingNode():
                parts = [self._size(part) for pair in node.value for part in pair]
            case yaml.SequenceNode():
                parts = [self._size(part) for part in node.value]
            case _:
                parts = [(0, len(node.value), 0)]
        values, characters, depths = zip(*parts, strict=True) if parts else ((), (), (0,))
        size = 1 + sum(values), sum(characters), 1 + max(depths)
        self._sizes[node] = size
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node, whose own keys all differ."""
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            # `<<` brings in the keys of another mapping, which this one's own may replace.
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE:
                key, line = self.construct_object(key_node), key_node.start_mark.line + 1
                if key in seen:
                    told = brief(str(key))
                    raise yaml.YAMLError(f"key {told} is given twice, on lines {seen[key]} and {line}: remove one")
                seen[key] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number that any program could hold."""
        short = len(node.value) <= _LONGEST_NUMBER
        number = super().construct_yaml_int(node) if short else None
        if number is None or abs(number) >= 2**64:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"the number on line {line} is too large: whole numbers of up to 64 bits are read")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
