"""Objects as paths: what a store guarantees, and what it says when it refuses."""

import io

import pytest

from popcat.errors import PopcatError
from popcat.files import create_json, footer_sha256, read_json, replacing, sha256_of, swap_json, version_of
from popcat.paths import open_bytes, path_of, stamp_of
from popcat.stores import ChangedError, RefusedError, StoreError


@pytest.fixture
def path(bucket):
    return path_of(f"{bucket}/a/b.bin")


def test_an_object_is_read_as_it_was_written(path, tmp_path):
    content = bytes(range(256)) * 9000
    path.put(content)
    assert path.read_bytes() == content
    assert path.read_range(3, 9) == content[3:9] and path.read_end(5) == (content[-5:], len(content))
    with open_bytes(path) as file:
        file.seek(-10, io.SEEK_END)
        assert (file.tell(), file.read()) == (len(content) - 10, content[-10:])
        assert file.seek(100) == 100 and file.read(2_000_000) == content[100:2_000_100]
    (tmp_path / "same").write_bytes(content)
    assert sha256_of(path) == sha256_of(tmp_path / "same")


def test_a_file_that_changes_while_it_is_read_is_an_error(path):
    path.put(b"x" * 3_000_000)
    with open_bytes(path) as file:
        file.read(10)
        path.put(b"y" * 3_000_000)
        file.seek(2_000_000)
        with pytest.raises(ChangedError):
            file.read(10)


def test_what_is_below_a_name_is_found_and_what_begins_like_it_is_not(bucket):
    for name in ("run/a.parquet", "run/deep/er/b.parquet", "run/c.txt", "run2/d.parquet"):
        path_of(f"{bucket}/{name}").put(b"1")
    run = path_of(f"{bucket}/run")
    assert run.is_dir() and not run.is_file() and run.exists()
    assert not path_of(f"{bucket}/ru").exists()
    assert sorted(str(one.relative_to(run)) for one in run.rglob("*.parquet")) == ["a.parquet", "deep/er/b.parquet"]
    assert sorted(one.name for one in run.iterdir()) == ["a.parquet", "c.txt", "deep"]
    assert [str(one.relative_to(run)) for one in run.glob("*/er/*.parquet")] == ["deep/er/b.parquet"]
    assert sorted(one.name for one in run.glob("**/*.parquet")) == ["a.parquet", "b.parquet"]


def test_of_two_that_create_an_object_one_does(path):
    assert create_json(path, {"writer": 1})
    assert not create_json(path, {"writer": 2})
    assert read_json(path) == {"writer": 1}


def test_an_object_is_replaced_only_as_it_was_seen(path):
    assert version_of(path) is None
    first = swap_json(path, {"n": 1}, None)
    second = swap_json(path, {"n": 2}, first)
    assert (second and second != first == version_of(path)) or version_of(path) == second
    assert swap_json(path, {"n": 3}, first) is None and swap_json(path, {"n": 4}, None) is None
    assert read_json(path) == {"n": 2}


def test_an_answer_that_was_lost_is_found_again(path):
    """A client asks again where a connection breaks, and may then meet its own object."""
    assert create_json(path, {"writer": "me"}) and create_json(path, {"writer": "me"})
    seen = version_of(path)
    assert swap_json(path, {"writer": "me"}, '"0123"') == seen


def test_a_writer_that_fails_leaves_nothing(path):
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert not path.exists() and not path.parent.exists()


def test_the_stamp_changes_with_the_content_alone(path):
    path.put(b"one")
    first = stamp_of(path)
    path.put(b"one")
    assert stamp_of(path) == first
    path.put(b"two")
    assert stamp_of(path)[0] == first[0] and stamp_of(path) != first


def test_the_footer_is_that_of_the_file(path, forty, tmp_path):
    path.put(forty)
    assert footer_sha256(path) == footer_sha256(forty)
    path.put(b"none")
    with pytest.raises(ValueError, match="no footer"):
        footer_sha256(path)


def test_what_a_store_refuses_is_said_in_one_line(environment):
    absent = path_of("s3://no-such-bucket/x")
    for ask in (lambda: absent.put(b"1"), absent.read_bytes, absent.is_dir):
        with pytest.raises(StoreError) as raised:
            ask()
        assert str(raised.value).startswith("s3://no-such-bucket/x: NoSuchBucket") and "\n" not in str(raised.value)
    with pytest.raises(PopcatError, match=r"^cannot reach s3://no-such-bucket/x: NoSuchBucket.*AWS_ACCESS_KEY_ID"):
        absent.require_reachable()
    assert issubclass(RefusedError, OSError)


def test_a_server_that_is_not_there_is_said_soon(environment, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PopcatError, match=r"^cannot reach s3://bucket/x: .*AWS_ENDPOINT_URL"):
        path_of("s3://bucket/x").require_reachable()
