"""A first spec for a user's own images, with the lists and class names that it needs beside them.

What is there already is kept.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..models.decoding import PLAIN, Decoding
from ..trainers.data.division import GivenParts, draw_validation, given_parts
from ..trainers.data.found_classes import find_classes
from ..trainers.data.notes import FEW, few_note
from ..trainers.data.survey import survey
from ..trainers.errors import UserError
from ..trainers.pace import measure_pace
from .first_classes import first_classes, said_of_contour
from .measured_spec import MeasurePace, measured_spec
from .survey_said import said_of, said_of_unlisted

SPEC = "advseg.yaml"


def init_data(folder: Path, seed: int, decoding: Decoding = PLAIN, pace_of: MeasurePace = measure_pace) -> list[str]:
    """Write classes.yaml, the lists and the spec to a folder of images/ and masks/; return what there is to say.

    Raises UserError, and leaves nothing, for a folder that cannot be trained on.
    """
    found = survey(folder, decoding)
    _refuse_half_a_draw(folder)
    said = [*said_of(found), *_said_of_parts(given := given_parts(found.pairs, found.unlabelled))]
    given = given or GivenParts()
    found = replace(found, unlabelled=tuple(id for id in found.unlabelled if id not in given.bare))
    validation = given.validation or draw_validation([pair for pair in found.pairs if pair.id not in given.test], seed)
    judging = validation | given.test
    if len(validation) < FEW and not (folder / "val.txt").exists():
        said.append(few_note(len(validation)))
    said += said_of_unlisted(folder, found, given)

    def classes_text() -> str:
        classes = find_classes(found.pairs)
        if classes.contour:
            said.append(said_of_contour(classes.contour, folder / "classes.yaml"))
        return first_classes(classes, len(found.pairs))

    def spec_text() -> str:
        text, takes = measured_spec(folder, found.sizes, decoding, pace_of)
        said.append(takes)
        return text

    contents: dict[str, Callable[[], str]] = {
        "classes.yaml": classes_text,
        "labelled.txt": lambda: _list_text(pair.id for pair in found.pairs if pair.id not in judging),
        "val.txt": lambda: _list_text(pair.id for pair in found.pairs if pair.id in validation),
        "test.txt": lambda: _list_text(pair.id for pair in found.pairs if pair.id in given.test),
        "unlabelled.txt": lambda: _list_text(found.unlabelled),
        # The last, as it is measured on what the others say.
        SPEC: spec_text,
    }
    if not found.unlabelled:
        del contents["unlabelled.txt"]
    if not given.test or ((folder / "labelled.txt").exists() and not (folder / "test.txt").exists()):
        # Beside lists of before, an image might be on both.
        del contents["test.txt"]
    _refuse_no_files(folder / name for name in contents)
    missing = [name for name in contents if not (folder / name).exists()]
    _write_all({folder / name: contents[name] for name in missing})
    said += [f"{'written' if name in missing else 'kept   '}  {folder / name}" for name in contents]
    spec = shlex.quote(str(folder / SPEC))
    return [
        *said,
        "next:",
        f"  advseg data check {spec}",
        f"  advseg train {spec}",
        "then a sweep, as the end of the spec says:",
        "  advseg up",
        f"  advseg submit {spec} --follow",
    ]


def _said_of_parts(given: GivenParts | None) -> Iterator[str]:
    if given is None:
        yield "all images with masks, or all but one, lie in folders for validation or tests: that split is not kept"
        return
    if given.validation:
        yield f"validation images are those of the folders, {len(given.validation)} of them; none were drawn"
    if given.test:
        yield f"test images are those of the folders, {len(given.test)} of them; no training reads them"
    if given.bare:
        yield (
            f"left out, as they lie in folders for validation or tests and have no masks: {len(given.bare)} images; "
            f"add them to unlabelled.txt if they are to be learnt from"
        )


def _write_all(texts: Mapping[Path, Callable[[], str]]) -> None:
    """Write new files, all or none: some of them would be kept by the next call, as a user's own."""
    written: list[Path] = []
    try:
        for path, text in texts.items():
            _write_new(path, text(), written)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _write_new(path: Path, text: str, written: list[Path]) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            written.append(path)
            file.write(text)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _refuse_no_files(paths: Iterable[Path]) -> None:
    """What is kept is a file, or leads to one."""
    for path in paths:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is there and no file: remove it, or give it another name")


def _refuse_half_a_draw(folder: Path) -> None:
    """Of a new list beside an old one, images might be on both."""
    there = {name: (folder / name).exists() for name in ("labelled.txt", "val.txt")}
    if (folder / "test.txt").exists():
        there["test.txt"] = True
    if len(set(there.values())) > 1:
        kept, lacking = (next(name for name in there if there[name] == is_there) for is_there in (True, False))
        raise UserError(
            f"{folder / kept} exists, but {lacking} does not: write it, or remove {kept} so that all are drawn"
        )


def _list_text(ids: Iterable[str]) -> str:
    return "".join(f"{id}\n" for id in ids)
