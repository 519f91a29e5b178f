import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from advseg.platform.cluster.opened import digest_of
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.opening import open_store
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.errors import UserError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(shapes: Path, tmp_path: Path) -> Path:
    """A shapes dataset to change."""
    return Path(shutil.copytree(shapes, tmp_path / "shapes"))


@pytest.fixture
def job(document: dict[str, Any], root: Path, tmp_path: Path) -> Path:
    """The spec of a training on it."""
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({**document, "dataset": {**document["dataset"], "root": str(root)}}))
    return path


@pytest.fixture
def packed(advseg: Command, job: Path, tmp_path: Path) -> Path:
    """The pack of that dataset."""
    assert advseg("data", "pack", job, "packs/one")[0] == 0
    return tmp_path / "packs" / "one"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_says_what_it_packed_where_and_how_it_is_read(advseg: Command, job: Path, tmp_path: Path) -> None:
    status, out, err = advseg("data", "pack", job, "packs/one")

    pack = tmp_path / "packs" / "one"
    assert (status, err) == (0, "")
    assert out == f"8 images, 0.00 GB, packed in {pack}\nread them by\n  --set dataset.pack={pack}\n"


def test_the_line_that_it_prints_is_one_that_a_shell_reads(advseg: Command, job: Path, tmp_path: Path) -> None:
    assert f"--set dataset.pack='{tmp_path / 'my pack'}'" in advseg("data", "pack", job, "my pack")[1]


def test_a_training_from_it_needs_no_images_and_ends_in_the_same_model(
    advseg: Command, job: Path, root: Path, packed: Path, tmp_path: Path
) -> None:
    assert advseg("train", job, "--to", "plain")[0] == 0
    shutil.rmtree(root)

    status, _, err = advseg("train", job, "--to", "packed", f"--set=dataset.pack={packed}")

    assert status == 0, err
    for name in ("segmenter.safetensors", "discriminator.safetensors"):
        assert (tmp_path / "plain/model" / name).read_bytes() == (tmp_path / "packed/model" / name).read_bytes()
    assert (tmp_path / "plain/outcome.json").read_bytes() == (tmp_path / "packed/outcome.json").read_bytes()
    plain, panels = contents(tmp_path / "plain/panels"), contents(tmp_path / "packed/panels")
    assert plain
    assert panels == plain


def test_a_model_is_judged_the_same_from_it(
    advseg: Command, job: Path, model: Path, packed: Path, tmp_path: Path
) -> None:
    for name, options in (("plain", []), ("packed", [f"--set=dataset.pack={packed}"])):
        assert advseg("evaluate", model, job, "--to", name, *options)[0] == 0

    plain, found = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("plain", "packed"))
    # Of files that it has not read before, it reads no more than it needs.
    assert plain.pop("dataset").keys() == found.pop("dataset").keys()
    assert found == plain


def test_packing_again_does_nothing_and_says_so(advseg: Command, job: Path, packed: Path) -> None:
    before = {path: path.stat().st_ino for path in packed.iterdir()}

    status, out, _ = advseg("data", "pack", job, packed)

    assert status == 0
    assert out.startswith(f"8 images lie already in {packed}\nread them by")
    assert {path: path.stat().st_ino for path in packed.iterdir()} == before


def test_a_damaged_pack_of_the_same_dataset_is_written_again(advseg: Command, job: Path, packed: Path) -> None:
    before = contents(packed)
    flip(packed / "unlabelled-00000.arrow")

    assert "packed in" in advseg("data", "pack", job, packed)[1]

    assert contents(packed) == before


def test_a_spec_that_names_its_pack_already_is_packed(advseg: Command, job: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(job.read_text())
    document["dataset"]["pack"] = "packs/mine"
    job.write_text(yaml.safe_dump(document))
    assert "dataset.pack: folder" in advseg("data", "check", job)[2]

    assert advseg("data", "pack", job, "packs/mine")[0] == 0

    assert advseg("data", "check", job)[0] == 0


@pytest.mark.parametrize("existing", ["empty folder", "nothing"])
def test_an_empty_folder_is_as_good_as_none(advseg: Command, job: Path, tmp_path: Path, existing: str) -> None:
    if existing == "empty folder":
        (tmp_path / "new").mkdir()

    assert advseg("data", "pack", job, "new")[0] == 0
    assert (tmp_path / "new" / "pack.json").is_file()


def test_of_training_images_at_their_size_a_pack_is_for_trainings_of_that_alone(
    advseg: Command, job: Path, tmp_path: Path
) -> None:
    pack, at = tmp_path / "small", "--set=trainer.resize=[24, 16]"
    only = "training images are at trainer.resize [24, 16]: the pack serves trainings of that alone"
    status, out, _ = advseg("data", "pack", job, pack, "--resized", at)
    assert (status, out.splitlines()[1:]) == (0, [only, "read them by", f"  --set dataset.pack={pack}"])

    assert f"images lie already in {pack}\n{only}\n" in advseg("data", "pack", job, pack, "--resized", at)[1]
    assert advseg("data", "check", job, f"--set=dataset.pack={pack}", at)[0] == 0
    other = "the pack holds training images at trainer.resize [24, 16], but here it is null: restore it, or write"
    for verb in (["data", "check"], ["train"]):
        status, _, err = advseg(*verb, job, f"--set=dataset.pack={pack}")
        assert (status, other in err) == (2, True)
    status, _, err = advseg("data", "pack", job, pack)
    assert status == 2
    assert f"{pack} holds a pack of training images at trainer.resize [24, 16], not at null: name another" in err
    status, _, err = advseg("data", "pack", job, "new", "--resized")
    assert (status, err) == (
        2,
        "error: --resized packs training images at trainer.resize, which the spec does not set: set it, as to "
        "{longer: 640}\n",
    )


def test_a_sweep_of_several_sizes_takes_no_pack_of_one(advseg: Command, job: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(job.read_text())
    document |= {"job": "sweep", "sweep": {"trials": 2, "space": {"trainer.resize.longer": {"low": 24, "high": 32}}}}
    document["trainer"]["resize"] = {"longer": 24}
    job.write_text(yaml.safe_dump(document))
    pack = tmp_path / "small"
    assert advseg("data", "pack", job, pack, "--resized")[0] == 0

    status, _, err = advseg("data", "check", job, f"--set=dataset.pack={pack}")

    assert (status, err.splitlines()[1:]) == (
        2,
        [
            f"  sweep.space.trainer.resize.longer: cannot be varied (24 to 32): the pack {pack} holds training images "
            "at trainer.resize {longer: 24, multiple: 1} alone: remove the key, or name a pack that was written "
            "without --resized"
        ],
    )
    with pytest.raises(UserError, match="cannot be varied"):
        digest_of(load_spec(job, [f"dataset.pack={pack}"], files_elsewhere=True))
    same = [f"dataset.pack={pack}", "sweep.space={trainer.resize.longer: {choices: [24]}}"]
    assert digest_of(load_spec(job, same)) == open_dataset(load_spec(job).dataset).digest


class TestRefuses:
    def assert_refused(self, told: tuple[int, str, str], message: str) -> None:
        status, out, err = told
        assert (status, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_a_place_that_holds_something_else(self, advseg: Command, job: Path, tmp_path: Path, kind: str) -> None:
        place = tmp_path / "thesis"
        if kind == "folder":
            place.mkdir()
        precious = place / "text" if kind == "folder" else place
        precious.write_text("precious")

        told = advseg("data", "pack", job, place)

        self.assert_refused(told, f"{place} exists and is no pack: name a folder that does not exist")
        assert precious.read_text() == "precious"

    def test_a_pack_of_other_settings(self, advseg: Command, job: Path, packed: Path) -> None:
        before = contents(packed)

        told = advseg("data", "pack", job, packed, "--set=dataset.fraction=0.5")

        difference = "dataset.fraction is 0.5, but the pack has 1.0"
        remedy = "name another place, or remove it"
        self.assert_refused(told, f"{packed} holds a pack of other settings ({difference}): {remedy}")
        assert contents(packed) == before

    def test_a_pack_of_other_images(self, advseg: Command, job: Path, root: Path, packed: Path) -> None:
        before = contents(packed)
        first, second = sorted((root / "JPEGImages").iterdir())[:2]
        first.write_bytes(second.read_bytes())

        told = advseg("data", "pack", job, packed)

        self.assert_refused(told, f"{packed} holds a pack of other images, masks or lists (its digest is ")
        assert contents(packed) == before

    def test_a_pack_of_which_only_rubble_is_left(self, advseg: Command, job: Path, packed: Path) -> None:
        (packed / "MANIFEST.json").unlink()

        told = advseg("data", "pack", job, packed)

        self.assert_refused(told, "has no MANIFEST.json: it was never finished: remove it and write it again by")

    def test_a_dataset_that_is_broken_as_opening_it_does(
        self, advseg: Command, job: Path, root: Path, tmp_path: Path
    ) -> None:
        (root / "ImageSets/Segmentation/val.txt").unlink()

        self.assert_refused(advseg("data", "pack", job, "new"), "val.txt does not exist: write one image id per line")
        assert not (tmp_path / "new").exists()

    def test_a_spec_whose_images_are_not_there(self, advseg: Command, job: Path, root: Path, packed: Path) -> None:
        shutil.rmtree(root)

        status, _, err = advseg("data", "pack", job, "new", f"--set=dataset.pack={packed}")

        assert status == 2
        assert "dataset.root: folder" in err


class TestCheckOfAPack:
    def test_shows_what_that_of_the_images_shows(self, advseg: Command, job: Path, packed: Path) -> None:
        plain = advseg("data", "check", job, "--picture=plain.png")[1]

        status, out, err = advseg("data", "check", job, "--picture=packed.png", f"--set=dataset.pack={packed}")

        assert (status, err) == (0, "")
        note = f"note: images and masks are those in the pack {packed}, whatever has become of the files since\n"
        assert out.replace(note, "") == plain.replace("plain.png", "packed.png")
        assert note in out
        assert Path("packed.png").read_bytes() == Path("plain.png").read_bytes()

    def test_finds_a_byte_that_has_changed(self, advseg: Command, job: Path, packed: Path) -> None:
        flip(packed / "validation-00000.arrow")

        status, out, err = advseg("data", "check", job, f"--set=dataset.pack={packed}")

        assert (status, out) == (2, "")
        assert err.startswith(
            f"error: {packed}/validation-00000.arrow differs from its checksum in MANIFEST.json: remove it"
        )
        assert err.count("\n") == 1


class TestInABucket:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache" / "advseg"

    @pytest.fixture
    def place(self, new_bucket: Callable[[str], str], moto_server: str) -> str:
        return f"{new_bucket(moto_server)}/packs/one"

    def test_it_is_packed_once_and_trained_from_to_the_same_model(
        self, advseg: Command, job: Path, root: Path, place: str, cache: Path, tmp_path: Path
    ) -> None:
        assert advseg("train", job, "--to", "plain")[0] == 0
        status, out, err = advseg("data", "pack", job, place)
        assert (status, err) == (0, "")
        assert out == f"8 images, 0.00 GB, packed in {place}\nread them by\n  --set dataset.pack={place}\n"
        keys = open_store(place).keys()
        assert advseg("data", "pack", job, f"{place}/")[1].startswith(f"8 images lie already in {place}\n")
        assert open_store(place).keys() == keys
        shutil.rmtree(root)

        status, _, err = advseg("train", job, "--to", "packed", f"--set=dataset.pack={place}")

        assert status == 0, err
        model = "model/segmenter.safetensors"
        assert (tmp_path / "packed" / model).read_bytes() == (tmp_path / "plain" / model).read_bytes()
        assert len(list(cache.glob("packs/*/*.arrow"))) == 3
        status, out, err = advseg("data", "check", job, "--json", f"--set=dataset.pack={place}")
        assert (status, json.loads(out)["dataset"]) == (0, place), err

    def test_what_a_killed_one_left_is_made_up_for(self, advseg: Command, job: Path, place: str) -> None:
        open_store(place).write("labelled-00000.arrow", b"half")
        open_store(place).write("labelled-00007.arrow", b"another's")

        assert "packed in" in advseg("data", "pack", job, place)[1]

        assert advseg("data", "check", job, f"--set=dataset.pack={place}")[0] == 0
        keys = open_store(place).keys()
        assert "labelled-00007.arrow" not in keys

    @pytest.mark.parametrize(
        ("there", "options", "message"),
        [
            ("thesis.txt", (), "holds something else than a pack: name another place"),
            ("", ("--set=dataset.fraction=0.5",), "holds a pack of other settings (dataset.fraction is 0.5, but the"),
        ],
    )
    def test_what_is_something_else_stays(
        self, advseg: Command, job: Path, place: str, there: str, options: tuple[str, ...], message: str
    ) -> None:
        if there:
            open_store(place).write(there, b"precious")
        else:
            advseg("data", "pack", job, place)
        before = open_store(place).keys()

        status, out, err = advseg("data", "pack", job, place, *options)

        assert (status, out) == (2, "")
        assert err.startswith(f"error: {place} {message}") and err.count("\n") == 1
        assert open_store(place).keys() == before

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("s3://bucket", "s3://bucket is a bucket: name a place in it, as s3://bucket/packs/voc"),
            ("s3://B/x", "s3://B/x names the bucket 'B', but a bucket's name has"),
            ("gs://bucket/x", "gs://bucket/x is an address: name a path here"),
        ],
    )
    def test_a_place_that_is_none_is_told_in_a_line(self, advseg: Command, job: Path, place: str, message: str) -> None:
        status, _, err = advseg("data", "pack", job, place)

        assert status == 2
        assert err.startswith(f"error: {message}") and err.count("\n") == 1
