"""The page says what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest
import transformers

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "heads.md").read_text(encoding="utf-8")
VERSION = re.search(r"transformers (\d+\.\d+\.\d+)", PAGE).group(1)


@pytest.mark.skipif(
    transformers.__version__ != VERSION, reason=f"the page lists the classes of transformers {VERSION}"
)
def test_the_page_is_what_its_generator_makes():
    spec = importlib.util.spec_from_file_location("make_heads", DOCS / "make_heads.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.page() == PAGE, "run python docs/make_heads.py"
