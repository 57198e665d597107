"""The text of one prompt: the chat template's frame, the instruction around the passages, the passages."""

import re
from collections.abc import Sequence

from corpus_reranker.errors import ConfigError, RequestError
from corpus_reranker.prompts.special_tokens import SpecialTokens, is_special
from corpus_reranker.prompts.template import PromptTemplate, substitute
from corpus_reranker.prompts.text_cleanup import clean_prompt_text
from corpus_reranker.prompts.tokenizer import Tokenizer

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_USER_MESSAGE = "The user message, verbatim.\n[1] In two lines."


class Renderer:
    """Renders prompts of one template for one tokenizer.

    The authors run ftfy over the whole prompt, which works line by line. Here the lines that hold a passage or the
    query are repaired, then made harmless, and nothing follows but tokenisation: that is why no repair can
    bring a control token back. The chat template's and the prompt template's own lines are sent as written.
    """

    def __init__(self, template: PromptTemplate, tokenizer: Tokenizer, examples: Sequence[dict[str, str]] = ()) -> None:
        """`examples` are messages, with `role` and `content`, that come before the prompt's own.

        Raises ConfigError if the tokenizer cannot chat, or the template puts control tokens beside a passage.
        """
        self._template = template
        self._identifiers = template.parser.identifiers
        added = {
            token_id: token.content
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if is_special(token.content, token.special)
        }
        self._special_ids = frozenset(added)
        self._control = SpecialTokens(added.values(), template.special_tags)
        self._head, tail = _chat_frame(tokenizer, template, examples)
        self._tail = tail + template.prefill
        self._before = _LINE.findall(template.before_passages)
        self._after = _LINE.findall(template.after_passages)
        self._check_lines()
        before, after = self.around("query", 1)
        self._own_special_tokens = self._count_special(tokenizer.encode(before + self.passage(1, "passage") + after))

    def escape(self, text: str) -> str:
        return self._control.escape(text)

    def around(self, query: str, num: int) -> tuple[str, str]:
        """What comes before the first and after the last of `num` passages, chat frame included."""
        values = {"query": query, "num": num}
        before = "".join(self._line(line, values) for line in self._before)
        after = "".join(self._line(line, values) for line in self._after)
        return self._head + before, after + self._tail

    def identifier(self, rank: int) -> str:
        """What names the passage at 1-based `rank`."""
        return self._identifiers.name(rank)

    def passage(self, rank: int, text: str) -> str:
        """The lines of the passage at 1-based `rank`. `text` is repaired, cut and free of `[n]` already."""
        line = substitute(self._template.passage, {"rank": self.identifier(rank), "passage": text})
        return self._control.escape(clean_prompt_text(line))

    def name(self, rank: int) -> str:
        """What stands before the passage at 1-based `rank`, without the blank behind it; "" where that isn't all.

        Of `[{rank}] {passage}` it is `[3]`: what follows in the line doesn't depend on the rank.
        """
        before, _, behind = self._template.passage.partition("{passage}")
        return "" if "{rank}" in behind else substitute(before, {"rank": self.identifier(rank)}).rstrip(" ")

    def check_special_tokens(self, token_ids: Sequence[int]) -> None:
        """Raise RequestError if `token_ids` of a prompt hold other control tokens than the template's own.

        Texts are harmless already; this catches a tokenizer that turns harmless text into a control token.
        """
        if self._count_special(token_ids) != self._own_special_tokens:
            raise RequestError(
                "the tokenizer makes a control token of text in a passage or the query, even after it was made "
                "harmless; the window is not asked, because that text could answer for the model"
            )

    def _line(self, line: str, values: dict[str, object]) -> str:
        text = substitute(line, values)
        return self._control.escape(clean_prompt_text(text)) if "{query}" in line else text

    def _check_lines(self) -> None:
        around = [line for line in (*self._before, *self._after) if "{query}" in line]
        for line in (*around, self._template.passage):
            text = substitute(line, {"num": 1, "query": "", "rank": 1, "passage": ""})
            if self._control.escape(text) != text:
                raise ConfigError(
                    f"the prompt template has a control token or tag on a line with a passage or the query: {line!r}; "
                    "move it to a line of its own, so that it can be told from one in their text"
                )

    def _count_special(self, token_ids: Sequence[int]) -> int:
        return sum(map(self._special_ids.__contains__, token_ids))


def _chat_frame(tokenizer: Tokenizer, template: PromptTemplate, examples: Sequence[dict[str, str]]) -> tuple[str, str]:
    """The chat's text before and after the user message. Raises ConfigError if it doesn't keep that as it is."""
    if template.chat is not None:
        if examples:
            raise ConfigError("a prompt template with a `chat` of its own takes no prompt.examples")
        head, _, tail = template.chat.partition("{user}")
        values = {"system": template.system or ""}
        return substitute(head, values), substitute(tail, values)
    messages = [] if template.system is None else [{"role": "system", "content": template.system}]
    messages += [*examples, {"role": "user", "content": _USER_MESSAGE}]
    try:
        chat = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template.chat_template_kwargs
        )
    except Exception as error:  # no chat template, no system role, a bug in its Jinja: all for a person to read
        raise ConfigError(
            f"the tokenizer's chat template cannot render the prompt: {error}\n"
            "Ranking needs an instruct model's tokenizer; if it knows no system role, "
            "move `system` into `before_passages` in a copy of the prompt template."
        ) from error
    head, message, tail = chat.partition(_USER_MESSAGE)
    if not message or message in tail:
        raise ConfigError(f"the tokenizer's chat template does not keep the user message as it is: {chat!r}")
    return head, tail
