"""Makes the demo's model: a small jet tagger with inputs of variable length, like ParticleNet's.

    python jobs/demo/make_model.py FOLDER

The weights are random, from a fixed seed: the same file on every machine. It is not trained,
because only its speed is of interest here. Needs numpy and onnx.
"""

import sys
from pathlib import Path

import numpy as np

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ModuleNotFoundError as error:
    sys.exit(f"{error}\n  -> pip install 'triton-hpcbench[demo]'")

SEED = 20260101
PARTICLE_FEATURES, VERTEX_FEATURES, HIDDEN, CLASSES = 16, 10, 64, 8

CONFIG = f"""name: "jet_tagger"
platform: "onnxruntime_onnx"
max_batch_size: 256
dynamic_batching {{
}}
input [
  {{
    name: "pf_features"
    data_type: TYPE_FP32
    dims: [ {PARTICLE_FEATURES}, -1 ]
  }},
  {{
    name: "pf_mask"
    data_type: TYPE_FP32
    dims: [ 1, -1 ]
  }},
  {{
    name: "sv_features"
    data_type: TYPE_FP32
    dims: [ {VERTEX_FEATURES}, -1 ]
  }},
  {{
    name: "sv_mask"
    data_type: TYPE_FP32
    dims: [ 1, -1 ]
  }}
]
output [
  {{
    name: "softmax"
    data_type: TYPE_FP32
    dims: [ {CLASSES} ]
  }}
]
"""


def build() -> onnx.ModelProto:
    """Per-particle layers shared along the jet, a masked mean over each set, then a classifier."""
    random = np.random.default_rng(SEED)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        values = random.normal(0, 1 / np.sqrt(shape[1]), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        made = helper.make_node(kind, inputs, [output])
        made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        nodes.append(made)
        return output

    weights.append(numpy_helper.from_array(np.array([2], np.int64), "length_axis"))
    weights.append(numpy_helper.from_array(np.array(1e-6, np.float32), "tiny"))
    pooled = []
    for kind, features in (("pf", PARTICLE_FEATURES), ("sv", VERTEX_FEATURES)):
        x = f"{kind}_features"
        for layer, (width_in, width_out) in enumerate(
            ((features, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN))
        ):
            kernel = weight(f"{kind}_w{layer}", width_out, width_in, 1)
            x = node("Conv", [x, kernel], f"{kind}_conv{layer}", kernel_shape=[1])
            x = node("Relu", [x], f"{kind}_relu{layer}")
        x = node("Mul", [x, f"{kind}_mask"], f"{kind}_masked")
        total = node("ReduceSum", [x, "length_axis"], f"{kind}_sum", keepdims=0)
        count = node("ReduceSum", [f"{kind}_mask", "length_axis"], f"{kind}_count", keepdims=0)
        count = node("Add", [count, "tiny"], f"{kind}_safe_count")
        pooled.append(node("Div", [total, count], f"{kind}_mean"))
    x = node("Concat", pooled, "jet", axis=1)
    x = node("Gemm", [x, weight("w_jet", HIDDEN, 2 * HIDDEN)], "jet_hidden", transB=1)
    x = node("Relu", [x], "jet_relu")
    x = node("Gemm", [x, weight("w_class", CLASSES, HIDDEN)], "logits", transB=1)
    node("Softmax", [x], "softmax", axis=1)

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width, length])
        for name, width, length in (
            ("pf_features", PARTICLE_FEATURES, "particles"),
            ("pf_mask", 1, "particles"),
            ("sv_features", VERTEX_FEATURES, "vertices"),
            ("sv_mask", 1, "vertices"),
        )
    ]
    output = helper.make_tensor_value_info("softmax", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(nodes, "jet_tagger", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def main(repository: Path) -> None:
    """Writes a Triton model repository that holds the one model."""
    folder = repository / "jet_tagger"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    onnx.save(build(), folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
