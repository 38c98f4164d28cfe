"""What tests of operations need, installed so that backends written elsewhere can use it.

subjects.py       every operation that there is, found by looking
variants.py       every implementation that runs here
samples.py        inputs that walk the edges, by operation
error_inputs.py   calls that must be refused, and the text that refuses them
tolerance.py      how exact a floating result must be
poison.py         memory around tensors that must be neither read nor written
tally.py          how many tests ran on each backend
"""
