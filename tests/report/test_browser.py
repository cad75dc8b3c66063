from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"


@pytest.fixture
def page(full_page: str, tmp_path: Path) -> Path:
    file = tmp_path / "copied" / "report.html"
    file.parent.mkdir()
    file.write_text(full_page, encoding="utf-8")
    return file


def opened(page: Path, tmp_path: Path, *arguments: str) -> str:
    """Returns what Chromium wrote to stderr, without its own complaints about the machine."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={tmp_path / 'net.json'}", *arguments, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def drawn(page: Path, tmp_path: Path, theme: str) -> bytes:
    picture = tmp_path / "page.png"
    console = opened(page, tmp_path, theme, f"--screenshot={picture}", "--window-size=1200,3000")
    assert console == ""
    return picture.read_bytes()


def test_the_page_opens_in_both_themes_without_network_and_without_errors(
    page: Path, tmp_path: Path
) -> None:
    light, dark = drawn(page, tmp_path, LIGHT), drawn(page, tmp_path, DARK)
    assert len(light) > 50_000
    assert light != dark
    requested = re.findall(r'"url":"https?://([\w.-]+)', (tmp_path / "net.json").read_text())
    # Chromium itself asks for its dictionaries, the time and the accounts.
    assert {host for host in requested if not host.endswith((".google.com", ".gvt1.com"))} == set()


def test_a_console_error_would_be_seen(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", '<img src="https://example.org/a.png"></main>'))
    assert "Content Security Policy" in opened(
        page, tmp_path, f"--screenshot={tmp_path / 'page.png'}"
    )


def test_the_page_prints_all_of_its_tables(page: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "page.pdf"
    assert opened(page, tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer") == ""
    written = pdf.read_bytes()
    assert written.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", written)) <= 12  # two pictures side by side
