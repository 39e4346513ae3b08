"""Open a page in headless Chromium."""

import html
import re
import subprocess


def check_in_browser(page, width):
    """Hold that a page has no console error and no horizontal scroll at a width in pixels."""
    inner = html.escape(page.read_text("utf-8"))
    probe = page.with_name("probe.html")
    probe.write_text(
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{inner}"></iframe>'
        "<p id=out></p><script>onload = () => { const d = frames[0].document.documentElement;"
        'out.textContent = d.scrollWidth + " of " + d.clientWidth; }</script>',
        encoding="utf-8",
    )
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=2000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"(\d+) of (\d+)</p>", done.stdout)
    assert found is not None and int(found[1]) <= int(found[2]) <= width
    assert "CONSOLE" not in done.stderr
