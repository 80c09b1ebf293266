"""Region proposals of other programs: files, arrays, and SAM itself."""
