"""The best checkpoint: kept apart, complete at any time, and found by name and by step."""

import argparse
import json
import math

import pytest
from test_checkpoints import DIGEST, TEMPLATE, bits, make_position, make_state, write

from ssagan_jax.checkpointing import best_checkpoint
from ssagan_jax.checkpointing.best_checkpoint import (
    BestCheckpoint,
    find_checkpoint,
    parse_checkpoint,
    read_best,
    write_best,
)
from ssagan_jax.checkpointing.checkpoints import CheckpointError, Checkpoints
from ssagan_jax.config.validation import BEST_SCORES
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.reporting.score_table import COLUMNS
from ssagan_jax.training.keep_best import keep_if_best
from ssagan_jax.workdir import Workdir


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path)


def keep(workdir, step, value=0.5, name="kid"):
    best = BestCheckpoint(step, name, value)
    write_best(workdir, best, make_state(step, step), make_position(step), DIGEST)


def assert_kept(workdir, step):
    """The best checkpoint is that of a step, complete and with its data position."""
    folder, found = find_checkpoint(workdir, "best")
    position = make_position()
    state = Checkpoints(folder, None, DIGEST).restore(TEMPLATE, position, found)
    assert found == read_best(workdir).step == step
    assert bits(state) == bits(make_state(step, step))
    assert position.get_state() == make_position(step).get_state()


def test_the_new_one_replaces_the_old_one_whatever_their_order(workdir):
    # A run that resumes from before its best checkpoint takes lower steps again.
    for step in (5, 8, 3):
        keep(workdir, step)
        assert_kept(workdir, step)
        assert [path.name for path in workdir.best_checkpoints.iterdir()] == [f"{step}"]
    names = sorted(path.name for path in workdir.path.iterdir())
    assert names == ["best.json", "checkpoints_best"]
    expected = {"step": 3, "score": "kid", "value": 0.5, "num": 0}
    assert json.loads(workdir.best.read_text()) == expected


@pytest.mark.parametrize("at", ["write_atomically", "Checkpoints.close", "shutil.rmtree"])
def test_a_kill_leaves_the_old_or_the_new_one(workdir, at, monkeypatch):
    class Killed(BaseException):
        pass

    close = Checkpoints.close

    def kill(*args, **_):
        if at == "Checkpoints.close":  # Unlike a real kill, this one leaves the writing thread.
            close(*args)
        raise Killed

    keep(workdir, 5)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(f"{best_checkpoint.__name__}.{at}", kill)
        keep(workdir, 8)
    assert_kept(workdir, 5)
    keep(workdir, 8)
    assert_kept(workdir, 8)
    assert [path.name for path in workdir.best_checkpoints.iterdir()] == ["8"]


def test_it_is_found_by_its_step_once_the_latest_ones_no_longer_have_it(workdir):
    keep(workdir, 5)
    write(workdir.checkpoints, 5, 6)
    assert find_checkpoint(workdir, 5) == (workdir.checkpoints, 5)
    write(workdir.checkpoints, 7, keep=2)
    assert find_checkpoint(workdir, 5) == (workdir.best_checkpoints, 5)
    assert find_checkpoint(workdir, 4) == (workdir.checkpoints, 4)
    assert find_checkpoint(workdir, None) == (workdir.checkpoints, None)


def test_without_one_the_message_says_how_to_keep_it(workdir):
    assert read_best(workdir) is None
    with pytest.raises(CheckpointError, match=r"keeps no best checkpoint; train with --config.ev"):
        find_checkpoint(workdir, "best")


@pytest.mark.parametrize("content", ["", "[]", '{"step": 5}'])
def test_a_damaged_file_is_refused_by_its_name(workdir, content):
    workdir.best.write_text(content)
    with pytest.raises(CheckpointError, match=r"best\.json: cannot be read .*delete it"):
        read_best(workdir)


def test_only_better_scores_replace_it(workdir, capsys):
    recipe = {}

    def score(step, **values):
        scores = [
            Score(step, 1.0, "gan", "validation", name, value, None, recipe)
            for name, value in values.items()
        ]
        keep_if_best(workdir, name, scores, make_state(step, step), make_position(step), DIGEST)
        best = read_best(workdir)
        return best and best.step

    name = "kid"
    assert score(1, kid=math.nan, fid=1.0) is None
    assert capsys.readouterr().out == (
        "config.eval.best='kid' has no value here, so nothing is kept\n"
    )
    assert [score(2, kid=0.5), score(3, kid=0.5), score(4, kid=0.4), score(5, kid=0.6)] == [
        2,
        2,
        4,
        4,
    ]
    assert capsys.readouterr().out.splitlines()[-1] == "step 4: best kid so far, 0.4"
    # Scores from other weights start over.
    assert score(6, kid_torchvision=0.9) == 6
    name = "r_precision"
    assert [score(7, r_precision=0.1), score(8, r_precision=0.2)] == [7, 8]
    assert score(9, r_precision=0.1) == 8
    # So do those of another number of images, which are not comparable.
    recipe = {"num_generated": 16}
    assert [score(10, r_precision=0.1), score(11, r_precision=0.05)] == [10, 10]
    name = ""
    assert score(12, r_precision=0.9) == 10
    assert_kept(workdir, 10)


def test_a_step_that_is_passed_again_keeps_its_score_with_its_state(workdir):
    """A resumed run may round differently, on a GPU or with other devices."""

    def score(value, state, name="kid"):
        scores = [Score(5, 1.0, "gan", "validation", name, value, None, {})]
        keep_if_best(workdir, name, scores, state, make_position(5), DIGEST)

    first, again = make_state(5, 5), make_state(5, 6)
    score(0.5, first)
    score(0.4, again)
    assert read_best(workdir).value == 0.5
    assert_kept(workdir, 5)
    score(0.9, again, "fid")
    folder, found = find_checkpoint(workdir, "best")
    assert bits(Checkpoints(folder, None, DIGEST).restore(TEMPLATE, step=found)) == bits(again)
    # One that was killed before best.json named it.
    workdir.best.unlink()
    score(0.5, first)
    assert_kept(workdir, 5)


def test_scores_are_better_in_the_direction_of_the_report():
    # The table marks no best encoder_frechet, which cannot be compared between runs.
    assert BEST_SCORES == {name: COLUMNS[name].better or min for name in BEST_SCORES}


def test_a_step_or_best_is_parsed():
    assert (parse_checkpoint("12"), parse_checkpoint("best")) == (12, "best")
    for text in ("", "-1", "all", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a step or best"):
            parse_checkpoint(text)
