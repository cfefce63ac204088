"""Options: environment, overrides, mistakes."""

import os
import subprocess
import sys

import pytest

from thalweg.runtime.config import Config, config
from thalweg.runtime.locks import WANTED, quick_way


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_OPT_LEVEL", "1")
    monkeypatch.setenv("THALWEG_CACHE", "off")
    config = Config.from_environment()
    assert config.opt_level == 1 and config.cache is False


def test_bad_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_THREADS", "many")
    with pytest.raises(ValueError, match="THALWEG_THREADS='many'"):
        Config.from_environment()


def test_environment_of_no_option_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_OPTLEVEL", "1")
    with pytest.warns(RuntimeWarning, match="THALWEG_OPTLEVEL is no option; did you mean 'THALWEG_OPT_LEVEL'"):
        Config.from_environment()


def test_unknown_option_suggests() -> None:
    with pytest.raises(AttributeError, match="did you mean 'opt_level'"):
        Config().opt_levle = 1


def test_override_restores_after_an_error() -> None:
    config = Config()
    with pytest.raises(RuntimeError), config.override(threads=1, opt_level=0):
        assert (config.threads, config.opt_level) == (1, 0)
        raise RuntimeError
    assert (config.threads, config.opt_level) == (0, 2)


def test_code_key_follows_options_that_change_code() -> None:
    assert Config(opt_level=0).code_key() != Config(opt_level=1).code_key()
    assert Config(cache=False).code_key() == Config().code_key()


def test_only_the_process_own_options_have_calls_looked_at() -> None:
    Config(check_nans=True)
    assert quick_way.words[WANTED] == 0
    with config.override(check_infinities=True):
        assert config.checking == "non-finite" and quick_way.words[WANTED] == 1
    with config.override(check_nans=True):
        assert config.checking == "nan" and quick_way.words[WANTED] == 1
    assert not config.checking and quick_way.words[WANTED] == 0


def test_the_environment_has_calls_looked_at() -> None:
    program = "import thalweg.runtime.config; from thalweg.runtime.locks import quick_way; print(quick_way.words[1])"
    environment = {**os.environ, "THALWEG_CHECK_NANS": "1"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "1", found.stderr
