"""The report page: its content, its size, and its safety against hostile texts."""

import datetime
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, copy_files

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.schemas import QUARANTINE, RESULT
from corpus_reranker.report import run_data
from corpus_reranker.report.page import MAX_TEXT_CHARS, render_report, report_output
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.report.templating import visible
from helpers.command_line import run_command
from helpers.locations import Location
from helpers.synthetic_output import SCHEMA, output_row, simulated_rows, write_data_files

LOCAL = LocalFileSystem()
HOSTILE = (
    """"><script>alert('x')</script><img src=x onerror=alert(1)></pre></style>{{ 7 * 7 }}' onmouseover='a\x00\x1b[31m"""
)


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a closing tag without an opening tag."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "wbr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> has no opening tag"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def has(self, text: str) -> bool:
        return text in " ".join(" ".join(self.text).split())


def report(folder: Path, qrels: dict[str, dict[str, int]] | None = None, **config: Any) -> str:
    return render_report((LOCAL, str(folder)), ReportConfig(**config), "my run", qrels)


def quarantine(folder: Path, **texts: Any) -> None:
    (folder / "_quarantine").mkdir()
    row = {"query_id": "q1", "start": 0, "end": 20, "status": "truncated", "attempts": 2, **texts}
    pq.write_table(
        pa.Table.from_pylist([dict.fromkeys(QUARANTINE.names) | row], QUARANTINE), folder / "_quarantine/a.parquet"
    )


@pytest.fixture(scope="module")
def big_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of 2,000 queries with 100 candidates that has data for every section of the report."""
    folder = tmp_path_factory.mktemp("report") / "out"
    rows = simulated_rows(2000)
    rows[7] |= {"status": "failed", "error": "candidate 3 has no text"}
    write_data_files(
        folder, [rows[start : start + 250] for start in range(0, 2000, 250)], SCHEMA.with_metadata({"model": "m"})
    )
    quarantine(folder, prompt="[1] passage " * 3000, response="<think> hm " * 1000)
    return folder


@pytest.fixture(scope="module")
def big_page(big_run: Path) -> str:
    """The report of `big_run`, with the section on quality and the cost of GPUs."""
    qrels = {f"q{number}": {"d0": 2, f"d{number % 50}": 1} for number in range(200)}
    return report(big_run, qrels, gpus=8, price_per_gpu_hour=2.5)


def test_the_page_of_a_large_run_is_small(big_page: str) -> None:
    page = Page(big_page)
    assert len(big_page.encode()) < 500_000
    assert page.tags.count("svg") == 7
    for text in (
        "2,000",
        "nDCG@10 after",
        "GPU-hours",
        "USD per 1,000 queries",
        "candidate 3 has no text",
        "<think> hm",
    ):
        assert page.has(text), text


def test_the_page_loads_no_resource_and_runs_no_script(big_page: str) -> None:
    page = Page(big_page)
    assert {"script", "iframe", "object", "embed", "img", "form", "base"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    targets = [value for name, value in page.attributes if name in ("src", "href", "action", "data", "xlink:href")]
    assert targets == ["data:,"]
    assert (
        "content",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
    ) in page.attributes


def test_hostile_texts_from_any_column_are_escaped(tmp_path: Path) -> None:
    row = output_row(HOSTILE, [0], status=HOSTILE, error=HOSTILE, query=HOSTILE)
    failed = output_row("f", [0], status="failed", error=HOSTILE, query=HOSTILE)
    row["windows"] = [
        {
            "start": 0,
            "end": 2,
            "status": HOSTILE,
            "attempts": 1,
            "prompt_tokens": 1,
            "output_tokens": 1,
            "latency_seconds": 1.0,
        }
    ]
    folder = write_data_files(tmp_path / "out", [[row, failed]], SCHEMA.with_metadata({HOSTILE: HOSTILE}))
    quarantine(folder, prompt=HOSTILE, response=HOSTILE, error=HOSTILE, finish_reason=HOSTILE, query_id=HOSTILE)
    (folder / "_run/config.yaml").write_text(HOSTILE.replace("\x00", "").replace("\x1b", ""))
    source = render_report((LOCAL, str(folder)), ReportConfig(), HOSTILE)
    page = Page(source)
    assert {"script", "img"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.has("{{ 7 * 7 }}")
    assert page.has("<script>alert('x')</script>")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", source)


def test_the_report_of_an_output_on_s3(location: Location, tmp_path: Path) -> None:
    filesystem, folder = resolve(f"{location.url}/out", location.storage)
    copy_files(str(write_data_files(tmp_path / "made", [simulated_rows(3)])), folder, LOCAL, filesystem)
    page = report_output(f"{location.url}/out", location.storage, ReportConfig())
    assert page == f"{location.url}/out/_run/report.html"
    assert [info.base_name for info in list_files(filesystem, f"{folder}/_run")] == ["report.html"]
    with filesystem.open_input_stream(f"{folder}/_run/report.html") as stream:
        assert Page(stream.read().decode()).has(f"{location.url}/out")


def test_control_characters_are_shown_as_pictures() -> None:
    assert visible("a\x00b\x1b\n\tc") == "a␀b␛\n\tc"


def test_an_empty_output_has_a_report(tmp_path: Path) -> None:
    schema = pa.schema([field for field in RESULT if field.name not in ("started_at", "finished_at")])
    page = Page(report(write_data_files(tmp_path / "out", [[]], schema)))
    assert page.has("no started_at and finished_at columns")
    assert page.has("No window was requested")
    assert page.has("has no prompts and responses")
    assert page.has("has no _run/config.yaml")


def test_long_texts_are_shortened_in_the_middle(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [[output_row("1", [0])]])
    quarantine(folder, prompt="A" + "x" * 300_000 + "Z", response="r" * MAX_TEXT_CHARS)
    source = report(folder)
    assert len(source) < 3 * MAX_TEXT_CHARS
    assert "240,002 characters omitted" in source
    assert "xZ</pre>" in source


def test_a_simulated_run_is_labeled(tmp_path: Path) -> None:
    for simulated in (True, False):
        schema = SCHEMA.with_metadata({"reranker.simulated": str(simulated).lower(), "reranker.model": "a-model"})
        page = Page(report(write_data_files(tmp_path / str(simulated), [simulated_rows(2)], schema)))
        assert page.has("No LLM made these answers.") is simulated
        assert page.has("a-model")


def test_flagged_answers_are_counted(tmp_path: Path) -> None:
    columns = {"start": 0, "end": 4, "attempts": 1, "prompt_tokens": 9, "output_tokens": 9, "latency_seconds": 1.0}
    windows = [
        {**columns, "status": "complete", "named": 4, "flags": ["input_order"]},
        {**columns, "status": "repaired", "named": 1, "flags": ["one_name", "input_order"]},
        {**columns, "status": "timeout", "named": None, "flags": []},
    ]
    row = output_row("q", [0, 1, 2, 3], windows=windows, blank_candidates=1, duplicate_candidates=2)
    page = Page(report(write_data_files(tmp_path / "out", [[row]])))
    assert page.has("Candidates without text, ranked last: 1. Duplicate candidates, dropped: 2.")
    assert page.has("Answers name 62.5% of their passages. 2 (66.7%) leave the window in its input order;")
    assert page.has("1 (33.3%) name only one of several passages.")


def test_gpus_come_from_the_run_record(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [simulated_rows(5)])
    assert not Page(report(folder)).has("GPU-hours")
    (folder / "_run/config.yaml").write_text("engine: {tensor_parallel_size: 2}")
    (folder / "_run/run.json").write_text(json.dumps({"queries": 5, "info": {"gpus": 6}}))
    page = Page(report(folder))
    assert page.has("at most 6 GPUs")
    assert page.has("tensor_parallel_size: 2")


def test_pauses_do_not_count_as_gpu_hours(tmp_path: Path) -> None:
    hours = [datetime.datetime(2026, 3, 1, hour, tzinfo=datetime.UTC) for hour in (0, 1, 2, 8, 9)]
    spans = [(0, 1), (0, 2), (1, 2), (3, 4)]  # two hours of work, six of pause, one of work
    rows = [
        output_row(str(number), [0], started_at=hours[start], finished_at=hours[end])
        for number, (start, end) in enumerate(spans)
    ]
    page = Page(report(write_data_files(tmp_path / "out", [rows]), gpus=2, price_per_gpu_hour=2.0))
    assert page.has("9 h 00 min")
    assert page.has("GPU-hours 6")
    assert page.has("USD per 1,000 queries 3,000 at 2 per GPU-hour; 12 in total")


def test_throughput_is_spread_over_the_time_of_a_query(tmp_path: Path) -> None:
    """One query has ten windows in 100 s: 0.1 windows/s throughout, not ten windows at its end."""
    start = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    window = {"start": 0, "end": 2, "status": "complete", "attempts": 1, "prompt_tokens": 1, "output_tokens": 1}
    row = output_row("1", [0], windows=[{**window, "latency_seconds": 10.0}] * 10)
    row |= {"started_at": start, "finished_at": start + datetime.timedelta(seconds=100)}
    source = report(write_data_files(tmp_path / "out", [[row]]))
    throughput = source[source.index("<h3>Throughput") : source.index("<h3>Queries in flight")]
    assert len(re.findall(r"<title>[^<]*: 0\.1</title>", throughput)) == 60


def test_the_page_shows_engine_info_of_the_manifest(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [simulated_rows(5)])
    pass_info = {"engine_start_seconds": [61.0, 72.5], "engine": {"kv_cache_tokens": 123456}}
    (folder / "_manifest.json").write_text(json.dumps({"info": {"passes": [pass_info]}}))
    page = Page(report(folder, gpus=1))
    assert page.has("excludes engine start of 72.5 s")
    assert page.has("kv_cache_tokens 123456")


def test_windows_in_flight_are_shown_with_their_target(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [simulated_rows(5)])
    full, tail = [[50.0 + second, 90, 100] for second in range(180)], [[230.0 + second, 5, 100] for second in range(20)]
    (folder / "_manifest.json").write_text(json.dumps({"info": {"passes": [{}, {"in_flight": full + tail}]}}))
    source = report(folder)
    page = Page(source)
    assert page.has("Over the middle 80% of the time, windows in flight were 90.0% of the target")  # without the tail
    assert page.has("min since the run started, including engine start")
    (line,) = [value for name, value in page.attributes if name == "points"]
    heights = {point.split(",")[1] for point in (line or "").split()}
    assert len(heights) == 1  # the target is always 100
    (folder / "_manifest.json").write_text(json.dumps({"info": {"passes": [{"in_flight": full[:2]}]}}))
    assert not Page(report(folder)).has("windows in flight")


def test_quality_that_did_not_change_is_neither_better_nor_worse(tmp_path: Path) -> None:
    source = report(write_data_files(tmp_path / "out", [[output_row("1", [0, 1])]]), {"1": {"d0": 1}})
    assert '<b class="">+0.0000</b>' in source
    assert ">+0.1</text>" in source  # the axis has a minimum length


def test_an_unfinished_run_is_labeled(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [simulated_rows(5)])
    (folder / "_run/run.json").write_text(json.dumps({"queries": 1234}))
    assert not Page(report(folder)).has("has not finished")
    (folder / "_SUCCESS").unlink()
    (folder / "part-00009.parquet").write_bytes(b"PAR1 truncated")
    with pytest.raises(InputError, match="5 of 1,234 queries"):
        report(folder)
    page = Page(report(folder, allow_unfinished=True))
    assert page.has("5 of 1,234 queries are in its output")
    assert page.has("1 truncated files are skipped")


def test_counts_cover_all_queries_if_charts_cover_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = simulated_rows(80, num_candidates=30, in_flight=4)
    folder = write_data_files(tmp_path / "out", [rows[start : start + 2] for start in range(0, 80, 2)])
    full_rate = run_rate(report(folder))
    monkeypatch.setattr(run_data, "MAX_FILES", 20)
    page = Page(report(folder))
    assert page.has("a random sample of 40 queries, one file in 2.")
    assert page.has("All counts are estimates")
    assert page.has("about 80")
    assert run_rate(report(folder)) == pytest.approx(full_rate, rel=0.5)
    counts = {"queries": 83, "prompt_tokens": 5_000_000, "output_tokens": 1_000_000}
    statuses = {"queries_by_status": {"complete": 82, "failed": 1}, "windows_by_status": {"complete": 300}}
    (folder / "_manifest.json").write_text(json.dumps(counts | statuses))
    page = Page(report(folder))
    for text in ("Queries 83 82 complete, 1 failed", "Tokens 6M", "100.0% of 300"):
        assert page.has(text), text


def run_rate(source: str) -> float:
    """The queries/min that the page shows."""
    found = re.search(r"([\d.,]+) queries/min", source)
    assert found
    return float(found[1].replace(",", ""))


def test_a_broken_manifest_is_reported(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [simulated_rows(1)])
    (folder / "_manifest.json").write_text("[1, 2")
    with pytest.raises(InputError, match=r"_manifest\.json is not a file that a run wrote"):
        report(folder)


def test_quality_counts_missing_judged_queries_as_zero(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [[output_row("1", [1, 0])]])
    page = Page(report(folder, {"1": {"d1": 1}, "2": {"d1": 1}}))
    assert page.has("0.5000")
    assert page.has("1 of them are not in the output and count as 0")


def test_quality_with_a_pre_ranker_shows_the_gain_of_each_stage(tmp_path: Path) -> None:
    rows = [output_row(str(number), [2, 1, 0]) for number in range(4)]
    for row in rows:
        for entry in row["ranking"]:
            entry["pre_ranker_score"] = {"d0": 0.1, "d1": 0.9, "d2": 0.5}[entry["doc_id"]]
    schema = SCHEMA.with_metadata({"reranker.pre_ranker_model": "an-embedder"})
    qrels = {str(n): {"d2": 1} for n in range(4)}
    folder = write_data_files(tmp_path / "out", [rows], schema)
    page = Page(report(folder, qrels))
    assert page.has("LLM +0.3691 [+0.369, +0.369], p 0.3750; before 0.5000, pre-ranker 0.6309")
    text = " ".join(" ".join(page.text).split())
    gains = ["after − pre-ranker all 4 +0.3691", "pre-ranker − before all 4 +0.1309", "after − before all 4 +0.5000"]
    assert [text.find(gain) for gain in gains] == sorted(text.find(gain) for gain in gains)
    assert page.has("after − pre-ranker: 4 queries better, 0 the same, 0 worse; p = 0.3750")

    (tmp_path / "qrels.txt").write_text("".join(f"{query_id} 0 d2 1\n" for query_id in qrels))
    evaluated = run_command("evaluate", str(folder), "--qrels", str(tmp_path / "qrels.txt"), "--json")
    found = [each for each in json.loads(evaluated.stdout)["comparisons"] if each["measure"] == "nDCG@10"]
    assert (found[0]["system"], found[0]["baseline"]) == ("out after", "out pre-ranker")
    for each, gain in zip(found, gains, strict=True):  # the p of the report is that of the evaluate command
        assert page.has(f"{gain.partition(' all')[0]}: 4 queries better, 0 the same, 0 worse; p = {each['p_holm']:.4f}")


def test_the_page_shows_ndcg_for_each_dataset(tmp_path: Path) -> None:
    rows = [output_row("1", [1, 0], dataset="bio"), output_row("2", [0, 1], dataset="econ")]
    folder = write_data_files(tmp_path / "out", [rows], SCHEMA.append(pa.field("dataset", pa.string())))
    page = Page(report(folder, {"1": {"d1": 1}, "2": {"d1": 1}}))
    assert page.has("before bio 1 0.6309")
    assert page.has("after bio 1 1.0000")
    assert page.has("after econ 1 0.6309")
    assert page.has("after all 2 0.8155")


WIDTHS = [400, 700, 1240]
MEASURE = """<body></body><script>
function measured(page) {
  const labels = [...page.querySelectorAll(".chart text")].map((text) =>
    parseFloat(getComputedStyle(text).fontSize) * text.closest("svg").getBoundingClientRect().width
    / text.closest("svg").viewBox.baseVal.width);
  const hidden = [...page.querySelectorAll("main *")].filter((each) => each.scrollWidth > each.clientWidth + 1
    && !each.closest("svg") && getComputedStyle(each).display !== "inline"
    && getComputedStyle(each).overflowX === "visible");
  const isOver = (text, bar) => text.left < bar.right && bar.left < text.right && text.top < bar.bottom;
  const box = (each) => each.getBoundingClientRect();
  const covering = [...page.querySelectorAll("text.mark")].filter((text) =>
    [...text.closest("svg").querySelectorAll("rect")].some((bar) => isOver(box(text), box(bar))
      && box(bar).top < box(text).bottom));
  return [Math.min(...labels), page.documentElement.scrollWidth, hidden.length, covering.length];
}
for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.src = "report.html";
  frame.style = `width:${width}px;height:9000px;border:0;display:block`;
  document.body.append(frame);
}
onload = () => {
  const frames = [...document.querySelectorAll("iframe")];
  document.title = JSON.stringify(frames.map((frame) => measured(frame.contentDocument)));
};
</script>""".replace("WIDTHS", str(WIDTHS))


def run_chromium(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium; install chromium to run this test")
    common = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    common += "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
    profile = f"--user-data-dir={folder / 'profile'}"
    return subprocess.run(
        [browser, *common.split(), profile, *flags], capture_output=True, text=True, timeout=120, check=True
    )


def test_a_browser_opens_the_page_without_console_messages(big_page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(big_page)
    picture = tmp_path / "report.png"
    page = f"--screenshot={picture}", f"file://{tmp_path}/report.html"
    done = run_chromium(tmp_path, "--window-size=1240,3200", *page)
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 100_000  # a screenshot of a blank page has a tenth of this size


def test_the_page_is_legible_at_every_width(big_page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(big_page)
    (tmp_path / "frames.html").write_text(MEASURE)
    done = run_chromium(tmp_path, "--allow-file-access-from-files", "--dump-dom", f"file://{tmp_path}/frames.html")
    found = re.search(r"<title>(.*)</title>", done.stdout)
    assert found is not None, done.stdout
    for width, measured in zip(WIDTHS, json.loads(found[1]), strict=True):
        smallest_label, page_width, cut_elements, labels_over_bars = measured
        assert smallest_label >= 11, width
        assert page_width <= width
        assert cut_elements == 0, width
        assert labels_over_bars == 0, width
