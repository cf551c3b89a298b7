"""What the onnxruntime of this Python computes of pictures; numpy and onnxruntime are all it needs.

    python old_answers.py < jobs.json

As `tests.elsewhere` asks; where a file is refused, {"refused": what the runtime said}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnxruntime


def answer(job: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            job["model"], options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the engine's own exception types share no base class
        return {"refused": str(error)}
    batch = np.fromfile(job["pictures"], np.float32).reshape(-1, 1, *job["shape"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one})[0][0].tolist() for one in batch]


if __name__ == "__main__":
    found = [answer(job) for job in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(found) + "\n")
