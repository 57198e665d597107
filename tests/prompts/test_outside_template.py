"""A prompt template and an answer parser from outside the package, named in a template file and a job config."""

from pathlib import Path

import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.errors import ConfigError
from corpus_reranker.prompts.template import load_template
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.types import Candidate, Prompt, RerankRequest, SamplingParams
from helpers.contributing import guide_code

REQUEST = RerankRequest("q1", "what is it", tuple(Candidate(f"d{i}", f"text {i}", float(-i)) for i in range(3)))


def write_template(folder: Path, answer_format: str) -> Path:
    path = folder / "outside_template.yaml"
    text = guide_code("Add a prompt template", "yaml")
    path.write_text(text.replace("answer_format: plain", f"answer_format: {answer_format}"), encoding="utf-8")
    return path


async def test_template_and_parser_from_outside_rerank_a_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_parser.py").write_text(guide_code("Add an answer format"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    template = write_template(tmp_path, '"outside_parser:BestFirstParser"')
    overrides = ["--input.path=in", "--output.path=out", "--engine={kind: scripted}", f"--prompt.template={template}"]
    config = load_config(None, overrides)
    prompt_builder = create_prompt_builder(config)
    parser = prompt_builder.parser
    requests: list[tuple[str, SamplingParams]] = []

    async def generate(prompt: Prompt, params: SamplingParams) -> str:
        requests.append((prompt.text, params))
        return "[1] is old. Best first: [3] > [1] > [2]"

    sampling = config.generation.sampling_params(parser)
    result = await rerank_query(REQUEST, generate, prompt_builder=prompt_builder, parser=parser, sampling=sampling)

    assert (result.status, result.order) == ("complete", (2, 0, 1))
    ((text, params),) = requests
    assert "You rank passages." in text
    assert "[3] text 2\nRank the 3 passages" in text
    assert params.stop == ("\n\n",)
    assert result.windows[0].reasoning == "[1] is old. "


@pytest.mark.parametrize(
    ("answer_format", "message"),
    [
        ("no_such_module:Parser", "cannot load answer format 'no_such_module:Parser': ModuleNotFoundError"),
        ("pathlib:Path", "answer format 'pathlib:Path' must be a subclass of"),
        ("plane", "unknown answer format 'plane'; did you mean 'plain'"),
    ],
)
def test_parser_that_cannot_be_loaded_is_refused_with_the_file(
    answer_format: str, message: str, tmp_path: Path
) -> None:
    path = write_template(tmp_path, f'"{answer_format}"')
    with pytest.raises(ConfigError, match=message) as caught:
        load_template(path)
    assert str(path) in str(caught.value)
