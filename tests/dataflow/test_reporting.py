"""The reports of a replica's worker."""

import asyncio

import pytest

from corpus_reranker.dataflow.reporting import report_periodically


async def test_an_error_in_one_report_ends_no_reports(capsys: pytest.CaptureFixture[str]) -> None:
    arrived = asyncio.Event()
    attempts = 0

    async def fail() -> None:
        raise RuntimeError("no info")

    async def count() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            arrived.set()

    reporting = asyncio.create_task(report_periodically((fail, count), 0.0))
    async with asyncio.timeout(60):
        await arrived.wait()
    reporting.cancel()
    assert "cannot report: RuntimeError: no info" in capsys.readouterr().err
