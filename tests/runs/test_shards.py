import pytest

from tagmask.errors import InputError
from tagmask.runs.shards import Shard, parse_shard


def test_every_image_is_in_one_shard_and_stays_there():
    keys = [f"photos/{i}.jpg" for i in range(2000)]
    parts = [[key for key in keys if Shard(i, 8).takes(key)] for i in range(1, 9)]
    assert sorted(key for part in parts for key in part) == sorted(keys)
    assert all(200 < len(part) < 300 for part in parts)
    # Machines of other versions must agree: the hash may never change.
    assert [next(i for i in range(1, 9) if Shard(i, 8).takes(key)) for key in keys[:6]] == EXPECTED


EXPECTED = [2, 3, 3, 3, 3, 7]


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "-1/8", "2/8/1", "a/b", "1/0", "1.0/8", "²/8"])
def test_other_forms_are_refused(text):
    with pytest.raises(InputError, match="--shard"):
        parse_shard(text)
