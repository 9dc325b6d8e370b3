"""Progress bars after the clock was set, and after the process was stopped for long."""

import re
import time
from types import SimpleNamespace

import pytest

from ssagan_jax import progress
from ssagan_jax.config.schedule import Stage
from ssagan_jax.progress import Progress
from ssagan_jax.training import progress_bar
from ssagan_jax.training.progress_bar import ProgressBar, StepTimer


@pytest.fixture
def clock(monkeypatch):
    """The clock that nobody sets, in the hand of the test."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress_bar, "time", clock)
    return clock


@pytest.mark.parametrize("jump", [-3600, 86_400])
def test_bars_do_not_follow_the_machines_clock(clock, jump, monkeypatch, capsys):
    never_closed = Progress(total=4)
    with Progress(total=4, bar_format="{n_fmt} {elapsed} {remaining}", mininterval=0.5) as bar:
        clock.now += 1
        bar.update()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + jump)
        clock.now += 1
        bar.update()
    shown = [line.strip() for line in capsys.readouterr().err.split("\r")]
    assert shown[-3:] == ["1 00:01 00:03", "2 00:02 00:02", "2 00:02 00:02"]
    never_closed.close()


def test_a_stop_of_an_hour_is_no_step(clock, capsys):
    bar = ProgressBar(Stage("gan", 0, 100), 0, batch_size=8)
    clock.now += 60  # The first step compiles.
    bar.start()
    for step in range(40):
        clock.now += 3600 if step == 20 else 2
        bar.advance()
        bar.set_metrics({"generator/adversarial": 1.5})
        if step in (19, 20, 39):
            (line,) = re.findall(r"gan \d+/100 .*", capsys.readouterr().err.split("\r")[-1])
            left = "{:02d}:{:02d}".format(*divmod((98 - step) * 2, 60))
            assert f"left {left}, 4.0 images/s" in line, (step, line)
    bar.close()


def test_what_is_slow_at_times_counts(clock):
    timer = StepTimer()
    assert timer.seconds_per_step() is None
    timer.start()
    for seconds in [1, 1, 1, 5] * 20:
        clock.now += seconds
        timer.advance()
    # Of the last 50 steps 13 take 5 seconds, of which 5 do not count.
    assert timer.seconds_per_step() == (37 + 8 * 5) / 45
