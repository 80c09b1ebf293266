"""The command line interface.

Results go to stdout, messages to stderr. Exit codes: 0 success, 1 some images failed, 2 the command could not
run. Heavy imports stay inside the commands so that `tagmask --help` is fast.
"""
