"""Date partitions in a config's paths."""

from pathlib import Path

import pytest

from corpus_reranker.config.loader import load_config, load_section
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import StorageConfig

DATED = ("--input.path=s3://b/in/dt={date}/", "--output.path=s3://b/out/dt={date}", "--engine={kind: vllm, model: m}")


def test_the_date_is_put_into_every_path() -> None:
    config = load_config(None, ["--date=2026-11-25", *DATED])
    assert (config.input.path, config.output.path) == ("s3://b/in/dt=2026-11-25/", "s3://b/out/dt=2026-11-25")
    assert config.hash() == load_config(None, ["--date=2026-11-26", *DATED]).hash()


@pytest.mark.parametrize(
    ("overrides", "prefix"),
    [
        (DATED, r"input\.path, output\.path of the config waits for a date; give --date=YYYY-MM-DD"),
        ((*DATED, "--date=2026-11-31"), r"--date takes a day as YYYY-MM-DD, got '2026-11-31'"),
        ((*DATED, "--date=yesterday"), "--date takes a day"),
        ((*DATED, "--date="), "--date takes a day"),
        ((*DATED, "--date=../../other"), "--date takes a day"),
        (("--input.path=a", "--output.path=b", DATED[2], "--date=2026-11-25"), "has no place in this config"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: tuple[str, ...], prefix: str) -> None:
    with pytest.raises(ConfigError, match=prefix):
        load_config(None, overrides)


def test_sections_without_a_place_need_no_date(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("input: {path: 'in/{date}'}\nstorage: {region: eu-west-1}\n")
    assert load_section(path, "storage", StorageConfig).region == "eu-west-1"
