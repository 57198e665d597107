"""The entry point of every command, in a process of its own that gets signals."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell starts its processes with SIGINT ignored
import corpus_reranker.__main__ as entry

def wait(where):
    print(where, flush=True)
    time.sleep(60)

def command(**_):
    try:
        wait("running")
    finally:
        try:
            raise ValueError("an error while the lease is released")
        except ValueError:
            wait("unwinding")

def stopped(**_):
    # as a Typer app
    try:
        wait("running")
    except KeyboardInterrupt:
        raise SystemExit(130)

atexit.register(wait, "exiting")
entry.app = {command}
entry.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("command", "phases"), [("command", ["running", "unwinding"]), ("lambda **_: None", ["exiting"])]
)
def test_a_repeated_signal_ends_the_process_without_a_stack(
    number: int, code: int, command: str, phases: list[str]
) -> None:
    _check(number, code, command, phases)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_process_before_the_interpreter_shuts_down(number: int, code: int) -> None:
    """A driver that got SIGTERM once ended with -6: Ray's core aborted at the exit of the interpreter."""
    _check(number, code, "stopped", ["running"])


def _check(number: int, code: int, command: str, phases: list[str]) -> None:
    """Send a signal in each phase; the process then ends with `code`, without a stack and another phase."""
    arguments = [sys.executable, "-c", SCRIPT.format(command=command)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for phase in phases:
            assert process.stdout.readline() == f"{phase}\n"
            process.send_signal(number)
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
        assert process.wait(60) == code
