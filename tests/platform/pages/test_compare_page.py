"""What `advseg compare` prints and writes."""

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from advseg.jobs.cli.main import app
from advseg.platform.pages.compare_page import (
    CAVEAT,
    column_blocks,
    cut,
    equal_line,
    print_comparison,
    write_comparison,
)
from advseg.platform.pages.comparison import ComparedRun, Comparison, compare
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.trainers.errors import UserError

URL = "http://127.0.0.1:5000/#/compare-runs?runs=%5B%22a%22%5D&experiments=%5B%220%22%5D"
BASE, BETTER = {4: 40.0, 8: 50.0, 12: 52.0}, {4: 41.0, 8: 53.0, 12: 54.0}


def run(name: str, params: Mapping[str, str], curve: Mapping[int, float]) -> ComparedRun:
    return ComparedRun(
        name=name,
        run_id=name,
        experiment_id="0",
        params=params,
        metrics={"val/miou": curve[max(curve)], "loss/ce": 0.125},
        curve=curve,
    )


def two(**params: Sequence[str]) -> Comparison:
    """A comparison of two runs with parameters that they share and others of their own."""
    own = [{"steps": "8", "model": "compact"} | {name: values[i] for name, values in params.items()} for i in (0, 1)]
    return compare([run("probe/baseline", own[0], BASE), run("probe/3", own[1], BETTER)], "val/miou")


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


class TestPrinting:
    def test_shows_parameters_metrics_differences_and_the_address(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_comparison(two(lambda_adv=("0.0", "0.01")), URL)
        assert lines(capsys.readouterr().out) == [
            "probe: parameters that differ",
            "parameter baseline 3",
            "lambda_adv 0 0.01",
            "2 parameters are equal",
            "probe: newest values",
            "metric baseline 3",
            "best val/miou 52.00@12 54.00@12",
            "val/miou 52 54",
            "loss/ce 0.125 0.125",
            "probe/3 - probe/baseline: val/miou +2 ± 2.5 over 3 common steps; first +1, last +2",
            CAVEAT,
            f"MLflow {URL}",
        ]

    def test_of_equal_parameters_counts_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_comparison(two(), None)
        assert lines(capsys.readouterr().out)[0] == "all 2 parameters are equal"
        assert equal_line(compare([run("a", {"p": "1"}, BASE), run("b", {"p": "1", "q": "2"}, BASE)], "x")) == (
            "1 parameter is equal"
        )

    def test_says_how_few_steps_there_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        runs = [run("a", {}, {4: 40.0}), run("b", {}, {4: 41.0}), run("c", {}, {8: 42.0})]
        print_comparison(compare(runs, "val/miou"), None)
        out = capsys.readouterr().out
        assert "b - a: val/miou +1 at their only common step\nc - a: val/miou at no common step\n" in out

    def test_says_how_many_of_the_steps_an_interval_is_of(self, capsys: pytest.CaptureFixture[str]) -> None:
        long = dict.fromkeys(range(40), 50.0)
        print_comparison(compare([run("a", {}, long), run("b", {}, long)], "val/miou"), None)
        assert "b - a: val/miou +0 ± 0 over 30 of 40 common steps; first +0, last +0" in capsys.readouterr().out

    def test_of_seven_runs_fits_eighty_columns(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        runs = [
            run(f"a-sweep-of-a-long-name/{n}", {"method.lambda_adv": str(0.0123456789 * (n + 1))}, BASE)
            for n in range(7)
        ]
        print_comparison(compare(runs, "val/miou"), None)
        out = capsys.readouterr().out
        tables = out[: out.index("a-sweep-of-a-long-name/1 - ")].splitlines()
        assert max(map(len, map(str.rstrip, tables))) <= 80
        headings = [line.split()[1:] for line in tables if line.startswith(("parameter ", "metric "))]
        assert headings == 2 * [["0", "1", "2", "3", "4", "5"], ["6"]]
        first, second = [line.split()[1:] for line in tables if line.startswith("method.lambda_adv")]
        assert (first[0], second) == ("0.01235", ["0.08642"])
        assert "a-sweep-of-a-long-name: newest values, 7 to 7 of 7 runs" in lines(out)

    def test_shows_as_many_digits_as_tell_parameters_apart(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_comparison(two(lr=("0.0100001", "0.0100002"), root=("data/1.0", "data/2.0")), None)
        assert {"lr 0.0100001 0.0100002", "root data/1.0 data/2.0"} <= set(lines(capsys.readouterr().out))

    def test_of_several_sweeps_names_runs_in_full(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_comparison(compare([run("a/0", {}, BASE), run("b/0", {}, BETTER)], "val/miou"), None)
        assert "metric a/0 b/0" in lines(capsys.readouterr().out)

    def test_knows_the_best_of_the_mean_iou_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_comparison(compare([run("a/0", {}, BASE), run("b/0", {}, BETTER)], "loss/ce"), None)
        assert "best" not in capsys.readouterr().out

    def test_shows_brackets_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_comparison(two(root=("/a", "/data/[red]/[/]")), None)
        assert "/data/[red]/[/]" in capsys.readouterr().out

    def test_keeps_the_ends_of_values_for_which_there_is_no_room(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        paths = [f"/data/{'x' * 60}/{end}" for end in ("train", "val")]
        print_comparison(two(**{"dataset.root": paths}), None)
        (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("dataset.root")]
        assert re.findall(r"/data/x+…x+/(train|val)", row) == ["train", "val"]
        assert len(row.rstrip()) <= 80

    @pytest.mark.parametrize(("width", "runs"), [(80, [2, 2, 2, 1]), (100, [3, 3, 1]), (300, [7])])
    def test_has_as_many_columns_as_there_is_room_for(self, width: int, runs: list[int]) -> None:
        names = [f"shapes-demo/{number}-{'x' * 10}" for number in range(7)]
        first, blocks = column_blocks(names, {"trainer.lambda_adv": ["0.0123"] * 7}, width)
        assert (first, blocks) == (len("trainer.lambda_adv"), [[len(names[0])] * count for count in runs])

    def test_gives_two_runs_columns_in_the_narrowest_terminal(self) -> None:
        assert column_blocks(["a" * 30, "b" * 30, "c"], {"metric": ["1"] * 3}, 40) == (9, [[13, 13], [1]])

    @pytest.mark.parametrize(("width", "text"), [(7, "abcdefg"), (6, "abc…fg"), (3, "a…g"), (1, "…")])
    def test_cuts_the_middle_out(self, width: int, text: str) -> None:
        assert cut("abcdefg", width) == text


class Page(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] not in ("script", "style"):
            self.text += f" {' '.join(data.split())}"


class TestPage:
    def test_says_the_same_and_has_a_plot(self, tmp_path: Path) -> None:
        path = tmp_path / "compare.html"
        write_comparison(two(lambda_adv=("0.0", "<b>0.01</b>")), URL, path)
        page = Page(path.read_text())
        words = " ".join(page.text.split())
        assert "probe/baseline and probe/3 val/miou by step" in words
        assert "probe/3 - probe/baseline: val/miou +2 ± 2.5 over 3 common steps; first +1, last +2" in words
        assert "Parameters differs probe/baseline probe/3 lambda_adv 0 <b>0.01</b> 2 parameters are equal." in words
        assert (
            "metric probe/baseline probe/3 best val/miou 52.00@12 54.00@12 val/miou 52 54 loss/ce 0.125 0.125" in words
        )
        assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == [URL]
        plots = [attrs["id"] for tag, attrs in page.tags if attrs.get("class") == "plotly-graph-div"]
        assert plots == ["curves"]
        assert re.findall(r'"name":"(.*?)"', path.read_text())[-2:] == [r"probe\u002fbaseline", r"probe\u002f3"]

    def test_of_equal_parameters_has_no_table_of_them(self, tmp_path: Path) -> None:
        write_comparison(two(), None, tmp_path / "compare.html")
        words = " ".join(Page((tmp_path / "compare.html").read_text()).text.split())
        assert "Parameters all 2 parameters are equal. Newest values" in words

    def test_loads_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "compare.html"
        write_comparison(two(), URL, path)
        tags = Page(path.read_text()).tags
        assert not [attrs for tag, attrs in tags if "src" in attrs or tag in ("link", "base", "iframe")]

    def test_shows_every_run(self, tmp_path: Path) -> None:
        runs = [run(f"r/{number}", {"p": str(number)}, BASE) for number in range(9)]
        write_comparison(compare(runs, "val/miou"), None, tmp_path / "compare.html")
        text = Page((tmp_path / "compare.html").read_text()).text
        assert "r/0 and 8 other runs" in text
        assert " ".join(f"r/{number}" for number in range(9)) in text


class TestCommand:
    def test_reads_mlflow_prints_and_writes(
        self, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number, curve in enumerate((BASE, BETTER)):
            run_id = ensure_run(client, RunIdentity(experiment="probe", key=f"probe/{number}", params={"p": number}))
            client.log_batch(run_id, metrics=[Metric("val/miou", value, 1, step) for step, value in curve.items()])
        services = SimpleNamespace(tracking_uri=client.tracking_uri, enter=lambda: None)
        monkeypatch.setattr("advseg.platform.services.connection.connect", lambda *_: services)
        arguments = ["compare", "probe/0", "probe/1", "--html", str(tmp_path / "page.html")]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert "probe/1 - probe/0: val/miou +2 ± 2.5 over 3 common steps; first +1, last +2" in done.output
        assert done.output.endswith(f"page written to {tmp_path / 'page.html'}\n")
        assert (tmp_path / "page.html").exists()

    def test_says_in_a_line_that_mlflow_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(UserError, match=r"^the MLflow server at http://127\.0\.0\.1:9 does not answer \(.*refused"):
            CliRunner().invoke(app, ["compare", "probe/0", "probe/1"], catch_exceptions=False)
