"""A hook of mkdocs: links from docs/ to other files of the repository become the names of these files on the site.

The same pages are read in the repository, where such links work. The site consists of docs/ alone.
"""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def without_outside_links(markdown: str, page: str) -> str:
    """The text of a page with every link out of docs/ replaced.

    Args:
        markdown: the text.
        page: path of the page within docs/, with slashes.
    """

    def replaced(match: re.Match[str]) -> str:
        image, text, target, _ = match.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if image or path.startswith("docs/"):
            return match[0]
        return f"`{path}`" if text.strip("`") in (path, posixpath.basename(path)) else f"{text} (`{path}`)"

    return _LINK.sub(replaced, markdown)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return without_outside_links(markdown, page.file.src_uri)
