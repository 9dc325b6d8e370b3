"""Damaged and hostile files, some of each kind; `launch/fuzz.sh MINUTES` reads many more."""

import pytest
from fuzz.run import fuzz
from fuzz.targets import make_targets

EXAMPLES = 60


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return make_targets(tmp_path_factory.mktemp("corpus"))


NAMES = (
    "pickles",
    "pth",
    "safetensors",
    "shards",
    "tokenizer",
    "published",
    "config.json",
    "schedule.json",
)
NAMES += ("dataset.json", "best.json", "metrics", "health", "npz", "coco", "csv", "jsonl", "table")
NAMES += ("json_table", "boxes", "names", "features.json", "dataset_info.json", "bert")


def test_all_targets_are_listed(targets):
    assert tuple(targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused(targets, name):
    assert sum(fuzz(targets[name], EXAMPLES).values()) >= EXAMPLES // 2
