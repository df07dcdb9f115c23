"""What the crash images rest on: which disks there may be, and what is wrong with one."""

import importlib
import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

disk = importlib.import_module("disk")
stories = importlib.import_module("stories")
tape = importlib.import_module("tape")

SECTOR = disk.SECTOR
OLD, NEW = b"o" * 4 * SECTOR, b"n" * 4 * SECTOR


def write(data, at=0, handle=1):
    return [tape.Write(handle, at, data), tape.Changed(handle)]


def sync(handle=1, *, folder=True):
    return [tape.Sync(handle), tape.Synced(handle, folder)]


def truncate(size, handle=1):
    return [tape.Truncate(handle, size), tape.Changed(handle)]


def images(*parts, policies=tuple(disk.POLICIES), seeds=60):
    """The disks that there may be after these events."""
    here = disk.Disk()
    for event in (one for part in parts for one in part):
        here.follow(event)
    return [here.image(random.Random(seed), policy) for policy in policies for seed in range(seeds)]


OPEN = [tape.Open(1, "db")]


def test_what_was_synced_is_there():
    assert {image["db"] for image in images(OPEN, write(OLD), sync(), write(NEW), sync())} == {NEW}


def test_what_was_not_synced_is_there_or_gone_or_torn_into_sectors():
    found = {image["db"] for image in images(OPEN, write(OLD), sync(), write(NEW))}
    assert {OLD, NEW} < found
    assert len(found) > 10
    for content in found:
        for at in range(0, len(content), SECTOR):
            assert content[at : at + SECTOR] in {OLD[:SECTOR], NEW[:SECTOR]}


def test_a_write_does_no_harm_beside_itself():
    found = {image["db"] for image in images(OPEN, write(OLD), sync(), write(b"x" * 10, at=500))}
    for content in found:
        assert content[:500] + content[510:] == OLD[10:]


def test_later_writes_may_be_there_without_earlier_ones():
    found = {image["db"] for image in images(OPEN, write(OLD), sync(), write(b"1"), write(b"2", at=SECTOR))}
    assert {(one[0:1], one[SECTOR : SECTOR + 1]) for one in found} == {
        (b"o", b"o"),
        (b"1", b"o"),
        (b"o", b"2"),
        (b"1", b"2"),
    }


def test_a_sector_that_the_kernel_wrote_back_holds_what_it_held_at_some_moment():
    """Pages are written back as they are: a later write to a sector never comes without an earlier one."""
    events = OPEN, write(OLD), sync(), write(b"1"), write(b"2", at=1)
    found = {image["db"][:2] for image in images(*events, policies=("sectors",), seeds=300)}
    assert found == {b"oo", b"1o", b"12"}


def test_a_sync_is_about_what_was_over_when_it_began():
    begun, over = write(NEW, handle=2)
    other = [tape.Open(2, "db")]
    found = {image["db"] for image in images(OPEN, other, write(OLD), sync(), [begun], sync(), [over])}
    assert OLD in found


def test_a_sync_that_is_not_over_proves_nothing():
    found = {image.get("db") for image in images(OPEN, write(OLD), [tape.Sync(1)])}
    assert {None, OLD} <= found


def test_sizes_come_late_too():
    sizes = {len(image["db"]) for image in images(OPEN, write(OLD), sync(), truncate(0), write(b"123"))}
    assert {0, 3, len(OLD)} <= sizes


@pytest.mark.parametrize("folder", [True, False])
def test_a_name_is_certain_when_its_folder_was_synced(folder):
    found = images(OPEN, write(OLD), sync(folder=folder))
    assert all("db" in image for image in found) == folder


def test_a_removed_file_may_be_back():
    gone = [tape.Unlink("db"), tape.Unlinked("db", folder=False)]
    found = images(OPEN, write(OLD), sync(), gone)
    assert {"db" in image for image in found} == {True, False}
    found = images(OPEN, write(OLD), sync(), gone, [tape.Open(2, "db")], write(NEW, handle=2), sync(2))
    assert {image["db"] for image in found} == {NEW}


def told(*deeds):
    """Stories of deeds, each a list of effects; deed n is asked for at 2n + 1 and told at 2n + 2."""
    events = []
    for number, effects in enumerate(deeds):
        events += [tape.Asked(number, "deed"), tape.Told(number, effects)]
    return stories.stories(events)


def put(name, **more):
    return (name, [0, 0], {"state": "queued", "attempt": 0} | more)


def claim(name):
    return (name, [1, 0], {"state": "running", "attempt": 1})


def settle(name):
    return (name, [1, 2], {"state": "completed"})


def thing(state, attempt=0):
    return {"state": state, "attempt": attempt}


def broken(known, seen, cut, *, full=True):
    return sorted({one.what for one in stories.compare(known, seen, cut, full=full).violations})


TWO = told([put("a")], [put("b")], [claim("a")], [settle("a")])
DONE = {"a": thing("completed", 1), "b": thing("queued")}


def test_a_disk_with_all_that_was_acknowledged_is_right():
    assert not broken(TWO, DONE, 8)


def test_what_was_asked_for_and_not_acknowledged_may_be_there_or_not():
    assert not broken(TWO, DONE, 7)
    assert not broken(TWO, DONE | {"a": thing("running", 1)}, 7)


def test_what_is_missing_was_lost():
    assert broken(TWO, {"b": thing("queued")}, 8) == ["lost"]
    assert broken(TWO, DONE | {"a": thing("running", 1)}, 8) == ["lost"]


def test_a_suffix_may_be_missing_only_where_less_than_full_is_promised():
    seen = {"a": thing("queued")}
    assert broken(TWO, seen, 8) == ["lost"]
    finding = stories.compare(TWO, seen, 8, full=False)
    assert not finding.violations
    assert finding.lost == 3


def test_a_hole_is_never_right():
    assert broken(TWO, {"a": thing("completed", 1)}, 8, full=False) == ["a hole"]


def test_what_was_asked_for_together_is_there_together():
    known = told([put("a"), put("b")])
    assert broken(known, {"a": thing("queued")}, 1) == ["half done"]
    assert not broken(known, {}, 1)


def test_nothing_is_there_that_nobody_asked_for():
    assert broken(TWO, DONE | {"c": thing("queued")}, 8) == ["nobody asked for it"]
    assert broken(TWO, DONE, 5) == ["a state that never was"]


def test_an_end_does_not_change():
    assert broken(TWO, DONE | {"a": thing("failed", 1)}, 8) == ["a state that never was"]


def test_a_task_is_let_go_together_with_the_end_of_its_last_parent():
    known = told([put("a"), put("b", state="blocked", parents=["a"])], [claim("a")], [settle("a")])
    assert not broken(known, DONE, 6)
    assert not broken(known, DONE | {"a": thing("running", 1), "b": thing("blocked")}, 5)
    assert "held back and let go" in broken(known, DONE | {"b": thing("blocked")}, 5)
    assert "held back and let go" in broken(known, DONE | {"a": thing("running", 1)}, 5)


def test_a_tape_is_read_as_it_was_written(tmp_path):
    events = [*OPEN, *write(OLD), *sync(), tape.Unlink("x"), tape.Asked(1, "put"), tape.Told(1, [put("a")])]
    written = tape.Tape(tmp_path / "tape")
    for event in events:
        written.write(event)
    assert tape.read(tmp_path / "tape") == events
