"""Small TensorFlow models for tests, and one that takes and gives what a configuration says.

    python -m tests.helpers.tensorflow_models REPOSITORY --config CONFIG.PBTXT [--prefix PREFIX]

makes a graph for a configuration whose own graph cannot be had, as DeepTau's.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from google.protobuf import text_format

from hpcbench.config.triton_protobuf import ModelConfig
from tests.helpers.paths import CHECKOUT

SMALL = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
folder = Path(sys.argv[1])
weights = np.random.default_rng(7).normal(size=(3, 2)).astype(np.float32)

def graph(name, build):
    with tf.Graph().as_default() as made:
        build(tf.compat.v1)
    (folder / f"{name}.graphdef").write_bytes(made.as_graph_def().SerializeToString())

def linear(batch):
    def build(v1):
        x = v1.placeholder(tf.float32, [batch, 3], name="x")
        tf.matmul(x, tf.constant(weights), name="layer/y")
        tf.negative(x, name="z")
    return build

def gather(v1):
    x = v1.placeholder(tf.int64, [None, 1], name="x")
    tf.identity(tf.nn.embedding_lookup(tf.constant(np.arange(10, dtype=np.float32)), x), name="y")
    tf.add(tf.cast(x * 0, tf.float32), tf.cast(tf.shape(x)[0], tf.float32), name="rows")

def strings(v1):
    x = v1.placeholder(tf.string, [None, 2], name="x")
    tf.strings.join([x, tf.constant("!")], name="y")

def started(v1):
    x = v1.placeholder(tf.float32, [None, 1], name="x")
    offset = v1.get_variable("offset", initializer=tf.constant(5.0))
    tf.add(x, offset, name="y")
    v1.global_variables_initializer()

graph("linear", linear(None))
graph("fixed", linear(4))
graph("gather", gather)
graph("strings", strings)
graph("started", started)

class Layer(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(weights)
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(self, x):
        return {"y": x @ self.weights, "z": -x}
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def twice(self, x):
        return {"y": 2 * x @ self.weights}

layer = Layer()
tf.saved_model.save(
    layer,
    str(folder / "layer.savedmodel"),
    signatures={"serving_default": layer.serve, "twice": layer.twice},
)
"""

AS_CONFIGURED = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
target, inputs, outputs = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
random = np.random.default_rng(7)

def weights(*shape):
    values = random.normal(scale=shape[0] ** -0.5, size=shape)
    return tf.constant(values.astype(np.float32))

with tf.Graph().as_default() as graph:
    parts = []
    for name, dims in inputs.items():
        x = tf.compat.v1.placeholder(tf.float32, [None, *dims], name=name)
        if len(dims) > 1:
            # What DeepTau does with a cell of its grids before it looks at their neighbours.
            x = tf.nn.relu(tf.tensordot(x, weights(dims[-1], 64), 1))
            x = tf.nn.relu(tf.tensordot(x, weights(64, 32), 1))
            x = tf.reduce_mean(x, axis=list(range(1, len(dims))))
        parts.append(x)
    joined = tf.concat(parts, axis=1)
    for name, dims in outputs.items():
        logits = tf.reshape(joined @ weights(joined.shape[1], int(np.prod(dims))), [-1, *dims])
        tf.nn.softmax(logits, name=name)
target.write_bytes(graph.as_graph_def().SerializeToString())
"""


def small_models(prefix: Path, folder: Path) -> None:
    """The models of SMALL: NAME.graphdef files and NAME.savedmodel folders."""
    _run(prefix, SMALL, str(folder))


def as_configured(prefix: Path, config_file: Path, repository: Path) -> Path:
    """A model in ``repository`` with this config.pbtxt and a graph made for it."""
    config = ModelConfig()
    text_format.Parse(config_file.read_text(encoding="utf-8"), config)
    version = repository / config.name / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config_file, version.parent / "config.pbtxt")
    sides = [{io.name: list(io.dims) for io in side} for side in (config.input, config.output)]
    _run(prefix, AS_CONFIGURED, str(version / "model.graphdef"), *map(json.dumps, sides))
    return version.parent


def _run(prefix: Path, source: str, *arguments: str) -> None:
    """TensorFlow is in the prefix, not in the environment that runs the tests."""
    python = prefix / "python" / "bin" / "python3"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", source, *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--prefix", type=Path, default=CHECKOUT / ".native")
    options = parser.parse_args()
    sys.stdout.write(f"{as_configured(options.prefix, options.config, options.repository)}\n")


if __name__ == "__main__":
    main()
