"""Pipes, devices, folders and circles of links where a file of a dataset is expected: one line each, and no waiting."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image

Command = Callable[..., tuple[int, str, str]]
Put = Callable[[str, Path], None]

KINDS = {
    "pipe": "no regular file",
    "folder": "no regular file",
    "device": "no regular file",
    "circle": "Too many levels of symbolic links",
}
IN_THE_PLACE_OF = ["images/a.png", "masks/a.png", "labelled.txt", "val.txt", "classes.yaml", "images/c.png"]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A command that waits for a pipe is ended."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of layout folder: a and b have masks, c has none; and its spec."""
    root = tmp_path / "leaves"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for place, id in enumerate("abc"):
        Image.fromarray(np.full((16, 16, 3), 40 * place, np.uint8)).save(root / "images" / f"{id}.png")
    for id in "ab":
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(root / "masks" / f"{id}.png")
    (root / "labelled.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    (root / "unlabelled.txt").write_text("c\n")
    (root / "classes.yaml").write_text("- {name: ground}\n- {name: leaf}\n")
    (root / "advseg.yaml").write_text(
        "{job: train, name: leaves, dataset: {layout: folder, root: .}, model: {architecture: compact, width: 8}, "
        "method: {name: supervised}, trainer: {steps: 2, batch_size: 2, augmentation: {crop: [16, 16]}}}"
    )
    return root


@pytest.mark.parametrize(
    ("verb", "name", "kind"),
    [
        *(("check", name, kind) for name in IN_THE_PLACE_OF for kind in KINDS),
        *((verb, name, "pipe") for name in IN_THE_PLACE_OF for verb in ("pack", "train")),
    ],
)
def test_is_told_in_a_line_by_what_reads_a_dataset(
    advseg: Command, put_odd: Put, folder: Path, verb: str, name: str, kind: str
) -> None:
    put_odd(kind, folder / name)
    command = ["train"] if verb == "train" else ["data", verb]
    arguments = [folder / "advseg.yaml", *(["pack"] if verb == "pack" else ["--to", "run"] if verb == "train" else [])]
    status, _, err = advseg(*command, *arguments)
    assert status == 2
    assert str(folder / name) in err
    assert KINDS[kind] in err
    assert "Traceback" not in err
    assert not Path("pack").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["images/a.png", "masks/a.png"])
def test_is_told_in_a_line_by_what_begins_one(
    advseg: Command, put_odd: Put, folder: Path, name: str, kind: str
) -> None:
    for each in ("labelled.txt", "val.txt", "unlabelled.txt", "classes.yaml", "advseg.yaml"):
        (folder / each).unlink()
    put_odd(kind, folder / name)
    status, out, err = advseg("data", "init", folder)
    assert (status, out) == (2, "")
    assert f"{folder / name} cannot be read ({KINDS[kind]})" in err
    assert sorted(path.name for path in folder.iterdir()) == ["images", "masks"]


@pytest.mark.parametrize("kind", KINDS)
def test_is_told_in_a_line_where_a_pack_is_read(advseg: Command, put_odd: Put, folder: Path, kind: str) -> None:
    assert advseg("data", "pack", folder / "advseg.yaml", "pack")[0] == 0
    for name in ("labelled-00000.arrow", "pack.json"):
        shutil.copytree("pack", "odd")
        put_odd(kind, Path("odd") / name)
        status, _, err = advseg("data", "check", folder / "advseg.yaml", "--set=dataset.pack=odd")
        assert (status, err.count("\n")) == (2, 1)
        assert name in err
        shutil.rmtree("odd")
