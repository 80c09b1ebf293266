"""Damaged and hostile files, in large numbers, to every reader: `make fuzz`.

    kinds            what the readers read: good files, how to damage them, which function reads them
    mutate pieces    changes of bytes, and of the pieces of a format with lengths and checksums repaired
    server           reads inputs in children of one process that has imported everything
    judge            the verdict on an input: what it raised, what it cost, what it wrote

`python -m benchmarks.fuzz --help` lists the options. Needs Linux.
"""
