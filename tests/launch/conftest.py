"""A bench for the scripts of launch/, empty or with the programs of the cloud replaced."""

import pytest
from launchers import GIT, Bench


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "programs").mkdir()
    return Bench(tmp_path)


@pytest.fixture
def cloud(bench):
    """A bench with gcloud, kubectl and xpk replaced, and a checkout that is always the same."""
    for name in ("gcloud", "kubectl", "xpk"):
        bench.replace(name)
    git = bench.programs / "git"
    git.write_text(GIT, encoding="utf-8")
    git.chmod(0o755)
    return bench
