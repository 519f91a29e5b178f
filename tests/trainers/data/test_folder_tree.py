import unicodedata
from pathlib import Path

import pytest

from advseg.trainers.data.folder_tree import read_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    return tmp_path


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    "mask",
    ["a.png", "a.PNG", "a.tif", "a.TIFF", "a.bmp", "a.webp", "a_mask.png", "a-mask.PNG", "a.jpg.png", "a_gt.tif"],
)
def test_a_mask_belongs_to_the_image_of_its_name(root, mask):
    put(root, "images/deep/a.jpg", f"masks/deep/{mask}")

    tree = read_folder(root)

    assert tree.masks == {"deep/a": root / "masks" / "deep" / mask}
    assert not (tree.strays or tree.seconds or tree.left_out)


def test_the_very_name_comes_first_and_the_second_mask_is_told(root):
    put(root, "images/a.jpg", "images/a_mask.jpg", "masks/a_mask.png", "masks/a.png", "masks/a.jpg.png", "masks/b.png")

    tree = read_folder(root)

    assert tree.masks == {"a": root / "masks/a.png", "a_mask": root / "masks/a_mask.png"}
    assert tree.seconds == ((root / "masks/a.png", root / "masks/a.jpg.png"),)
    assert tree.strays == (root / "masks/b.png",)


def test_letters_are_the_same_however_their_accents_are_written(root):
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    put(root, f"images/{composed}.jpg", f"masks/{apart}.png")
    assert read_folder(root).masks == {composed: root / f"masks/{apart}.png"}

    put(root, f"images/{apart}.jpg")
    assert len(read_folder(root).twins) == 1


def test_links_to_folders_are_followed_and_no_folder_is_read_twice(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put(elsewhere, "b.jpg", "more/c.jpg")
    put(root, "images/z/a.jpg")
    for name, target in {
        "linked": elsewhere,
        "again": elsewhere,
        "early": root / "images/z",
        "circle": root / "images",
    }.items():
        (root / "images" / name).symlink_to(target)
    (root / "images/loop").symlink_to("loop")

    tree = read_folder(root)

    assert list(tree.images) == ["again/b", "again/more/c", "z/a"]
    links = (root / "images" / name for name in ("circle", "early", "linked"))
    assert tree.left_out == {
        root / "images": ", ".join(["1 loop", *(f"{link}, a second link to a folder" for link in links)])
    }


def test_what_is_not_read_is_counted(root):
    put(root, "images/a.jpg", "images/b.gif", "images/c.GIF", "images/deep/d.heic", "images/Makefile", "images/._a.jpg")
    put(root, "images/.ipynb_checkpoints/a-checkpoint.jpg", "masks/a.gif")

    tree = read_folder(root)

    assert list(tree.images) == ["a"]
    assert tree.left_out == {
        root / "images": "2 .gif, 1 .heic, 1 Makefile, 2 hidden",
        root / "masks": "1 .gif",
    }
