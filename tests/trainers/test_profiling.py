import gzip
import json

import torch

from advseg.trainers.profiling import DRAW, MOVE, PHASES, STEP, STEPS, TRACE, WAIT, Phase, phase, phase_table, tracing


def run_steps(folder, count: int) -> None:
    with tracing(folder) as tracer:
        for _ in range(count):
            with phase(STEP), phase("segmenter forward"):
                torch.ones(64, 64) @ torch.ones(64, 64)
            tracer.step()


def test_a_trace_of_a_few_steps_is_left_with_their_phases(tmp_path):
    run_steps(tmp_path / "run", WAIT + STEPS + 4)

    events = json.loads(gzip.decompress((tmp_path / "run" / TRACE).read_bytes()))["traceEvents"]
    steps = [event for event in events if event.get("name") == f"advseg/{STEP}" and event["cat"] == "user_annotation"]
    assert len(steps) == STEPS
    assert any("mm" in event.get("name", "") for event in events)
    table = (tmp_path / "run" / PHASES).read_text()
    assert STEP in table
    assert "segmenter forward" in table


def test_a_run_that_is_too_short_leaves_nothing_and_ends_well(tmp_path):
    run_steps(tmp_path, 1)

    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_traced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    run_steps(None, WAIT + STEPS + 4)

    assert list(tmp_path.iterdir()) == []


def test_the_table_has_milliseconds_a_step_and_shares_of_the_whole():
    phases = [
        Phase(name=DRAW, cpu_s=0.03, device_s=0),
        Phase(name=MOVE, cpu_s=0.03, device_s=0),
        Phase(name=STEP, cpu_s=0.24, device_s=0),
        Phase(name="optimizers", cpu_s=0.06, device_s=0),
    ]

    lines = phase_table(phases, 3).splitlines()

    assert [line.split() for line in lines[1:3]] == [["step", "80.00", "80.0%"], ["optimizers", "20.00", "20.0%"]]
    assert "GPU" not in lines[0]


def test_the_table_of_a_gpu_has_its_time_too_and_sorts_by_it():
    phases = [Phase(name=STEP, cpu_s=0.1, device_s=0.9), Phase(name=DRAW, cpu_s=0.2, device_s=0)]

    lines = phase_table(phases, 1).splitlines()

    assert lines[0].split() == ["phase", "host", "ms", "share", "GPU", "ms"]
    assert lines[1].split() == ["step", "100.00", "33.3%", "900.00"]
