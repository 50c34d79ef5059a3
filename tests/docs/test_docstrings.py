"""A docstring says what its function does, so it begins with a verb."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "hf_scorevi"
NO_VERB = re.compile("A|All|An|As|At|Both|By|How|In|Of|One|Several|That|The|Those|What|Where|Whether|Which")


def first_words(path):
    """Yield the place and the first word of each docstring of a public function or method; properties are nouns."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
            if not is_property and (words := (ast.get_docstring(node) or "").split()):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno} {node.name}", words[0]


def test_docstrings_of_functions_begin_with_a_verb():
    words = dict(pair for path in sorted(PACKAGE.rglob("*.py")) for pair in first_words(path))
    assert len(words) > 300  # or the package has not been found
    wrong = {place: word for place, word in words.items() if NO_VERB.fullmatch(word)}
    assert not wrong
