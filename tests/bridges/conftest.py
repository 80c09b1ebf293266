"""Programs run with other tools' Python, not with ours."""

collect_ignore = ["programs"]
