"""A worker's memory stays where it is, however many chunks it extracts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# A process of its own: what other tests needed would hide in the peak.
WORKER = """
import json, sys
from pathlib import Path
from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decoding.process import DecodeProcess
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.manifest import make_manifest
from playmill.recording import read_recording
from playmill.testing import make_recording

def peak_kb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

folder = Path(sys.argv[1])
made = make_recording(folder / "r", seconds=10, gop=1, bframes=0, size=(320, 240))
config = PipelineConfig(encoder="mean_pixel", chunk_frames=1, batch_size=4)
encoder = encoders.load("mean_pixel", device="cpu")
peaks = {}
with DecodeProcess() as decoder:
    recording = read_recording(made.folder, identity="r")
    manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
    processor = FrameProcessor.from_encoder(encoder, batch_size=4, num_threads=1)
    extractor = Extractor(processor, decoder, 2)
    for number, chunk in enumerate(manifest.chunks, start=1):
        extractor.extract(made.video, chunk, manifest, folder=folder / chunk.id)
        peaks[number] = peak_kb("self") + peak_kb(decoder.pid)
print(json.dumps([len(manifest.chunks), peaks[20], peaks[number]]))
"""


def test_peak_memory_does_not_grow_with_the_number_of_chunks(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=280,
    )
    num_chunks, early, late = json.loads(result.stdout)
    assert num_chunks == 300
    assert late <= 1.03 * early
