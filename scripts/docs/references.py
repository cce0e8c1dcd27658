"""Checks what pages of documentation name: targets of make, files of the repository, and the form of web addresses. Links and their
anchors are checked in the book (scripts/test-docs). The changelog is left out: it names what there was."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]


def targets() -> set[str]:
    """Returns the targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def tracked() -> tuple[set[str], set[str]]:
    """Returns the files of the repository with their folders, and the top folders."""
    listed = subprocess.check_output(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True).split("\n")
    files = set(filter(None, listed))
    folders = {str(folder) for file in files for folder in Path(file).parents if str(folder) != "."}
    return files | folders, {folder for folder in folders if "/" not in folder}


def faults(page: Path, known_targets: set[str], known_files: set[str], top: set[str]) -> list[str]:
    found = []
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        place = f"{page.relative_to(ROOT)}:{number}"
        fenced ^= line.lstrip().startswith("```")
        code = [line] if fenced else re.findall(r"`([^`]+)`", line)
        for text in code:
            # Options and variables may stand between.
            for target in re.findall(r"(?:^|[\s\"(])make (?:-\S+ |[A-Z_]+=\S+ )*([a-z][a-z0-9-]*)", text):
                if target not in known_targets:
                    found.append(f"{place}: there is no `make {target}`")
        for path in [] if fenced else re.findall(r"`([A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+)`", line):
            here = str(page.parent.relative_to(ROOT) / path)
            if path.split("/")[0] in top and not known_files.intersection((path.rstrip("/"), here)):
                found.append(f"{place}: there is no file {path}")
        for address in re.findall(r"\]\((https?:[^)\s]+)\)", line):
            parts = urlsplit(address)
            if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.hostname or ""):
                found.append(f"{place}: {address} is no address of the web")
    return found


def main() -> int:
    pages = subprocess.check_output(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, text=True).split()
    known_targets, (known_files, top) = targets(), tracked()
    found = [
        fault for page in pages if page != "CHANGELOG.md" for fault in faults(ROOT / page, known_targets, known_files, top)
    ]
    print("\n".join(found) if found else f"{len(pages)} pages name targets and files that exist", file=sys.stderr if found else sys.stdout)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
