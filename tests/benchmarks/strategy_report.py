"""Markdown tables and a plot of the strategy study."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noisy_oracle import Cost, Noise

BASELINE = "sliding_window"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One strategy on one collection at one noise level: means over queries and seeds; intervals are of 95 %."""

    collection: str
    noise: str
    strategy: str
    cost: Cost
    ndcg: float
    ndcg_interval: tuple[float, float]
    gain: float
    """nDCG@10 minus that of the baseline on the same queries with the same noise."""
    gain_interval: tuple[float, float]


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table with one row for each strategy."""
    lines = [
        "| strategy | calls | chain | prompt tokens | output tokens | chain tokens | nDCG@10 | gain (interval) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        cells = [o.strategy, f"{o.cost.calls:.1f}", f"{o.cost.depth:.1f}"]
        cells += [f"{o.cost.prompt_tokens:,.0f}" if o.cost.prompt_tokens else "unknown"]
        cells += [f"{o.cost.output_tokens:,.0f}", f"{o.cost.chain_output_tokens:,.0f}"]
        cells += [pm(o.ndcg, o.ndcg_interval), "" if o.strategy == BASELINE else gain_cell(o.gain, o.gain_interval)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sensitivity_table(results: Sequence[tuple[Noise, Outcome]]) -> str:
    """A Markdown table with one row for each noise setting and one column for each strategy."""
    names = list(dict.fromkeys(outcome.strategy for _, outcome in results))
    rows: dict[Noise, list[Outcome]] = {}
    for noise, outcome in results:
        rows.setdefault(noise, []).append(outcome)
    lines = [
        f"| fixed share | position bias | deviation | {' | '.join(names)} |",
        "|---:|---:|---:|" + "---:|" * len(names),
    ]
    for noise, outcomes in rows.items():
        gains = " | ".join(gain_cell(o.gain, o.gain_interval) for o in outcomes)
        lines.append(f"| {noise.fixed_share} | {noise.position_bias} | {noise.deviation:.2f} | {gains} |")
    return "\n".join(lines)


def gain_cell(mean: float, interval: tuple[float, float]) -> str:
    """A mean difference with its interval."""
    return f"{mean:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def pm(mean: float, interval: tuple[float, float]) -> str:
    """A mean with half the width of its interval."""
    return f"{mean:.3f} ± {(interval[1] - interval[0]) / 2:.3f}"


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Plot nDCG@10 and the number of windows of each strategy. Error bars are the intervals of the gain."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "strategies"
    import matplotlib.pyplot as plt

    levels = list(dict.fromkeys(outcome.noise for outcome in outcomes))
    figure, (quality, cost) = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True, width_ratios=(3, 2))
    for number, level in enumerate(levels):
        shown = [outcome for outcome in outcomes if outcome.noise == level]
        ndcg = [o.ndcg for o in shown]
        errors = [[o.gain - o.gain_interval[0] for o in shown], [o.gain_interval[1] - o.gain for o in shown]]
        rows = [row + 0.2 * number - 0.1 for row in range(len(shown))]
        quality.errorbar(ndcg, rows, xerr=errors, fmt="o", color=f"C{number}", label=level)
        baseline = next(o.ndcg for o in shown if o.strategy == BASELINE)
        quality.axvline(baseline, color=f"C{number}", linewidth=0.7, linestyle=":")
    names = [o.strategy for o in shown]
    cost.barh(names, [o.cost.calls for o in shown], color="0.8", label="windows per query")
    cost.barh(names, [o.cost.depth for o in shown], color="0.4", height=0.4, label="longest chain")
    quality.invert_yaxis()
    quality.set(xlabel="nDCG@10, TREC DL 2020, simulated answers")
    cost.set(xlabel="windows")
    quality.legend(loc="lower left")
    cost.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def write_docs(page: Path, blocks: dict[str, str]) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->` by the block of that name."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        head, _, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, tail = rest.partition(f"<!-- /{name} -->")
        if not closing:
            raise SystemExit(f"{page} has no block {name!r}; add <!-- {name} --> and <!-- /{name} -->")
        text = f"{head}<!-- {name} -->\n\n{block}\n\n{closing}{tail}"
    page.write_text(text, encoding="utf-8")
