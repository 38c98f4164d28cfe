"""Is everything right on this machine's GPU, and how fast: `make gpu-check`.

    build.py        the package, and the machine
    correctness.py  every operation, every way of a kernel, layers and whole networks against float64
    races.py        CUDA kernels under compute-sanitizer
    benchmarks.py   timings beside what torch has
    report.py       the tables and the file

A check or a benchmark is a function that yields what it finds, and a line of `STAGES` in one of these files.
`worker.py` runs it in another process, so that the rest goes on if it hangs or dies, and `command.py` keeps the time.
"""
