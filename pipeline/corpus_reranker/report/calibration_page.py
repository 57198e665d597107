"""The page of a calibration: reliability before and after, and the curve itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus_reranker.evaluation.calibration_fit import FittedCalibration, Reliability, fit_calibration, read_pairs
from corpus_reranker.evaluation.outputs import Output, open_output
from corpus_reranker.evaluation.settings import CalibrateConfig
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.calibration import to_json
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.report.charts import Chart, curve, reliability_plot
from corpus_reranker.report.templating import Tile, render

RANK_DERIVED = (
    "The probability depends on the rank alone, because the rank is the only score that was calibrated. It is the"
    " same for every query: it says how often the documents at a rank are relevant, not whether a query has a relevant"
    " document."
)

_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class CalibratedOutput:
    """A calibration and the output that it was fitted on."""

    name: str
    output: Output
    fitted: FittedCalibration


def calibrate_output(url: str, storage: StorageConfig, config: CalibrateConfig) -> CalibratedOutput:
    """Fit a calibration on the output at `url`, and write its JSON file and its page.

    Raises:
        ConfigError: scikit-learn is not installed.
        InputError: The output or the qrels cannot be read, or there are too few judged documents.
        OutputError: A file cannot be written.
    """
    filesystem, path = resolve(url.rstrip("/"), storage)
    qrels = load_qrels(*resolve(config.qrels, storage))
    allowed = {"allow_unfinished": config.allow_unfinished, "allow_simulated": config.allow_simulated}
    output = open_output(filesystem, path, **allowed)
    fitted = fit_calibration(read_pairs(filesystem, path, output, qrels, config), config, output.metadata)
    calibrated = CalibratedOutput(redact(url.rstrip("/")), output, fitted)
    files = (
        (config.model_path, to_json(fitted.calibration)),
        (config.page_path, render_calibration(calibrated, config)),
    )
    for file, text in files:
        with atomic_output(*resolve(file, storage)) as stream:
            stream.write(text.encode())
    return calibrated


def render_calibration(calibrated: CalibratedOutput, config: CalibrateConfig) -> str:
    """The HTML page."""
    fitted = calibrated.fitted
    return render(
        "calibration.html.j2",
        calibrated=calibrated,
        config=config,
        tiles=_tiles(fitted),
        rows=(("score, scaled linearly", fitted.before), ("calibrated", fitted.after), ("base rate", fitted.base_rate)),
        charts={"before": _plot(fitted.before), "after": _plot(fitted.after), "curve": _curve(fitted)},
        rank_derived=RANK_DERIVED if fitted.calibration.rank_derived else "",
    )


def _tiles(fitted: FittedCalibration) -> list[Tile]:
    calibration = fitted.calibration
    relevant = int(fitted.pairs.relevant.sum())
    judged = f"of {calibration.queries:,} queries; {relevant:,} are relevant"
    return [
        Tile("Calibration error before", f"{fitted.before.ece:.3f}", "of the score, scaled linearly"),
        Tile("Calibration error after", f"{fitted.after.ece:.3f}", "on held-out queries"),
        Tile("Judged pairs", f"{calibration.pairs:,}", judged),
        Tile("Method", calibration.method, f"of {calibration.score}"),
    ]


def _plot(reliability: Reliability) -> Chart:
    points = [(each.predicted, each.observed, each.pairs) for each in reliability.bins]
    return reliability_plot(points, "predicted probability", "fraction relevant")


def _curve(fitted: FittedCalibration) -> Chart:
    calibration, scores = fitted.calibration, fitted.pairs.scores
    xs: Any = np.linspace(scores.min(), scores.max(), _CURVE_POINTS)
    ys = calibration.predict(xs)
    if calibration.rank_derived:
        return curve(-xs[::-1], ys[::-1], "rank", "p_relevant")
    return curve(xs, ys, calibration.score, "p_relevant")
