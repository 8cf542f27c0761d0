"""A task file for MediaPipe's HolisticLandmarker, put together from the models inside the wheel of mediapipe 0.10.21.

It stands in for the published holistic_landmarker.task, which is a download. Pose and hands are the real models. The
face's points have no meaning: the wheel's model gives 468 of them where 478 are expected. The model of the face's
expression, which the project does not use, but MediaPipe demands, is one that copies 52 of its inputs.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

# name in the bundle -> model in the wheel, mean and deviation of its pictures
MODELS = {
    "face_detector.tflite": ("face_detection/face_detection_short_range", 127.5, 127.5),
    "face_landmarks_detector.tflite": ("face_landmark/face_landmark", 0.0, 255.0),
    "hand_landmarks_detector.tflite": ("hand_landmark/hand_landmark_full", 0.0, 255.0),
    "hand_roi_refinement.tflite": ("holistic_landmark/hand_recrop", 0.0, 255.0),
    "pose_detector.tflite": ("pose_detection/pose_detection", 127.5, 127.5),
    "pose_landmarks_detector.tflite": ("pose_landmark/pose_landmark_full", 0.0, 255.0),
}


def make_task_file(path: Path) -> None:
    """Write the bundle. Needs mediapipe 0.10.21."""
    import mediapipe
    from mediapipe.tasks.python.metadata.metadata_writers.metadata_writer import MetadataWriter

    folder = Path(mediapipe.__file__).parent / "modules"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, (model, mean, deviation) in MODELS.items():
            writer = MetadataWriter.create(bytearray((folder / f"{model}.tflite").read_bytes()))
            bundle.writestr(name, bytes(writer.add_image_input([mean], [deviation]).populate()[0]))
        bundle.writestr("face_blendshapes.tflite", _copier())


def _copier() -> bytes:
    """A TFLite model, float32 [1, 146, 2] -> [1, 52]: one slice, one reshape."""
    import flatbuffers
    from mediapipe.tasks.metadata import schema_py_generated as schema

    def tensor(name: str, shape: list[int], kind: int, buffer: int = 0):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kind, buffer
        return made

    def operator(code: int, inputs: list[int], outputs: list[int], kind: int, options):
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    numbers, places = schema.TensorType.FLOAT32, schema.TensorType.INT32
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("in", [1, 146, 2], numbers), tensor("begin", [3], places, 1), tensor("size", [3], places, 2),
        tensor("cut", [1, 52, 1], numbers), tensor("shape", [2], places, 3), tensor("out", [1, 52], numbers),
    ]
    graph.inputs, graph.outputs = [0], [5]
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = [1, 52]
    graph.operators = [operator(0, [0, 1, 2], [3], schema.BuiltinOptions.SliceOptions, schema.SliceOptionsT()),
                       operator(1, [3, 4], [5], schema.BuiltinOptions.ReshapeOptions, reshape)]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    for content in ([0, 0, 0], [1, 52, 1], [1, 52]):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.array(content, np.int32).tobytes(), np.uint8)
        model.buffers.append(buffer)
    for builtin in (schema.BuiltinOperator.SLICE, schema.BuiltinOperator.RESHAPE):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        model.operatorCodes.append(code)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
