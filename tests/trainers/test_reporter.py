import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.pictures.panels import colour, compose, heat
from advseg.trainers.reporter import (
    ConsoleReporter,
    JsonLinesReporter,
    PictureReporter,
    RecordingReporter,
    Report,
    Reporters,
)

METRICS = {"val/miou": 41.27, "loss/ce": 1.2345, "loss/d": 0.3, "lr/segmenter": 0.01}
FIGURES = {"speed/images_per_second": 31.41, "speed/waiting_for_data": 0.021, "memory/peak": 0.9}


def report_of(step: int, **pictures: Image.Image) -> Report:
    files = {f"{name}.png": picture for name, picture in pictures.items()}
    return Report(step=step, steps=10, metrics=METRICS, figures=FIGURES, pictures=files)


def grey(shade: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (shade,) * 3)


def shades_in(folder: Path) -> dict[str, int]:
    """The shade of every grey picture in a folder, by its file's name."""
    return {path.relative_to(folder).as_posix(): Image.open(path).getpixel((0, 0))[0] for path in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({}, ""),
        ({"memory/peak": 0.9}, ""),
        (FIGURES, "  31.4 images/s (2 % waiting for data), 0.90 GiB"),
        (
            {**FIGURES, "speed/matmul_share": 0.412},
            "  31.4 images/s (2 % waiting for data, 41 % of the matmul rate), 0.90 GiB",
        ),
    ],
)
def test_the_console_shows_step_losses_mean_iou_and_what_was_measured_in_a_line(capsys, figures, told):
    ConsoleReporter().report(replace(report_of(5), figures=figures))

    assert capsys.readouterr().out == f"step 5/10  L_ce 1.234  L_d 0.300  mIoU 41.3{told}\n"


def test_json_lines_grow_by_an_object_a_report_also_after_a_restart(tmp_path):
    for step in (5, 10):
        JsonLinesReporter(tmp_path / "log.jsonl").report(report_of(step))

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "metrics": METRICS, "figures": FIGURES} for step in (5, 10)]


@pytest.mark.parametrize("kept", [0, 1, -1])
def test_json_lines_go_on_in_a_new_line_where_a_kill_tore_the_last_one(tmp_path, kept):
    path = tmp_path / "log.jsonl"
    JsonLinesReporter(path).report(report_of(5))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])

    JsonLinesReporter(path).report(report_of(10))

    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10]


def test_json_lines_hold_a_step_once_that_is_reported_again_after_a_kill(tmp_path):
    for steps in ((5, 10), (10, 15)):
        reporter = JsonLinesReporter(tmp_path / "log.jsonl")
        for step in steps:
            reporter.report(report_of(step))

    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [5, 10, 15]


@pytest.mark.parametrize("damage", [b"\0" * 50, b"{", b"[]", b"\xff"])
def test_json_lines_go_on_after_a_line_that_a_power_cut_damaged(tmp_path, damage):
    path = tmp_path / "log.jsonl"
    path.write_bytes(damage + b"\n")

    JsonLinesReporter(path).report(report_of(5))

    assert path.read_bytes().startswith(damage + b"\n{")


@pytest.fixture
def small_files():
    """Files may not become longer than 4 KB, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_line_for_which_there_is_no_room_is_not_there_at_all(tmp_path, small_files):
    path = tmp_path / "log.jsonl"
    reporter = JsonLinesReporter(path)
    reporter.report(report_of(5))
    whole = path.read_bytes()

    for _ in range(2):
        with pytest.raises(OSError, match="File too large"):
            reporter.report(Report(step=10, steps=10, metrics={"x" * 5000: 1.0}))

    assert path.read_bytes() == whole
    reporter.report(report_of(10))
    reporter.report(report_of(10))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10]


def test_each_picture_replaces_the_one_of_its_name(tmp_path):
    reporter = PictureReporter(tmp_path / "run")

    reporter.report(report_of(1, **{"panels/1": grey(10), "newest": grey(11)}))
    reporter.report(report_of(2, **{"panels/2": grey(20), "newest": grey(21)}))
    PictureReporter(tmp_path / "run").report(report_of(2, **{"panels/2": grey(30)}))
    reporter.report(report_of(3))

    assert shades_in(tmp_path / "run") == {"panels/1.png": 10, "panels/2.png": 30, "newest.png": 21}


def test_a_picture_is_never_seen_in_part(tmp_path, monkeypatch):
    reporter = PictureReporter(tmp_path)
    reporter.report(report_of(1, newest=grey(10)))

    def torn(picture: Image.Image, path: Path, **_) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", torn)
    for name in ("newest", "other"):
        with pytest.raises(OSError, match="no space left"):
            reporter.report(report_of(2, **{name: grey(20)}))

    assert [path.name for path in tmp_path.rglob("*.png")] == ["newest.png"]
    assert Image.open(tmp_path / "newest.png").getpixel((0, 0)) == (10, 10, 10)


def test_several_reporters_hear_the_same_in_their_order():
    heard = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def report(self, report: Report) -> None:
            heard.append((self.name, report.step))

    Reporters(Named("a"), Named("b")).report(report_of(1))

    assert heard == [("a", 1), ("b", 1)]


def test_what_one_reporter_raises_stops_the_others():
    class Stop:
        def report(self, report: Report) -> None:
            raise RuntimeError("stop")

    after = RecordingReporter()

    with pytest.raises(RuntimeError, match="stop"):
        Reporters(Stop(), after).report(report_of(1))

    assert after.reports == []


def test_reports_are_equal_by_what_was_learnt_not_by_their_pictures_nor_what_was_measured():
    assert report_of(1, newest=grey(1)) == replace(report_of(1), figures={})
    assert report_of(1) != replace(report_of(1), metrics={})


def test_a_panel_has_a_tile_for_every_title_and_row():
    tiles = [np.full((10, 20, 3), shade, np.uint8) for shade in (0, 255)]

    picture = compose(["left", "right"], [tiles, tiles[::-1]])

    width, height = picture.size
    quarters = [
        picture.getpixel((x, y)) for y in (height // 3, height - height // 6) for x in (width // 4, 3 * width // 4)
    ]
    assert quarters == [(0,) * 3, (255,) * 3, (255,) * 3, (0,) * 3]


def test_a_mask_is_coloured_by_its_palette_and_grey_where_ignored():
    rgb = colour(np.array([[0, 1, 255]], np.uint8), [(1, 2, 3), (4, 5, 6)], 255)

    assert rgb.tolist() == [[[1, 2, 3], [4, 5, 6], [220, 220, 220]]]
    assert rgb.dtype == np.uint8


def test_confidence_runs_from_blue_over_white_to_red():
    low, middle, high = heat(np.array([[0.0, 0.5, 1.0]]))[0].tolist()

    assert (low, middle, high) == ([5, 48, 97], [247, 247, 247], [103, 0, 31])
