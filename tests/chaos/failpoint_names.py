"""The failpoints of the code, in the order in which a job passes them."""

from __future__ import annotations

NAMES = (
    *("ingest:received", "ingest:leased", "ingest:begun", "ingest:before-manifest"),
    *("ingest:after-manifest", "ingest:worked", "ingest:released", "ingest:advanced"),
    *("extract:received", "extract:leased", "extract:begun", "extract:part-created"),
    *("extract:batch-written", "extract:part-written", "extract:before-commit"),
    *("extract:after-commit", "extract:worked", "extract:released", "extract:advanced"),
    *("consolidate:received", "consolidate:leased", "consolidate:begun"),
    *("consolidate:before-publication", "publish:file-created", "publish:labels-written"),
    *("publish:features-written", "publish:file-closed", "publish:before-link"),
    *("publish:after-link", "consolidate:after-publication", "consolidate:before-marker"),
    *("consolidate:after-marker", "consolidate:worked", "consolidate:released"),
    "consolidate:advanced",
)
"""Those that a first publication passes."""
REPLACING = ("publish:before-replace", "publish:after-replace")
"""Those that only a replacement passes."""
NIGHTLY = (
    *("nightly:before-claim", "nightly:claimed", "nightly:one-submitted"),
    *("nightly:all-submitted", "nightly:reported"),
)
"""Those that a night passes."""
