import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from advseg.jobs import reproduce
from advseg.jobs.paper_tables import CONSISTENT, PAPER, tables
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import load_spec, read_document
from advseg.trainers.data.shapes import ShapesSettings
from advseg.trainers.errors import UserError
from advseg.trainers.methods.consistency import PRESETS

TINY = ["trainer.steps=2", "trainer.batch_size=2", "trainer.evaluate_every=2", "method.semi_start=1"]
TINY += ["trainer.augmentation.crop=[16, 16]", "model.width=8", "method.discriminator.widths=[8]"]
QUICK = [f"--set={override}" for override in TINY]


def ask(
    table: str, *rows: str, seeds: int | None = None, processes: int = 1, overrides: Sequence[str] = ()
) -> reproduce.Reproduction:
    """Reproduce a table on the paper's data without a word."""
    silent = Console(quiet=True)
    return reproduce.reproduce(
        table, rows, on="paper", seeds=seeds, processes=processes, overrides=overrides, console=silent
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and few small images to draw labels from."""
    monkeypatch.setenv("ADVSEG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(reproduce, "POOL", ShapesSettings(labelled=500, unlabelled=1, val=2, test=1, size=16))
    return tmp_path


def test_every_published_figure_of_a_spec_is_a_row_of_a_table():
    specs = {path.stem: read_document(path)["published"] for path in PAPER.glob("*.yaml")}

    rows = [row for name in ("voc", "cityscapes", "voc-only") for row in tables()[name].rows]

    assert {(row.spec, row.variant): row.published for row in rows} == {
        (spec, variant): figure for spec, published in specs.items() for variant, figure in published.items()
    }


def test_figures_that_stand_in_two_tables_agree():
    published: dict[tuple[str, str, float, float, float], set[float]] = {}
    for table in tables().values():
        for row in table.rows:
            method = read_document(PAPER / f"{row.spec}.yaml").get("method", {})
            knobs = {"lambda_adv": 0.01, "lambda_semi": 0.1, "threshold": 0.2, **method}
            knobs |= {key.removeprefix("method."): value for key, value in row.values}
            variant = row.variant if knobs["lambda_adv"] else "supervised"
            key = (row.spec, variant, knobs["lambda_adv"], knobs["lambda_semi"], knobs["threshold"])
            key = (row.spec, "supervised", 0.0, 0.0, 0.0) if variant == "supervised" else key
            if row.published is not None:
                published.setdefault(key, set()).add(row.published)

    assert all(len(figures) == 1 for figures in published.values()), published
    assert sum(table.title != "" for table in tables().values()) == 7


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_spec_of_the_paper_is_valid_where_its_data_and_weights_lie(path, tmp_path):
    (tmp_path / "weights.pth").touch()

    spec = load_spec(path, [f"dataset.root={tmp_path}", f"model.weights={tmp_path}/weights.pth"])

    assert spec.preset == "paper"
    assert spec.name == path.stem.replace("_", "-")
    for variant in spec.published:
        assert isinstance(spec.variant(variant), Spec)


def test_data_and_weights_that_are_missing_are_told_with_what_to_put_where(home):
    with pytest.raises(UserError) as caught:
        ask("voc", overrides=[f"dataset.root={home}/nowhere", f"model.weights={home}/nothing.pth"])

    head, *lines = str(caught.value).splitlines()
    assert head == "table voc cannot be trained yet:"
    assert len(lines) == 2
    assert f"{home}/nowhere does not exist" in lines[0]
    assert "JPEGImages" in lines[0]
    assert f"{home}/nothing.pth does not exist" in lines[1]


def test_a_table_in_small_is_trained_once_and_printed_with_paired_gains(advseg, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    arguments = ["reproduce", "ablation", "voc-1-8/semi", "--on=shapes", "--seeds=2", "--processes=2", *QUICK]

    _, out, _ = advseg(*arguments)
    status, again, _ = advseg(*arguments)

    assert status == 0
    assert "8 trainings, of which 0 are done" in out
    assert again.startswith("8 trainings, of which 8 are done\n")
    page = again.partition("\n")[2]
    assert out.endswith(page)
    # A cell may be empty, but not a column.
    lines = [[*re.split(r" {2,}", line.strip()), ""] for line in page.splitlines()[-4:]]
    lines = [[*line[:3], "", line[3], ""] if len(line) == 5 else line[:6] for line in lines]
    assert [line[:2] for line in lines] == [
        [labels, f"voc-1-8/{variant}"] for variant in ("supervised", "semi") for labels in ("50", "400")
    ]
    for labels, row, miou, gain, published, published_gain in lines:
        assert re.fullmatch(r"\d+\.\d ± \d+\.\d", miou), (labels, row)
        assert bool(re.fullmatch(r"[+-]\d+\.\d ± \d+\.\d", gain)) == row.endswith("semi")
        assert (published, published_gain) == (("69.5", "+3.5") if row.endswith("semi") else ("66.0", ""))


def test_seeds_draw_other_labels_weights_and_batches_which_the_variants_share(home):
    table = tables()["ablation"]

    runs = list(reproduce.shapes_runs(table, "ablation", 2, TINY, home))

    assert len({run.folder for run in runs}) == len(runs) == 2 * 2 * len(table.rows)
    for run in runs:
        assert (run.spec.trainer.seed, run.spec.dataset.split_seed) == (run.seed, run.seed)
        assert run.spec.dataset.fraction == int(run.labels) / 500


def test_other_settings_are_other_trainings_and_equal_ones_are_not(home):
    table = tables()["ablation"]

    runs, other = (
        {(run.labels, run.row.variant): run.folder for run in reproduce.shapes_runs(table, "ablation", 1, chosen, home)}
        for chosen in (TINY, [*TINY, "method.lambda_semi=0.5"])
    )

    assert runs.keys() == other.keys()
    for key, folder in runs.items():
        # At a weight of 0 there is nothing to change, nor where another method has its own.
        assert (folder == other[key]) == (key[1] in ("supervised", "adversarial", *CONSISTENT))


def test_what_nobody_has_published_leaves_its_cells_empty():
    rows = [row for row in tables()["ablation"].rows if row.variant in ("supervised", "fixmatch")]
    runs = [reproduce.Run(row=row, labels="50", seed=0, spec=None, folder=Path(row.name)) for row in rows]
    lines = reproduce.lines_of(runs, {run.folder: 50.0 for run in runs})

    table = reproduce.page(reproduce.Reproduction(title="a table", lines=lines))

    cells = [[*column.cells] for column in table.columns]
    assert cells[1:] == [[row.name for row in rows], ["50.0", "50.0"], ["", "+0.0"], ["66.0", ""], ["", ""]]


def test_other_methods_have_the_discriminator_and_the_weight_of_the_spec(home):
    runs = reproduce.shapes_runs(tables()["ablation"], "ablation", 1, [*TINY, "method.lambda_adv=0.5"], home)

    methods = {run.row.variant: run.spec.method for run in runs}
    assert {methods[name].name for name in CONSISTENT} == {"consistency"}
    on_top = methods["fixmatch-adversarial"]
    assert (on_top.lambda_adv, on_top.discriminator.widths, methods["fixmatch"].lambda_adv) == (0.5, (8,), 0)
    assert replace(on_top, lambda_adv=0.0, discriminator=PRESETS["fixmatch"].discriminator) == replace(
        methods["fixmatch"], discriminator_optimizer=on_top.discriminator_optimizer
    )


def test_every_row_of_voc_only_has_its_like_in_small(home):
    table = tables()["voc-only"]

    runs = list(reproduce.shapes_runs(table, "voc-only", 1, TINY, home))

    assert {run.row for run in runs} == set(table.rows)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("vok",), {}, "there is no table 'vok'; there are voc, cityscapes, "),
        (("mini",), {}, "; a registered model is named as in 'mini@champion'"),
        (("voc", "voc-1-8"), {}, "table voc has no row 'voc-1-8'; its rows are voc-1-8/supervised, "),
        (("voc",), {"seeds": 0}, r"--seeds must be in \[1, 30\], but is 0"),
        (("voc",), {"processes": 0}, r"--processes must be in \[1, 64\], but is 0"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(home, names, options, message):
    with pytest.raises(UserError, match=message):
        ask(*names, **options)
