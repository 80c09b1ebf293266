"""RUN FORMAT OPTIONS OUT: export a run in an environment that has a library which the format needs."""

import json
import sys

from tagmask.runs.reader import Run

path, form, options, out = sys.argv[1:]
with Run(path) as run:
    print(run.export(form, out, **json.loads(options)))
