"""Writes a trained model as a file to ship, and reads such files back.

`libraries` knows the weights that other libraries load, `onnx` and `torch_export` the programs that run without the
code of this project; `writing` checks every file against the original before it takes its name.
"""
