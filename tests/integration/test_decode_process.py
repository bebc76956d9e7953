"""The decoder's process can crash, hang and be abandoned; whoever uses it goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from playmill.decoding.child import NUM_SLOTS
from playmill.decoding.process import DecodeProcess
from playmill.errors import CorruptVideo, DecoderDied, MissingStream
from playmill.frames import decode_chunk
from playmill.plan import Chunk, cut
from playmill.testing import MadeRecording, make_recording, make_stills, read_number
from playmill.video_index import index_video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRecording:
    return make_recording(tmp_path_factory.mktemp("r"), seconds=4, gop=30)


@pytest.fixture(scope="module")
def chunks(made: MadeRecording) -> tuple[Chunk, ...]:
    return cut(index_video(made.video), target_frames=60)


def test_index_and_frames_equal_those_of_this_process(
    made: MadeRecording, chunks: tuple[Chunk, ...]
) -> None:
    with DecodeProcess() as decoder:
        assert decoder.pid is None
        index = decoder.index(made.video)
        pid = decoder.pid
        assert index.digest == index_video(made.video).digest
        assert cut(index, target_frames=60) == chunks
        for chunk in chunks:
            here = list(decode_chunk(made.video, chunk))
            there = list(decoder.frames(made.video, chunk))
            assert [frame.pts for frame in there] == [frame.pts for frame in here]
            for one, other in zip(here, there, strict=True):
                assert np.array_equal(one.image, other.image)
        assert decoder.pid == pid
    assert decoder.pid is None


def test_pictures_of_several_sizes_equal_those_of_this_process(tmp_path: Path) -> None:
    # Given: a size that is scaled in the child, two that are left to the caller, and a repetition
    made = make_recording(tmp_path, seconds=1, gop=30, size=(320, 240))
    (chunk,) = cut(index_video(made.video), target_frames=60)
    sizes = ((32, 32), None, (200, 300), (32, 32))
    with DecodeProcess() as decoder:
        there = list(decoder.frames(made.video, chunk, sizes=sizes))
    here = list(decode_chunk(made.video, chunk, sizes=sizes))
    assert len(there) == len(here) == 30
    for one, other in zip(here, there, strict=True):
        shapes = [image.shape for image in other.images]
        assert shapes == [(32, 32, 3), (240, 320, 3), (240, 320, 3), (32, 32, 3)]
        assert other.images[1] is other.images[2]
        for left, right in zip(one.images, other.images, strict=True):
            assert np.array_equal(left, right)


def test_the_caller_owns_the_images(made: MadeRecording, chunks: tuple[Chunk, ...]) -> None:
    with DecodeProcess() as decoder:
        frames = list(decoder.frames(made.video, chunks[0]))
        list(decoder.frames(made.video, chunks[1]))
    assert len(frames) > NUM_SLOTS
    assert [read_number(frame.image) for frame in frames] == list(range(60))
    assert all(frame.image.flags.owndata or frame.image.base is not None for frame in frames)


def test_errors_of_the_child_are_raised_with_their_type(
    made: MadeRecording, chunks: tuple[Chunk, ...], tmp_path: Path
) -> None:
    (tmp_path / "empty.mp4").touch()
    with DecodeProcess() as decoder:
        with pytest.raises(CorruptVideo, match=r"empty\.mp4: found an empty file"):
            decoder.index(tmp_path / "empty.mp4")
        pid = decoder.pid
        with pytest.raises(MissingStream, match="no such file"):
            decoder.index(tmp_path / "absent.mp4")
        with pytest.raises(FileNotFoundError):
            list(decoder.frames(tmp_path / "absent.mp4", chunks[0]))
        assert len(list(decoder.frames(made.video, chunks[0]))) == 60
        assert decoder.pid == pid


def test_a_consumer_may_stop_early(made: MadeRecording, chunks: tuple[Chunk, ...]) -> None:
    with DecodeProcess() as decoder:
        for wanted in (1, 3, 10, 59):
            frames = decoder.frames(made.video, chunks[0])
            assert [read_number(next(frames).image) for _ in range(wanted)] == [*range(wanted)]
            frames.close()
        assert len(list(decoder.frames(made.video, chunks[1]))) == 60


def test_an_iterator_ends_when_another_call_begins(
    made: MadeRecording, chunks: tuple[Chunk, ...]
) -> None:
    with DecodeProcess() as decoder:
        first = decoder.frames(made.video, chunks[0])
        next(first)
        assert len(list(decoder.frames(made.video, chunks[1]))) == 60
        with pytest.raises(RuntimeError, match="another call"):
            next(first)
        assert len(list(decoder.frames(made.video, chunks[1]))) == 60


@pytest.mark.parametrize("sign", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_dead_child_is_an_error_and_the_next_call_works(
    made: MadeRecording, chunks: tuple[Chunk, ...], sign: signal.Signals
) -> None:
    with DecodeProcess() as decoder:
        frames = decoder.frames(made.video, chunks[0])
        next(frames)
        assert decoder.pid is not None
        os.kill(decoder.pid, sign)
        with pytest.raises(DecoderDied, match=rf"after pts \d+: .*killed by signal {sign:d}"):
            list(frames)
        assert len(list(decoder.frames(made.video, chunks[0]))) == 60


def test_a_child_that_died_between_calls_is_replaced(
    made: MadeRecording, chunks: tuple[Chunk, ...]
) -> None:
    with DecodeProcess() as decoder:
        list(decoder.frames(made.video, chunks[0]))
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGKILL)
        psutil.Process(decoder.pid).wait(5)
        assert len(list(decoder.frames(made.video, chunks[0]))) == 60


def test_a_hung_child_is_killed(made: MadeRecording, chunks: tuple[Chunk, ...]) -> None:
    with DecodeProcess(stall_s=0.5) as decoder:
        frames = decoder.frames(made.video, chunks[0])
        next(frames)
        pid = decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(DecoderDied, match=r"no progress for 0\.5 s"):
            list(frames)
        assert not psutil.pid_exists(pid)
    with DecodeProcess() as decoder:
        assert len(list(decoder.frames(made.video, chunks[0]))) == 60


def test_a_slow_consumer_is_no_stall(made: MadeRecording, chunks: tuple[Chunk, ...]) -> None:
    with DecodeProcess(stall_s=5) as decoder:
        list(decoder.frames(made.video, chunks[0]))
        decoder._stall_s = 0.5
        frames = decoder.frames(made.video, chunks[0])
        next(frames)
        time.sleep(1)
        assert len(list(frames)) == 59


def test_pictures_of_growing_size_fit(tmp_path: Path) -> None:
    for time_us, size in ((1, (64, 48)), (2, (640, 480)), (3, (16, 16)), (4, (1280, 720))):
        make_stills(tmp_path / "s", numbers=[time_us], times_us=[time_us], size=size)
    shutil.copyfile(tmp_path / "s" / "2.png", tmp_path / "s" / "5.png")
    with DecodeProcess() as decoder:
        (chunk,) = cut(decoder.index(tmp_path / "s"), target_frames=9)
        images = [frame.image for frame in decoder.frames(tmp_path / "s", chunk)]
    shapes = [(48, 64, 3), (480, 640, 3), (16, 16, 3), (720, 1280, 3), (480, 640, 3)]
    assert [image.shape for image in images] == shapes
    assert [read_number(image) for image in images] == [1, 2, 3, 4, 2]


def test_nothing_is_left_behind(made: MadeRecording, chunks: tuple[Chunk, ...]) -> None:
    before = psutil.Process().num_fds()
    for _ in range(3):
        with DecodeProcess() as decoder:
            next(decoder.frames(made.video, chunks[0]))
            pid = decoder.pid
        assert pid is not None
        assert not psutil.pid_exists(pid)
    assert psutil.Process().num_fds() == before


PARENT = """
import sys, time
from pathlib import Path
from playmill.decoding.process import DecodeProcess
from playmill.plan import cut
decoder = DecodeProcess()
path = Path(sys.argv[1])
frames = decoder.frames(path, cut(decoder.index(path), target_frames=60)[0])
next(frames)
print(decoder.pid, flush=True)
time.sleep(60)
"""


def test_the_child_ends_with_a_parent_that_is_killed(made: MadeRecording) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(made.video)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(5)


HANGS = """
import re, sys
from playmill.decoding.child import end_with_parent
end_with_parent(int(sys.argv[1]), int(sys.argv[2]))
print("watched", flush=True)
re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock for years
"""


def test_a_child_that_holds_the_interpreters_lock_ends_too() -> None:
    watched, life = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(watched), str(os.getpid())],
        pass_fds=[watched],
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"watched\n"
        time.sleep(0.2)
        assert child.poll() is None
        os.close(life)
        assert child.wait(5) == -signal.SIGIO
    os.close(watched)
