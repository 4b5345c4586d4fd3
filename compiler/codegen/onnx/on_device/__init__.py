"""Artifacts for on-device training: models and a checkpoint that ONNX Runtime's own training API trains with."""
