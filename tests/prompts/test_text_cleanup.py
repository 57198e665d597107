"""The shortcut around ftfy gives the result of ftfy."""

import sys

from ftfy import fix_text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus_reranker.prompts.text_cleanup import _is_clean, clean_prompt_text, clean_text
from helpers.fuzzing import examples
from helpers.prompt_factories import hostile_text, messy_text

ANY_TEXT = st.one_of(st.text(), st.text(st.characters(max_codepoint=0x17F)), messy_text, hostile_text)


@given(ANY_TEXT)
@example("".join(map(chr, range(0x20, 0x7F))) + "\t\n\f")
@example("AT&amp;T")
@example("a\rb")
@example("œ\nÃ x")
@settings(max_examples=examples(500))
def test_cleanup_equals_ftfy(text: str) -> None:
    assert clean_text(text) == fix_text(text)


@given(st.lists(ANY_TEXT, max_size=4))
@example(["œ", "Ã x"])
@settings(max_examples=examples(300))
def test_cleanup_by_lines_equals_cleanup_of_the_whole(parts: list[str]) -> None:
    lines = [f"{part}\n" for part in parts]
    assert "<|im_start|>\n" + "".join(map(clean_prompt_text, lines)) == fix_text("<|im_start|>\n" + "".join(lines))


def test_characters_that_ftfy_replaces_are_not_clean() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    sound = [character for character in characters if _is_clean(character)]
    assert 1_000_000 < len(sound) < len(characters) - 3000
    text = " ".join(sound)
    assert fix_text(text, fix_encoding=False, unescape_html=False) == text


def test_ordinary_text_takes_the_shortcut() -> None:
    """Without this test the shortcut could be correct because it is never taken."""
    assert all(
        map(_is_clean, ["plain, \t(old) ASCII & <b>", "naïve — café…\n10 °C", "第二定律。\nエントロピー", "жар α ≤ β"])
    )
    assert not any(map(_is_clean, ["“quotes”", "ﬁ", "ＡＢＣ", "cafÃ©", "e\u0301", "a\rb", "\x1b[0m"]))
