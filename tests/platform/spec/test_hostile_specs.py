"""Whatever stands in a spec or behind `--set`: it is read, or refused in words, soon and briefly."""

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.errors import UserError

WriteSpec = Callable[[dict[str, Any]], Path]

LONGEST = 60_000
"""Characters of a message."""
SECONDS = 20
"""Of this process's time; what is not bounded takes minutes."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=8),
    st.dates(),
    st.sampled_from([10**40, -(10**40), "a" * 1000, "~", "../x", "s3://a@b/c?d", "\0", "1e400", "null", "9" * 60]),
)
keys = st.one_of(
    st.sampled_from(["name", "root", "low", "high", "step", "choices", "lr", "min_resource", "crop", "0", "a.b"]),
    scalars,
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
TEXTS = st.text(st.characters(), max_size=60)
NAMES = ("dataset", "method", "trainer", "sweep", "model", "storage", "ledger", "published", "space", "choices", "low")
SETS = st.builds(
    "{}={}".format,
    st.lists(st.sampled_from(NAMES) | TEXTS, max_size=4).map(".".join),
    TEXTS | documents.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)
hostile = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@contextmanager
def answered() -> Iterator[list[str]]:
    """Nothing but a UserError may come, and its message, which is given, may be neither late nor long."""
    began, said = time.process_time(), []
    try:
        yield said
    except UserError as error:
        said.append(str(error))
        assert len(str(error)) < LONGEST
    assert time.process_time() - began < SECONDS


def places_of(document: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places of a document: where something else might stand."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place, *(found for key, each in inner for found in places_of(each, (*place, key)))]


@hostile
@given(data=st.data(), value=documents)
def test_any_value_at_any_place_is_answered(
    data: st.DataObject, value: Any, document: dict[str, Any], write_spec: WriteSpec
) -> None:
    *path, name = data.draw(st.sampled_from(places_of(document)[1:]))
    changed = copy.deepcopy(document)
    section: Any = changed
    for part in path:
        section = section[part]
    section[name] = value
    spec = write_spec(changed)
    with answered():
        load_spec(spec)


@hostile
@given(value=documents, key=keys)
def test_any_key_beside_the_others_is_answered(
    value: Any, key: Any, document: dict[str, Any], write_spec: WriteSpec
) -> None:
    spec = write_spec({**document, key: value})
    with answered():
        load_spec(spec, ["trainer.steps=9"])


@hostile
@given(content=st.binary(max_size=200) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_answered(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with answered():
        load_spec(path)


@hostile
@given(overrides=st.lists(SETS | TEXTS, min_size=1, max_size=3))
def test_any_override_is_answered(overrides: list[str], document: dict[str, Any], write_spec: WriteSpec) -> None:
    spec = write_spec(document)
    with answered():
        load_spec(spec, overrides)


def bomb(kind: str) -> str:
    """A YAML text of aliases of aliases, whose last anchor is `z`; there are billions of values in it."""
    anchors = [f"&{chr(97 + level)} " for level in range(25)] + ["&z "]
    lines = ["bombs:", f"  - {anchors[0]}{{k0: x}}" if kind == "merge" else f"  - {anchors[0]}[x, x]"]
    for level, anchor in enumerate(anchors[1:]):
        inside = f"*{chr(97 + level)}"
        body = f"{{<<: [{inside}, {inside}, {inside}]}}" if kind == "merge" else f"[{inside}, {inside}, {inside}]"
        lines.append(f"  - {anchor}{body}")
    return "\n".join(lines)


@pytest.mark.parametrize("kind", ["alias", "merge"])
@pytest.mark.parametrize(
    "key", ["dataset", "dataset.classes", "sweep.space", "name", "trainer.augmentation", "nothing"]
)
def test_a_bomb_in_any_key_goes_off_nowhere(kind: str, key: str, document: dict[str, Any], tmp_path: Path) -> None:
    section: Any = document
    *path, name = key.split(".")
    for part in path:
        section = section.setdefault(part, {})
    section[name] = "BOMB"
    path_of_spec = tmp_path / "spec.yaml"
    path_of_spec.write_text(f"{bomb(kind)}\n{yaml.safe_dump(document).replace('BOMB', '*z')}")
    with answered() as said:
        load_spec(path_of_spec)
    assert "its aliases make" in said[0] and "at most 10,000 are read" in said[0]


@pytest.mark.parametrize("kind", ["alias", "merge"])
def test_a_bomb_goes_off_in_no_override(kind: str, document: dict[str, Any], write_spec: WriteSpec) -> None:
    inline = {
        "alias": "[&a [x, x], &b [*a, *a], &c [*b, *b]",
        "merge": "[&a {k: x}, &b {<<: [*a, *a]}, &c {<<: [*b, *b]}",
    }
    text = inline[kind]
    for level in range(3, 24):
        below, own = chr(96 + level), chr(97 + level)
        text += f", &{own} [*{below}, *{below}]" if kind == "alias" else f", &{own} {{<<: [*{below}, *{below}]}}"
    spec = write_spec(document)
    with answered() as said:
        load_spec(spec, [f"dataset.classes={text}]"])
    assert "its aliases make" in said[0]


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        (f"trainer.steps={'9' * 400}", "the number on line 1 is too large: whole numbers of up to 64 bits are read"),
        (f"trainer.steps={'9' * 60}", "the number on line 1 is too large"),
        (f"resources.cpus_per_worker={'9' * 400}", "the number on line 1 is too large"),
        ('storage="a\\0b"', "storage: holds a NUL character"),
        ('dataset.root="a\\0b"', "dataset.root: holds a NUL character"),
        ('dataset.labelled="a/\\0b.txt"', "dataset.labelled: holds a NUL character"),
        ('model.weights="a\\0b"', "model.weights: holds a NUL character"),
        (".".join(["a"] * 3000) + "=1", "names a key of 3000 parts, but no key has more than 16"),
        ("trainer.steps=" + "[" * 3000, "it is nested too deeply"),
        ("trainer.steps=" + "[" * 20 + "]" * 20, "trainer.steps: must be a whole number, but is [[["),
        ("dataset.root=" + "a" * 10_000, "does not exist"),
        ("a" * 10_000 + "=1", "unknown key"),
        ("trainer.steps=" + "a" * 100_000, "trainer.steps: must be a whole number, but is 'aaa"),
        ("name=" + "a" * 100_000, "name: must be 2 to 63 lower-case letters"),
        ("model.architecture=" + "a" * 100_000, "model.architecture: must be one of"),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_too_large_is_told_in_a_line(
    override: str, answer: str, document: dict[str, Any], write_spec: WriteSpec
) -> None:
    spec = write_spec(document)
    with answered() as said:
        load_spec(spec, [override])
    assert answer in said[0]
    assert max(map(len, said[0].split("\n"))) < 2000


def test_of_thousands_of_problems_the_first_are_told(document: dict[str, Any], write_spec: WriteSpec) -> None:
    trainer = document["trainer"] | {f"key{number}": 1 for number in range(3000)}
    spec = write_spec({**document, "trainer": trainer})
    with answered() as said:
        load_spec(spec)
    assert said[0].startswith("50 problems or more in ")
    assert len(said[0].split("\n")) == 51


def test_thousands_of_keys_and_choices_of_a_sweep_are_refused(document: dict[str, Any], write_spec: WriteSpec) -> None:
    spaces = [
        {f"trainer.key{number}": {"low": 0, "high": 1} for number in range(500)},
        {"trainer.seed": {"choices": list(range(5000))}},
    ]
    for space, answer in zip(spaces, ("at most 64 values", "at most 1000 values"), strict=True):
        spec = write_spec({**document, "sweep": {"trials": 1, "space": space}})
        with answered() as said:
            load_spec(spec)
        assert answer in said[0]
        assert len(said[0].split("\n")) <= 51


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("a: b\n" * 100_000)
    with answered() as said:
        load_spec(tmp_path / "spec.yaml")
    assert said == [f"spec {tmp_path}/spec.yaml cannot be read: it has 500,000 characters, but may have 262,144"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec.yaml")
    with answered() as said:
        load_spec(tmp_path / "spec.yaml")
    assert said == [f"spec {tmp_path}/spec.yaml cannot be read: no regular file"]


def test_links_that_lead_in_a_circle_are_refused(
    document: dict[str, Any], write_spec: WriteSpec, tmp_path: Path
) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "about")
    (tmp_path / "about").symlink_to(tmp_path / "round")
    with answered() as said:
        load_spec(tmp_path / "round")
    assert "cannot be read: Too many levels of symbolic links" in said[0]
    spec = write_spec(document)
    with answered() as said:
        load_spec(spec, [f"dataset.root={tmp_path}/round"])
    assert "round does not exist" in said[0]
