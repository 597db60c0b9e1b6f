"""Choosing by time, and remembering the choice."""

import json
import time

import pytest
import torch

from simulator import tuning
from simulator.tuning import choices_file, remembered_choice, time_candidates

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hypergossip" / "compute.json"


class Candidate:
    def __init__(self, seconds):
        self.seconds = seconds
        self.calls = 0

    def __call__(self):
        self.calls += 1
        time.sleep(self.seconds)


def candidates():
    return {"slow": Candidate(0.02), "fast": Candidate(0.0), "middle": Candidate(0.01)}


def test_the_fastest_is_chosen_and_kept(cache):
    first = candidates()
    assert remembered_choice("mlp", first, CPU) == "fast"
    assert all(candidate.calls > 1 for candidate in first.values())
    assert json.loads(cache.read_text()) == {"mlp": "fast"}
    assert choices_file() == cache


def test_a_remembered_choice_is_not_measured_again(cache):
    remembered_choice("mlp", candidates(), CPU)
    second = {"slow": Candidate(0.0), "fast": Candidate(0.02)}  # would be chosen the other way round
    assert remembered_choice("mlp", second, CPU) == "fast"
    assert all(candidate.calls == 0 for candidate in second.values())
    assert remembered_choice("cnn", second, CPU) == "slow"
    assert json.loads(cache.read_text()) == {"mlp": "fast", "cnn": "slow"}


def test_a_choice_that_is_no_candidate_any_more_is_made_anew(cache):
    remembered_choice("mlp", {"gone": Candidate(0.0)}, CPU)
    assert remembered_choice("mlp", candidates(), CPU) == "fast"
    assert json.loads(cache.read_text()) == {"mlp": "fast"}


@pytest.mark.parametrize("content", ["", "{", "[]", '"fast"', '{"mlp": ["fast"]}', '{"mlp": null}'])
def test_a_broken_file_is_written_anew(cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert remembered_choice("mlp", candidates(), CPU) == "fast"
    assert json.loads(cache.read_text()) == {"mlp": "fast"}


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remembered_choice("mlp", candidates(), CPU) == "fast"
    assert "could not be kept" in caplog.text


def test_the_default_cache_is_below_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert choices_file() == tmp_path / ".cache" / "hypergossip" / "compute.json"


def test_slow_candidates_run_once_and_the_best_time_counts(monkeypatch):
    monkeypatch.setattr(tuning, "_SLOW_S", 0.015)
    tried = {"slow": Candidate(0.03), "fast": Candidate(0.0)}

    def first_call_is_slow():
        tried["fast"]()
        if tried["fast"].calls == 1:
            time.sleep(0.01)

    times = time_candidates({"slow": tried["slow"], "fast": first_call_is_slow}, CPU)
    assert tried["slow"].calls == 1
    assert times["fast"] < 0.01 < 0.03 <= times["slow"]


def too_large():
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_candidate_that_runs_out_of_memory_has_lost(cache, caplog):
    caplog.set_level("INFO")
    assert remembered_choice("mlp", {"large": too_large, "small": Candidate(0.001)}, CPU) == "small"
    assert "large out of memory" in caplog.text
    assert json.loads(cache.read_text()) == {"mlp": "small"}


def test_candidates_that_all_run_out_of_memory_end_the_run(cache):
    with pytest.raises(torch.OutOfMemoryError, match="the memory of cpu is too small for each of a, b"):
        remembered_choice("mlp", {"a": too_large, "b": too_large}, CPU)
    assert not cache.exists()
