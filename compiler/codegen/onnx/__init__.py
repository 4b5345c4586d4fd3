"""The ``onnx`` target: every function of a module as one ONNX file that any ONNX Runtime executes."""
