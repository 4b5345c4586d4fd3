"""Rewrite the table in ``frontend/compat/program_desc/op_protos.py`` from what Paddle 1.8.5 says of its own ops.

Run with a Python 3.7 that has ``paddlepaddle==1.8.5``, as ``tests/frontend/make_goldens.py`` is::

    v37/bin/python tests/frontend/program_desc/make_op_protos.py
"""

import os
import re

# Ops of no static single-machine program, and of detection models, which fluidc has no layers for.
LEFT_OUT = re.compile(
    r".*_grad2?$|.*_grad_grad$|.*fus.*|c_.*|.*nccl.*|fake_.*|send.*|recv.*|listen.*|.*fetch_barrier|distributed.*|tdm.*"
    r"|pull_.*|push_.*|load.*|save.*|checkpoint.*|ref_by.*|ngraph.*|tensorrt.*|lite.*|.*quantize.*|anakin.*"
    r"|create_c.*_reader"
    r"|.*_ids|.*box.*|.*nms.*|.*propos.*|.*roi.*|.*detection.*|retinanet.*|yolo.*|deformable.*|anchor.*|.*target_assign"
    r"|mine_hard.*|bipartite.*|.*barrier|fl_.*|prefetch|py_func|print|run_program|dgc.*|.*iou.*|.*infer"
    r"|attention_lstm|inplace_abn|moving_average.*|get_places|delete_var|coalesce.*|allreduce|broadcast|pyramid.*"
    r"|match_matrix.*|tree_conv|var_conv.*|.*_topk_avg.*|rank_attention|partial_.*|cvm|filter_by.*|hash|sample_logits"
    r"|lookup_sparse.*|.*dequant|similarity.*|polygon.*|psroi.*|sigmoid_focal.*|split_byref|split_selected.*|minus"
)
# Those of them that there are layers for after all.
KEPT = {
    "anchor_generator", "bipartite_match", "box_coder", "density_prior_box", "detection_map", "hash", "iou_similarity",
    "mean_iou", "multiclass_nms", "multiclass_nms2", "polygon_box_transform", "print", "prior_box",
    "sigmoid_focal_loss", "target_assign", "yolo_box",
}  # fmt: skip
NOT_KEPT = {
    "op_role", "op_role_var", "op_namescope", "op_callstack", "op_device", "use_mkldnn", "use_cudnn", "use_quantizer",
    "workspace_size_MB", "exhaustive_search", "skip_eager_deletion_vars", "remote_prefetch", "trainer_id",
    "height_sections", "epmap", "table_names", "pserver_num",
}  # fmt: skip
TABLE = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "frontend", "compat", "program_desc", "op_protos.py"
)


def described():
    from paddle.fluid import core  # pyright: ignore[reportMissingImports]
    from paddle.fluid.proto import framework_pb2  # pyright: ignore[reportMissingImports]

    kinds = {number: name for name, number in framework_pb2.AttrType.items()}
    lines = []
    for data in core.get_all_op_protos():
        op = framework_pb2.OpProto.FromString(bytes(data))
        if LEFT_OUT.match(op.type) and op.type not in KEPT:
            continue
        attrs = [f"{a.name}={kinds[a.type]}" for a in op.attrs if a.name not in NOT_KEPT and "@" not in a.name]
        words = [op.type + ":"] + [v.name for v in op.inputs] + [">"] + [v.name for v in op.outputs] + [";"] + attrs
        lines.append(" ".join(words).rstrip(" ;").rstrip())
    return sorted(lines)


def wrapped(line):
    """Lines of at most 118 characters; what follows is indented."""
    found, current = [], ""
    for word in line.split(" "):
        if len(current) + len(word) + 1 > 118:
            found.append(current)
            current = "   "
        current = current + " " + word if current else word
    return [*found, current]


if __name__ == "__main__":
    with open(TABLE) as file:
        text = file.read()
    rows = "\n".join(line for row in described() for line in wrapped(row))
    start, end = text.index('_TABLE = """\n') + len('_TABLE = """\n'), text.rindex('"""')
    with open(TABLE, "w") as file:
        file.write(text[:start] + rows + "\n" + text[end:])
