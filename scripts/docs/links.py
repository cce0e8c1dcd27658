"""usage: links.py FOLDER

Checks the links of a built book without a network: each leads to a page, a file or a heading that exists. Addresses of the web are not
asked: references.py checks their form.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and what can be linked to in it."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src", "srcset") and value:
                self.links.append(value.split()[0] if name == "srcset" else value)


def dead(root: Path, path: Path, link: str, pages: dict[Path, Page]) -> str | None:
    """Returns what is wrong with a link of a page."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file() or root not in target.parents:
        return "there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "there is no such heading"
    return None


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    # The page for addresses that do not exist has links from the root of a server.
    pages = {path: Page(path) for path in root.rglob("*.html") if path.name != "404.html"}
    links = sorted({(path, link) for path, page in pages.items() for link in page.links})
    found = [(path, link, wrong) for path, link in links if (wrong := dead(root, path, link, pages))]
    for path, link, wrong in found:
        print(f"{path.relative_to(root)}: {link}: {wrong}", file=sys.stderr)
    print(f"{len(links)} links of {len(pages)} pages, {len(found)} dead")
    return int(bool(found) or not links)


if __name__ == "__main__":
    sys.exit(main())
