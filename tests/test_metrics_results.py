"""The results contract: what a CSV row may say, and that files are byte-stable and atomic."""

from __future__ import annotations

import math
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from splathead import results
from splathead.results import COLUMNS, ResultRow, parse_threshold, read_results, threshold_text, write_results

ROW = ResultRow(
    experiment="main", dataset="anny", fit="regularised", raster_mode="classic", track="A", target="surface", split="test",
    views="near_frontal", zone="interior", method="splathead", metric="rmse", unit="mm", value=0.3191234567,
    ci_low=0.3, ci_high=0.34, n=6, seed=0, device="cpu, of some kind", commit="abc", dirty=False, config_hash="12",
)  # fmt: skip


def test_columns_are_the_contract():
    expected = (
        "experiment, dataset, fit, raster_mode, track, degradation_train, degradation_test, target, split, views, zone, "
        "method, method_b, metric, threshold, unit, value, ci_low, ci_high, n, seed, device, commit, dirty, config_hash"
    )
    assert list(COLUMNS) == expected.split(", ")


def test_round_trip_is_byte_stable_and_independent_of_row_order(tmp_path):
    rows = [
        ROW,
        replace(ROW, method_b="bilinear", value=-0.1, ci_low=-0.2, ci_high=-0.05),
        replace(ROW, metric="f_score", unit="frac", threshold=threshold_text(0.5, "mm"), value=1.0, ci_low=None, ci_high=None),
        replace(ROW, metric="parameters", unit="count", value=7765409.0, ci_low=None, ci_high=None, n=None, dirty=None),
    ]
    write_results(tmp_path / "a.csv", rows)
    write_results(tmp_path / "b.csv", rows[::-1])
    text = (tmp_path / "a.csv").read_bytes()
    assert text == (tmp_path / "b.csv").read_bytes()
    assert b"7765409" in text and b"0.319123," in text and b"\r" not in text
    back = read_results(tmp_path / "a.csv")
    assert sorted(r.key() for r in back) == sorted(r.key() for r in rows)
    assert {r.metric: r.dirty for r in back}["parameters"] is None
    write_results(tmp_path / "c.csv", back)
    assert (tmp_path / "c.csv").read_bytes() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv", "c.csv"]  # no temporary file left


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "RMSE"}, "metric 'RMSE'"),
        ({"unit": "dB"}, "unit 'dB'"),
        ({"value": math.nan}, "finite"),
        ({"value": np.float32(1.0)}, "finite"),
        ({"value": -1.0}, "expected within"),
        ({"metric": "recall", "unit": "frac", "value": 1.1}, "expected within"),
        ({"ci_low": None}, "together"),
        ({"ci_low": 0.4, "ci_high": 0.3}, "above"),
        ({"zone": "inside"}, "zone = 'inside'"),
        ({"track": "D"}, "track"),
        ({"method": ""}, "method is empty"),
        ({"threshold": "0.5"}, "threshold '0.5'"),
        ({"method": "a\nb"}, "control characters"),
        ({"n": 0}, "n = 0"),
    ],
)
def test_a_row_that_breaks_the_contract_cannot_be_made(change, message):
    with pytest.raises(ValueError, match=message):
        replace(ROW, **change)


def test_thresholds_carry_their_unit():
    assert threshold_text(0.5, "mm") == "0.5mm" and threshold_text(1, "%diag") == "1%diag"
    for value, unit in ((0.1, "mm"), (0.5, "%diag"), (0.00025, "frac")):
        assert parse_threshold(threshold_text(value, unit)) == (value, unit)
    with pytest.raises(ValueError, match="threshold unit"):
        threshold_text(1.0, "cm")


def test_same_key_twice_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="two rows for main"):
        write_results(tmp_path / "a.csv", [ROW, replace(ROW, value=0.31)])
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    write_results(path, [ROW])
    before = path.read_bytes()

    def rows():
        yield replace(ROW, method="other")
        raise RuntimeError("measurement failed")

    with pytest.raises(RuntimeError):
        write_results(path, rows())
    assert path.read_bytes() == before


def test_reading_names_file_and_line(tmp_path):
    path = tmp_path / "a.csv"
    write_results(path, [ROW])
    good = path.read_text()
    for bad, message in (
        (good.replace(",rmse,", ",rmsd,"), r"a\.csv, line 2: metric 'rmsd'"),
        (good.replace("0.319123", "nan"), "line 2.*finite"),
        (good.replace("0.319123", "x"), "line 2.*could not convert"),
        (good.replace(",false,", ",no,"), "line 2"),
        (good.replace("experiment,", "run,"), "columns"),
        (good + good.splitlines()[1] + "\n", "line 3: same key as line 2"),
        (good.rsplit(",", 1)[0] + "\n", "24 cells"),
        ("", "columns"),
    ):
        path.write_text(bad)
        with pytest.raises(ValueError, match=message):
            read_results(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_results(tmp_path / "nowhere.csv")


def test_git_state_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "splathead"
    package.mkdir()
    (tmp_path / "eval").mkdir()
    (package / "results.py").write_text("x = 1\n")
    (tmp_path / "eval" / "a.csv").write_text("1\n")
    monkeypatch.setattr(results, "__file__", str(package / "results.py"))

    def state():
        results.git_state.cache_clear()
        return results.git_state()

    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        assert state() == ("", None)  # not a checkout
        git("init", "-q")
        git("add", ".")
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a")
        head = git("rev-parse", "HEAD")
        assert state() == (head, False)
        (tmp_path / "eval" / "a.csv").write_text("2\n")
        assert state() == (head, False)  # newly measured results are not a change of the code
        (package / "results.py").write_text("x = 2\n")
        assert state() == (head, True)
    finally:
        results.git_state.cache_clear()


def test_device_name_names_the_cpu():
    name = results.device_name("cpu")
    assert name.endswith("cores)") and len(name) > len(" (2 cores)")
