"""`{date}` in a config's values."""

from pathlib import Path

import pytest

from corpus_reranker.config.loader import load_config, load_section
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import InputConfig, StorageConfig

DATED = ("--input.path=s3://b/in/dt={date}/", "--output.path=s3://b/out/dt={date}", "--engine={kind: vllm, model: m}")


def test_the_date_replaces_every_placeholder() -> None:
    config = load_config(None, DATED, date="2026-11-25")
    assert (config.input.path, config.output.path) == ("s3://b/in/dt=2026-11-25/", "s3://b/out/dt=2026-11-25")
    earlier = load_config(None, (*DATED, "--reuse.outputs=['out/{date-1}', 'out/{date-30}']"), date="2026-03-01").reuse
    assert earlier.outputs == ("out/2026-02-28", "out/2026-01-30")
    assert config.fingerprint() == load_config(None, DATED, date="2026-11-26").fingerprint()


@pytest.mark.parametrize(
    ("date", "overrides", "message"),
    [
        (None, DATED, r"input\.path, output\.path contain {date}; give --date YYYY-MM-DD"),
        (None, ("--input.path=a", *DATED[1:]), r"output\.path contains {date}"),
        (
            None,
            ("--input.path=a", "--output.path=b", DATED[2], "--reuse.outputs=['{date-1}']"),
            r"reuse\.outputs conta",
        ),
        ("2026-11-31", DATED, "--date must be a day as YYYY-MM-DD, got '2026-11-31'"),
        ("yesterday", DATED, "--date must be a day"),
        ("", DATED, "--date must be a day"),
        ("../../other", DATED, "--date must be a day"),
        ("2026-11-25", ("--input.path=a", "--output.path=b", DATED[2]), "is not used: no value of the config contains"),
    ],
)
def test_a_wrong_or_unused_date_is_refused(date: str | None, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides, date=date)


def test_a_section_needs_a_date_only_if_it_contains_one(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("input: {path: 'in/{date}'}\nstorage: {region: eu-west-1}\n")
    assert load_section(path, "storage", StorageConfig).region == "eu-west-1"
    assert load_section(path, "input", InputConfig, date="2026-11-25").path == "in/2026-11-25"
    with pytest.raises(ConfigError, match=r"input\.path contains {date}"):
        load_section(path, "input", InputConfig)
