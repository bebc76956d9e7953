"""Make playmill/decoding/sample.h264, which NVDEC proves itself with; its name is the argument.

Not made anew by any test: another x264 makes another stream of the same kind.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.codec.context import CodecContext
from av.video.frame import VideoFrame

SIZE = (192, 128)
NUM_FRAMES = 12


def make(path: Path) -> None:
    """Write a pattern with grain that moves: High profile, B-frames, full range, BT.709."""
    width, height = SIZE
    encoder = CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.colorspace, encoder.color_range = Fraction(1, 30), 1, 2
    encoder.options = {"preset": "medium", "crf": "30", "x264-params": "keyint=8:bframes=2"}
    rows, columns = np.mgrid[: height * 3 // 2, :width]
    grain = np.random.default_rng(0).integers(0, 16, rows.shape)
    pattern = (128 + 60 * np.sin(rows / 9) * np.cos(columns / 13) + grain).astype(np.uint8)
    packets = []
    for number in range(NUM_FRAMES):
        moved = np.roll(pattern, (2 * number, 3 * number), (0, 1))
        picture = VideoFrame.from_ndarray(moved, format="yuv420p")
        picture.pts, picture.time_base = number, encoder.time_base
        packets += encoder.encode(picture)
    path.write_bytes(b"".join(map(bytes, [*packets, *encoder.encode(None)])))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
