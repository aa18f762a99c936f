"""The executors behind `qspinn.simulate` and the explorer: compiled loops over events, and numpy.

`events` holds data as event lists; `layout` says how an edge lies in memory and turns connections
into tables; `machine` steps a chunk of samples through the nodes. `fast` and `plain` make the
steps of a network: the one calls `kernels` and what `printed` compiles, the other calls numpy.
`structure` parts a typed list into code and numbers, `vectors` makes vector instructions of the
code. `sweep` runs many graphs, through the tree that `trie` makes of them, with the last layers
that `tails` puts side by side.
"""
