"""Acceptance check on a machine with a GPU: one Markdown table in about ten minutes (docs/gpu.md).

PYTHONPATH=pipeline:tests python -m gpu_check                 # needs a GPU
PYTHONPATH=pipeline:tests python -m gpu_check --dry-run       # a tiny model on vLLM's CPU build
PYTHONPATH=pipeline:tests python -m gpu_check --stubs         # vLLM's CUDA build on the stubs of tests/gpu_build
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_check.engine_step import EngineStep
from gpu_check.floor import Card
from gpu_check.machine import gpus, versions
from gpu_check.model_shape import SHAPES
from gpu_check.steps import Step, StepResult, run_step
from gpu_check.table import markdown

ENGINE_STEPS = {
    "engine-2048": {"max_num_batched_tokens": 2048},
    "engine-16384": {"max_num_batched_tokens": 16384},
    "engine-16384-fp8": {"max_num_batched_tokens": 16384, "quantization": "fp8_per_tensor"},
}
"""max_num_batched_tokens as vLLM chooses it for our engine, and as the ready-made configs do; FP8 weights."""

JOB_STEP = "job"
DEMO_MODEL = Path(".cache/SmolLM2-135M-Instruct")
"""Where `make demo` leaves its model."""

_STUB_WORKER = "gpu_build.stub_worker.StubWorker"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*ENGINE_STEPS, JOB_STEP]
    parser.add_argument("--skip", action="append", choices=names, default=[], help="leave a step out; repeatable")
    parser.add_argument("--only", action="append", choices=names, default=[], help="run this step alone; repeatable")
    parser.add_argument("--engine-seconds", type=float, default=160, help="limit of an engine step (%(default)s)")
    parser.add_argument("--load-seconds", type=float, default=110, help="time an engine is kept full (%(default)s)")
    parser.add_argument("--job-seconds", type=float, default=110, help="limit of the whole job (%(default)s)")
    parser.add_argument("--max-num-seqs", type=int, default=384, help="windows at once, at most (%(default)s)")
    parser.add_argument("--enforce-eager", action="store_true", help="no compilation and no CUDA graphs")
    parser.add_argument("--model", default="", help=f"model of the whole job ({DEMO_MODEL}, else random weights)")
    parser.add_argument("--output", type=Path, default=Path("out/gpu-check"), help="for table and logs (%(default)s)")
    parser.add_argument(
        "--terabytes-per-second", type=float, help="memory bandwidth of a GPU that has no data sheet here"
    )
    parser.add_argument("--bf16-teraflops", type=float, help="its dense bfloat16 rate")
    parser.add_argument("--fp8-teraflops", type=float, help="its dense FP8 rate")
    without_gpu = parser.add_mutually_exclusive_group()
    without_gpu.add_argument("--dry-run", action="store_true", help="a tiny model on vLLM's CPU build")
    without_gpu.add_argument("--stubs", action="store_true", help="vLLM's CUDA build on stubs, without a GPU")
    options = parser.parse_args(arguments)
    if (options.terabytes_per_second is None) != (options.bf16_teraflops is None):
        parser.error("--terabytes-per-second and --bf16-teraflops go together")
    return options


def steps(options: argparse.Namespace) -> list[Step]:
    """The steps that the options ask for."""
    base = EngineStep(
        shape="tiny" if options.dry_run else "qwen2.5-7b",
        device="cpu" if options.dry_run else "gpu",
        max_num_seqs=min(options.max_num_seqs, 8) if options.dry_run else options.max_num_seqs,
        enforce_eager=options.enforce_eager,
        worker_class=_STUB_WORKER if options.stubs else None,
        limit_seconds=options.engine_seconds,
        load_seconds=options.load_seconds,
    )
    planned = []
    for name, changes in ENGINE_STEPS.items():
        step = dataclasses.replace(base, **changes)  # type: ignore[arg-type]
        fp8 = step.quantization is not None
        arguments = (json.dumps(dataclasses.asdict(step)),)
        limit = options.engine_seconds
        planned.append(Step(name, "engine_step", arguments, limit, step.max_num_batched_tokens, fp8))
    model = options.model or (str(DEMO_MODEL) if DEMO_MODEL.is_dir() else "")
    planned.append(Step(JOB_STEP, "job_step", (model, base.device, base.worker_class or ""), options.job_seconds))
    return [
        step for step in planned if step.name not in options.skip and (not options.only or step.name in options.only)
    ]


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Environment variables of the steps' processes."""
    variables = dict(os.environ)
    if options.stubs:
        from gpu_build.faults import FOLDER_VARIABLE
        from gpu_build.stub_driver import build_driver_stubs

        stubs = (options.output / "driver_stubs").resolve()
        stubs.mkdir(parents=True, exist_ok=True)
        build_driver_stubs(stubs)
        variables[FOLDER_VARIABLE] = str(stubs)
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(stubs), variables.get("LD_LIBRARY_PATH")]))
    return variables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps and print the table. Returns 1 if one of them failed."""
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    variables = environment(options)
    results: list[StepResult] = []
    for step in steps(options):
        print(
            time.strftime("%H:%M:%S"), f"{step.name}, at most {step.limit_seconds:.0f} s", file=sys.stderr, flush=True
        )
        results.append(run_step(step, options.output, variables))
    report = _report(options, results)
    (options.output / "table.md").write_text(report, encoding="utf-8")
    print(report)
    return int(any(result.reason for result in results))


def _report(options: argparse.Namespace, results: Sequence[StepResult]) -> str:
    not_a_gpu = options.dry_run or options.stubs
    kind = "a dry run on the CPU" if options.dry_run else "stubs instead of a GPU"
    title = f"GPU check: {kind}, no figure is a GPU's" if not_a_gpu else "GPU check"
    given = options.terabytes_per_second and Card(
        options.terabytes_per_second, options.bf16_teraflops, options.fp8_teraflops
    )
    shape = SHAPES["tiny" if options.dry_run else "qwen2.5-7b"]
    window = f"window: {shape.prompt_tokens:,} prompt and {shape.output_tokens} output tokens, random weights"
    machine = [*([] if not_a_gpu else gpus()), versions(), window]
    return markdown(title, machine, results, shape, given or None, show_floor=not not_a_gpu)


if __name__ == "__main__":
    sys.exit(main())
