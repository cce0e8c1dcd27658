"""The sessions of the README do what it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from support import Server

README = Path(__file__).parents[1] / "README.md"


def test_the_sessions_of_the_readme_do_what_it_says(server: Server, tmp_path: Path) -> None:
    text = (
        README.read_text().replace("http://localhost:8080", server.url).replace("/tmp/spool", str(tmp_path / "spool"))
    )
    sessions = "".join(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if ">>>" in block)
    assert sessions.count(">>>") >= 12
    test = doctest.DocTestParser().get_doctest(sessions, {}, "README", str(README), 0)
    output: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=output.append)
    assert failed == 0, "".join(output)
    assert server.ids() == ["evt-1", "evt-2"]
