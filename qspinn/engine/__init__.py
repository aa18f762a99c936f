"""The executors behind `qspinn.simulate`: compiled loops over events, and numpy without numba.

`events` holds data as event lists; `layout` says how an edge lies in memory and turns connections
into tables; `machine` steps a chunk of samples through the nodes. `fast` and `plain` make the
steps of a network: the one calls `kernels` and what `printed` compiles, the other calls numpy.
"""
