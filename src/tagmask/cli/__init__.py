"""The command line. Results on stdout, talk on stderr; exit 0 all done, 1 some images failed, 2 usage.

Heavy imports stay inside the commands, so that `tagmask --help` answers at once.
"""
