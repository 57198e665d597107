"""The Markdown that a person reads."""

from typing import Any

from gpu_check.floor import Card
from gpu_check.model_shape import QWEN25_7B
from gpu_check.steps import Step, StepResult
from gpu_check.table import COLUMNS, markdown

ENGINE = Step("engine-16384", "engine_step", (), 160, 16384)
FP8 = Step("engine-16384-fp8", "engine_step", (), 160, 16384, fp8_weights=True)
JOB = Step("job", "job_step", (), 100)


def figures(device_name: str = "NVIDIA H100 80GB HBM3") -> dict[str, Any]:
    measurement = {
        "windows": 200,
        "seconds": 50.0,
        "output_tokens": 150_000,
        "running": 156.4,
        "kv_cache_usage": 0.974,
        "preemptions": 20,
    }
    return {
        "device_name": device_name,
        "start_seconds": 61.2,
        "capacity": 157,
        "in_flight": 177,
        "measurement": measurement,
    }


def cells(report: str, step: str) -> list[str]:
    (row,) = [line for line in report.splitlines() if line.startswith(f"| {step} |")]
    return [cell.strip() for cell in row.replace("\\|", "\\bar").strip("|").split("|")]


def test_a_row_compares_an_engine_with_its_floor() -> None:
    report = markdown("GPU check", ["driver 580"], [StepResult(ENGINE, figures())], QWEN25_7B)
    assert cells(report, "engine-16384") == [
        "engine-16384", "4.00", "68%", "3,000", "156 / 157 / 177", "97%", "10.0", "61 s", "200 windows in 50 s",
    ]  # fmt: skip
    assert "- engine-16384: max(matrices 0.0858, weights 0.0202)" in report
    assert "- driver 580" in report


def test_a_failed_step_is_a_row_with_its_reason() -> None:
    results = [StepResult(ENGINE, reason="CUDA out | of\nmemory"), StepResult(FP8, figures())]
    report = markdown("GPU check", [], results, QWEN25_7B)
    row = cells(report, "engine-16384")
    assert len(row) == len(COLUMNS)
    assert row[-1] == "**failed**: CUDA out \\bar of memory"
    assert cells(report, "engine-16384-fp8")[1] == "4.00"


def test_the_job_shows_its_queries() -> None:
    job = {"seconds": 48.4, "model": "SmolLM2", "queries_by_status": {"degraded": 4, "complete": 12}}
    report = markdown("GPU check", [], [StepResult(JOB, job)], QWEN25_7B)
    assert cells(report, "job")[-1] == "12 complete, 4 degraded in 48 s (SmolLM2)"


def test_an_unknown_gpu_has_no_floor_without_its_rates() -> None:
    results = [StepResult(ENGINE, figures("NVIDIA GB999"))]
    report = markdown("GPU check", [], results, QWEN25_7B)
    assert cells(report, "engine-16384")[2] == "?"
    assert "no data sheet for 'NVIDIA GB999'" in report
    assert cells(markdown("GPU check", [], results, QWEN25_7B, Card(3.35, 989.0)), "engine-16384")[2] == "68%"


def test_fp8_on_a_gpu_without_fp8_has_no_fraction() -> None:
    report = markdown("GPU check", [], [StepResult(FP8, figures("NVIDIA A100-SXM4-80GB"))], QWEN25_7B)
    assert cells(report, "engine-16384-fp8")[2] == "?"
    assert "multiplies no FP8" in report


def test_a_dry_run_has_no_floor() -> None:
    report = markdown("GPU check", [], [StepResult(ENGINE, figures())], QWEN25_7B, show_floor=False)
    assert cells(report, "engine-16384")[2] == ""
    assert "Floors" not in report
