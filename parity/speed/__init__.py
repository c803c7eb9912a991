"""Which framework is faster: one training or inference in many ways of writing it in each.

`command` runs it all. Every variant (`variants`) has a process of its own (`worker`, `processes`),
in which `bench` builds it from `jax_side` or `torch_side`. `rounds` times them in turns, `checks`
refuses one that computes something else, `statistics` and `roofline` say what the times mean, and
`report` and `plots` show them. The processes that load no framework import none.
"""
