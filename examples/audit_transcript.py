"""Would this attempt have been possible with less? Audit a recorded transcript."""

import tempfile
from pathlib import Path

import reroot
from reroot.families import HiddenPath

generator = HiddenPath(vocab_size=4, horizon=6, p=0.6)

with tempfile.TemporaryDirectory() as folder:
    reroot.run(
        "greedy_walk",
        [generator.problem()],
        generator,
        grants="reset/argmax(1)",
        out=folder,
        transcripts=True,
    )
    (transcript,) = Path(folder, "transcripts").iterdir()
    for contract in ("chosen/full", "reset/argmax(1)", "visited/sample", "root/argmax(1)"):
        print(f"{contract:16}", reroot.audit(transcript, contract) or "permitted")
