"""What the server that forks processes (see `forked`) imports first, so that none imports it again.

Half of torch's exporter is imported by its first call: one small net is exported.
"""

from __future__ import annotations

import recipes.shrinking.flow
import recipes.toolbox.team_job  # noqa: F401
from targets.formats.onnx_graph import float_model
from tests.candidates import fresh
from tests.digits import digits
from tests.kept_registry import keep_registry

keep_registry()
digits()
float_model(fresh(), 18)
