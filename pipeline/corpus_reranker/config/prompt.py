"""Config section `prompt`."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import Field

from corpus_reranker.paths import PROMPTS_DIRECTORY
from corpus_reranker.prompts.few_shot import load_examples
from corpus_reranker.prompts.template import PromptTemplate, load_template, template_path
from corpus_reranker.section import Section


class PromptConfig(Section):
    """Prompt template and the length of passages."""

    template: str = Field("reasonrank", description="Name of a template in configs/prompts, or path of a file.")
    max_passage_tokens: int = Field(
        512,
        ge=1,
        description="Passages are truncated to this length. ReasonRank uses 512 for BRIGHT and R2MED, and 100 for "
        "BEIR and TREC DL.",
    )
    examples: str | None = Field(
        None, description='JSONL file of few-shot conversations: {"conversations": [{"role": ..., "value": ...}, ...]}.'
    )

    def load_template(self) -> PromptTemplate:
        """Load the template. Raises ConfigError if it does not exist or is invalid."""
        return load_template(template_path(self.template, PROMPTS_DIRECTORY))

    def load_examples(self) -> list[dict[str, str]]:
        """Messages that precede each prompt. Raises ConfigError if the file cannot be read."""
        return load_examples(Path(self.examples)) if self.examples else []

    def fingerprint_fields(self) -> dict[str, Any]:
        """Everything that determines the prompts, as JSON values."""
        examples = json.dumps(self.load_examples(), sort_keys=True).encode()
        return {
            **self.model_dump(mode="json", exclude={"examples"}),
            "template_hash": self.load_template().hash,
            "examples_hash": hashlib.sha256(examples).hexdigest()[:16] if self.examples else None,
        }
