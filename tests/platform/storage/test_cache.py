import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.storage import cache as module
from advseg.platform.storage.cache import LIMIT, Cache, Copy, giving_way, machine_cache
from advseg.trainers.errors import BrokenEnvironmentError

HOLDER = """
import sys
from pathlib import Path
from advseg.platform.storage.cache import Cache

print(Cache(Path(sys.argv[1]), 10).keep("packs", sys.argv[2], 6), flush=True)
sys.stdin.read()
"""


def copy(name: str, size: int, used: float, idle: bool = True) -> Copy:
    return Copy(folder=Path(name), bytes=size, used=used, idle=idle)


class TestWhatGivesWay:
    @pytest.mark.parametrize(
        ("needed", "going"),
        [(0, ""), (4, ""), (5, "b"), (7, "b"), (8, "ba"), (9, "ba"), (10, "bad"), (12, "bad"), (13, None), (99, None)],
    )
    def test_was_used_longest_ago_and_is_in_use_no_more(self, needed, going):
        copies = [copy("a", 2, used=2), copy("b", 3, used=1), copy("c", 4, used=0, idle=False), copy("d", 3, used=3)]

        found = giving_way(copies, needed, limit=16)

        assert (found and [each.folder.name for each in found]) == (going if going is None else list(going))

    @given(
        copies=st.lists(st.builds(copy, st.text("ab"), st.integers(0, 9), st.floats(0, 9), st.booleans())),
        needed=st.integers(0, 30),
        limit=st.integers(1, 30),
    )
    def test_is_enough_and_none_too_many(self, copies, needed, limit):
        found = giving_way(copies, needed, limit)

        used, everything = (sum(c.bytes for c in copies if not c.idle), sum(c.bytes for c in copies))
        if found is None:
            assert used + needed > limit
        else:
            left = everything - sum(c.bytes for c in found)
            assert left + needed <= limit
            assert all(each.idle for each in found)
            assert not found or left + found[-1].bytes + needed > limit


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Cache:
        return Cache(tmp_path / "cache", limit=10)

    @pytest.fixture
    def ended(self, cache: Cache, monkeypatch: pytest.MonkeyPatch):
        """Whatever this process has asked for until now is as if it had ended."""

        def end() -> None:
            for descriptor in module._held.values():
                os.close(descriptor)
            module._held.clear()

        monkeypatch.setattr(module, "_held", {})
        yield end
        end()

    def aged(self, folder: Path, used: int) -> Path:
        (folder / "file").write_bytes(b"x")
        os.utime(folder, (used, used))
        return folder

    def test_makes_room_for_a_new_copy_among_all_kinds(self, cache, ended):
        older = self.aged(cache.keep("weights", "older", 4), 1)
        newer = self.aged(cache.keep("packs", "newer", 5), 2)
        ended()

        third = cache.keep("packs", "third", 3)

        assert not older.exists()
        assert newer.is_dir() and third.is_dir()

    def test_asking_again_is_using(self, cache, ended):
        first, second = self.aged(cache.keep("packs", "a", 4), 1), self.aged(cache.keep("packs", "b", 4), 2)
        assert cache.keep("packs", "a", 4) == first
        ended()

        cache.keep("packs", "c", 4)

        assert (first / "file").is_file()
        assert not second.exists()

    def test_what_this_process_uses_stays_and_too_much_is_told_in_a_line(self, cache, ended):
        used = cache.keep("packs", "used", 6)

        with pytest.raises(BrokenEnvironmentError) as caught:
            cache.keep("packs", "new", 5)

        size = r"0\.0 GiB"
        told = (
            rf"a copy of {size} does not fit into \S+, which may hold {size}, of which {size} are in use: raise {LIMIT}"
        )
        assert re.fullmatch(rf"on \S+: {told} there", str(caught.value))
        assert [path.name for path in used.parent.iterdir()] == ["used-6"]

    def test_what_another_process_uses_stays_until_it_ends(self, cache, ended):
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(cache.root), "theirs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout
            theirs = Path(holder.stdout.readline().decode().strip())
            with pytest.raises(BrokenEnvironmentError, match="in use"):
                cache.keep("packs", "ours", 5)
            assert theirs.is_dir()

        assert cache.keep("packs", "ours", 5).is_dir()
        assert not theirs.exists()

    def test_may_be_deleted_and_is_used_again(self, cache, ended):
        folder = cache.keep("packs", "a", 4)
        folder.rmdir()

        assert cache.keep("packs", "a", 4).is_dir()
        with pytest.raises(BrokenEnvironmentError, match="in use"):
            cache.keep("packs", "b", 7)

    def test_what_others_put_there_is_left_alone(self, cache, ended):
        for name in ("packs/a-b", "packs/notes", "lock"):
            (cache.root / name).mkdir(parents=True)
        (cache.root / "packs/file-9").touch()
        (cache.root / "packs/link-9").symlink_to("nowhere")

        cache.keep("packs", "a", 10)

        assert (cache.root / "packs/a-b").is_dir() and (cache.root / "packs/file-9").is_file()


class TestTheMachines:
    def test_is_of_fifty_gib_unless_told_otherwise(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.delenv(LIMIT, raising=False)
        assert machine_cache() == Cache(tmp_path / "advseg", 50 * 2**30)
        monkeypatch.setenv(LIMIT, "0.5")
        assert machine_cache().limit == 2**29

    @pytest.mark.parametrize("limit", ["", "0", "-1", "much", "nan", "inf"])
    def test_limit_has_to_be_one(self, limit, monkeypatch):
        monkeypatch.setenv(LIMIT, limit)

        with pytest.raises(BrokenEnvironmentError, match=f"ADVSEG_CACHE_GIB is '{limit}', but must be a number of GiB"):
            machine_cache()
