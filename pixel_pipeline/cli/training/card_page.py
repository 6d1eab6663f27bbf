"""A model card as a page in the browser."""

from html import escape
from pathlib import Path
import re
import webbrowser

from markdown_it import MarkdownIt

from pixel_pipeline.cli.console import say

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 0.2rem 0.6rem; border: 1px solid #8886; }}
</style>
{body}
</html>
"""


def open_page(markdown: str, *, path: Path) -> None:
    """Write the card as HTML and open it in the browser, if there is one."""
    # Names in the card come from data; this preset escapes HTML in them.
    body = MarkdownIt("js-default").render(_FRONT_MATTER.sub("", markdown))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PAGE.format(title=escape(path.stem), body=body), encoding="utf-8")
    if webbrowser.open(path.as_uri()):
        say(f"opened {path}")
    else:
        say(f"This machine has no browser. The page is {path}.")
